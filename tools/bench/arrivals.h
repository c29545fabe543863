#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bench/load.h"

namespace foveal::bench {

/// Seconds after the start at which `count` requests are sent. Times between them follow a gamma
/// distribution of mean 1 / rate and shape `burstiness`: 1 is a Poisson process, less comes in
/// bursts, more is more even, infinity a metronome. A rate of 0: all at once.
std::vector<double> arrivals(int64_t count, double rate, double burstiness, uint64_t seed);

/// What a request must keep to be of use: milliseconds, absent where nothing is asked.
struct Slo {
  std::optional<double> ttft, tpot, latency;

  bool any() const { return ttft || tpot || latency; }
  bool kept(const Measured& request) const;
};

/// "ttft:200,tpot:50,e2el:1000" in one text or several. Throws kInvalidArgument.
Slo parse_slo(const std::vector<std::string>& texts);

}  // namespace foveal::bench
