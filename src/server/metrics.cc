#include "server/metrics.h"

#include <fmt/format.h>

#include <iterator>

namespace foveal::server {

void Histogram::observe(double value) {
  size_t idx = 0;
  while (idx < kBounds && value > bounds_[idx]) ++idx;
  const std::lock_guard lock(mutex_);
  counts_[idx] += 1;
  sum_ += value;
}

void Histogram::write(std::string& out, std::string_view name, std::string_view help) const {
  const std::lock_guard lock(mutex_);
  const auto to = std::back_inserter(out);
  fmt::format_to(to, "# HELP {} {}\n# TYPE {} histogram\n", name, help, name);
  uint64_t count = 0;
  for (size_t idx = 0; idx < kBounds; ++idx) {
    count += counts_[idx];
    fmt::format_to(to, "{}_bucket{{le=\"{}\"}} {}\n", name, bounds_[idx], count);
  }
  count += counts_[kBounds];
  fmt::format_to(to, "{}_bucket{{le=\"+Inf\"}} {}\n{}_sum {}\n{}_count {}\n", name, count, name,
                 sum_, name, count);
}

void Metrics::request(std::string_view route, int status) {
  const std::lock_guard lock(mutex_);
  requests_[{std::string(route), status}] += 1;
}

void Metrics::generation(std::string_view outcome) {
  const std::lock_guard lock(mutex_);
  generations_[std::string(outcome)] += 1;
}

std::map<std::pair<std::string, int>, uint64_t> Metrics::requests() const {
  const std::lock_guard lock(mutex_);
  return requests_;
}

std::map<std::string, uint64_t> Metrics::generations() const {
  const std::lock_guard lock(mutex_);
  return generations_;
}

}  // namespace foveal::server
