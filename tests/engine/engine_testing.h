#pragma once

#include <cstdint>
#include <vector>

#include "foveal/request.h"

namespace foveal::engine_testing {

/// Of the golden llama3 and its like.
inline constexpr int32_t kVocab = 384;

inline std::vector<int32_t> random_prompt(uint32_t seed, size_t len) {
  std::vector<int32_t> out(len);
  uint32_t state = seed * 2654435761U + 1;
  for (int32_t& token : out) {
    state = state * 1664525U + 1013904223U;
    token = static_cast<int32_t>((state >> 8) % kVocab);
  }
  return out;
}

/// Exactly so many, greedily.
inline SamplingParams tokens(int64_t count) {
  SamplingParams out;
  out.max_tokens = count;
  out.ignore_eos = true;
  return out;
}

}  // namespace foveal::engine_testing
