#pragma once

#include <cstdint>

#include "device/stream.h"

namespace foveal::kernels::cuda {

/// A given token's place in a row of logits.
struct ScoredToken {
  float logprob = 0;
  int32_t rank = 0;    ///< 1: the best; of equal logits the lower id is the better
  uint32_t flags = 0;  ///< SampleFlag: kSampleBadLogit where the row has no probabilities
};

/// Log-probabilities of one token a row, as sampler/logprob.h has them: within 1e-6 of the
/// logarithm and a rounding to float32; ranks are equal. A row's result depends on that row alone.
struct TokenLogprobParams {
  const float* logits = nullptr;  ///< [m, vocab], row stride logits_stride; 16-byte rows
  int64_t m = 0;
  int32_t vocab = 0;
  int64_t logits_stride = 0;
  const int32_t* tokens = nullptr;  ///< [m] below vocab; negative: the row is left out
  ScoredToken* out = nullptr;       ///< [m]; rows left out are not written
};
void token_logprobs(const TokenLogprobParams& params, Stream& stream);

}  // namespace foveal::kernels::cuda
