#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace foveal::server {

/// Counts of values up to each of twelve bounds, as Prometheus has them. Any thread.
class Histogram {
 public:
  static constexpr size_t kBounds = 12;
  explicit Histogram(std::array<double, kBounds> bounds) : bounds_(bounds) {}
  void observe(double value);
  void write(std::string& out, std::string_view name, std::string_view help) const;

 private:
  std::array<double, kBounds> bounds_;
  mutable std::mutex mutex_;
  std::array<uint64_t, kBounds + 1> counts_{};
  double sum_ = 0;
};

/// What the server counts itself; the rest comes from LLM::stats. Any thread.
class Metrics {
 public:
  /// An answered request. `route` is one of the table's paths, or `other`: never a client's text.
  void request(std::string_view route, int status);
  void generation(std::string_view outcome);
  std::map<std::pair<std::string, int>, uint64_t> requests() const;
  std::map<std::string, uint64_t> generations() const;

  Histogram first_token{{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}};
  Histogram inter_token{{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}};
  Histogram whole{{.05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300}};

 private:
  mutable std::mutex mutex_;
  std::map<std::pair<std::string, int>, uint64_t> requests_;
  std::map<std::string, uint64_t> generations_;
};

}  // namespace foveal::server
