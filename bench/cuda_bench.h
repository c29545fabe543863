#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>

#include "device/stream.h"

namespace foveal::bench {

inline constexpr Device kGpu{DeviceKind::kCuda, 0};
inline constexpr size_t kColdBytes = size_t{512} << 20;  ///< ten times the L2 cache

/// What the benchmarks of CUDA kernels share. Device time by events around graph replays, medians;
/// shares of the read bandwidth measured at the start.
class CudaBench {
 public:
  enum class Announce : uint8_t { kNo, kYes };  ///< the read ceiling, on standard output
  explicit CudaBench(Announce announce = Announce::kYes);

  /// Median microseconds of a replay of what `issue` records.
  double time(const std::function<void()>& issue, int runs = 15);
  /// The same with a cold second-level cache: before each replay kColdBytes are read (lines that a
  /// flush writes would be written back while the measured call runs).
  double time_cold(const std::function<void()>& issue, int runs = 25);
  /// Issues a kernel that only reads: the bound of one that must read these bytes.
  void read(const void* from, size_t bytes);
  /// Random bf16 values of deviation 0.03: zeros would run faster than anything real.
  Buffer weights(size_t elements, uint64_t seed);
  static Buffer zeros(size_t bytes) { return {kGpu, bytes, "a benchmark"}; }
  /// Prints time, GB/s and the share of the read ceiling.
  void report(std::string_view what, double us, double bytes) const;

  Stream& stream() { return stream_; }
  double read_gbs() const { return read_gbs_; }

 private:
  ThreadPool pool_;
  Stream stream_;
  Buffer sink_;
  double read_gbs_ = 1;
};

/// True when `name` is among the arguments, or there are none.
bool is_wanted(std::span<char* const> args, std::string_view name);

}  // namespace foveal::bench
