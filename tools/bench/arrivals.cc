#include "bench/arrivals.h"

#include <charconv>
#include <cmath>

#include "base/check.h"
#include "input.h"
#include "measure/random.h"

namespace foveal::bench {
namespace {

using measure::Random;

// Gamma of mean 1 (Marsaglia and Tsang 2000; below shape 1 by their boost).
double gamma_of_mean_one(Random& random, double shape) {
  if (std::isinf(shape)) return 1;
  if (shape < 1) {
    const double boosted = gamma_of_mean_one(random, shape + 1) * (shape + 1);
    return boosted * std::pow(1 - random.uniform(), 1 / shape) / shape;
  }
  const double d = shape - 1.0 / 3;
  const double c = 1 / std::sqrt(9 * d);
  while (true) {
    const double x = random.normal();
    const double v = std::pow(1 + c * x, 3);
    if (v <= 0) continue;
    if (std::log(1 - random.uniform()) < 0.5 * x * x + d - d * v + d * std::log(v)) {
      return d * v / shape;
    }
  }
}

}  // namespace

std::vector<double> arrivals(int64_t count, double rate, double burstiness, uint64_t seed) {
  std::vector<double> out;
  Random random(seed, "arrivals");
  double at = 0;
  for (int64_t idx = 0; idx < count; ++idx) {
    out.push_back(at);
    if (rate > 0) at += gamma_of_mean_one(random, burstiness) / rate;
  }
  return out;
}

bool Slo::kept(const Measured& request) const {
  return (!ttft || request.ttft_ms <= *ttft) && (!tpot || request.tpot_ms <= *tpot) &&
         (!latency || request.latency_ms <= *latency);
}

Slo parse_slo(const std::vector<std::string>& texts) {
  Slo out;
  for (const std::string& text : texts) {
    for (const std::string_view item : tools::split_list(text)) {
      const size_t colon = item.find(':');
      const std::string_view name = item.substr(0, colon);
      const std::string_view number =
          colon == std::string_view::npos ? std::string_view() : item.substr(colon + 1);
      double value = 0;
      const auto [end, status] =
          std::from_chars(number.data(), number.data() + number.size(), value);
      std::optional<double>* into = name == "ttft"   ? &out.ttft
                                    : name == "tpot" ? &out.tpot
                                    : name == "e2el" ? &out.latency
                                                     : nullptr;
      FOVEAL_CHECK(into != nullptr && status == std::errc{} &&
                       end == number.data() + number.size() && value > 0,
                   ErrorKind::kInvalidArgument, "goodput",
                   "got '{}'; need ttft, tpot or e2el, a colon and milliseconds, such as ttft:200",
                   item);
      *into = value;
    }
  }
  return out;
}

}  // namespace foveal::bench
