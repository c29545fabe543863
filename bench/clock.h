#pragma once

#include <algorithm>
#include <cstdint>
#include <ctime>

namespace foveal::bench {

/// CPU time leaves out what busy neighbours take, but for their share of caches and bandwidth.
enum class Clock : uint8_t { kWall, kProcessCpu, kThreadCpu };

/// Seconds since some moment.
inline double now(Clock clock) {
  const clockid_t id = clock == Clock::kWall         ? CLOCK_MONOTONIC
                       : clock == Clock::kProcessCpu ? CLOCK_PROCESS_CPUTIME_ID
                                                     : CLOCK_THREAD_CPUTIME_ID;
  timespec time{};
  clock_gettime(id, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

/// Best seconds of one layer over rounds through all layers, three at least and for `min_seconds`.
template <class Body>
double time_layer(int32_t layers, double min_seconds, Clock clock, const Body& body) {
  double best = 1e9;
  double total = 0;
  for (int round = 0; round < 3 || total < min_seconds; ++round) {
    const double begin = now(clock);
    for (int32_t layer = 0; layer < layers; ++layer) body(layer);
    const double took = now(clock) - begin;
    best = std::min(best, took / layers);
    total += took;
  }
  return best;
}

}  // namespace foveal::bench
