#pragma once

#include <cmath>

#include "kernels/cuda/device/convert.cuh"

namespace foveal::cuda {

/// The running softmax of two rows (lane / 4 and that + 8 of a warp's sixteen), shared by the four
/// lanes of a row. The reference maximum lags behind the true one by up to kSlack in the log2
/// domain, which rounding does not notice (the same factor is in sum and output), so that the
/// output is almost never rescaled.
struct RunningSoftmax {
  static constexpr float kSlack = 8;

  float reference[2] = {-INFINITY, -INFINITY};  ///< in scores
  float sum[2] = {0, 0};                        ///< of this lane's columns

  template <int kCount>
  __device__ static void row_max(const float (&s)[kCount], float (&top)[2]) {
    top[0] = fmaxf(s[0], s[1]);
    top[1] = fmaxf(s[2], s[3]);
#pragma unroll
    for (int i = 4; i < kCount; i += 4) {
      top[0] = fmaxf(top[0], fmaxf(s[i], s[i + 1]));
      top[1] = fmaxf(top[1], fmaxf(s[i + 2], s[i + 3]));
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      top[r] = fmaxf(top[r], __shfl_xor_sync(~0U, top[r], 1));
      top[r] = fmaxf(top[r], __shfl_xor_sync(~0U, top[r], 2));
    }
  }

  /// Scores to probabilities, in place. True for the whole warp when the output so far must be
  /// multiplied by `alpha`.
  template <int kCount>
  __device__ bool step(float (&s)[kCount], const float (&top)[2], float scale_log2,
                       float (&alpha)[2]) {
    const bool grows = (top[0] - reference[0]) * scale_log2 > kSlack ||
                       (top[1] - reference[1]) * scale_log2 > kSlack;
    const bool any = __any_sync(~0U, grows);
    if (any) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const float next = fmaxf(reference[r], top[r]);
        // A row that has seen no key yet keeps -inf; its sum and output are 0 whatever alpha is.
        alpha[r] = next == -INFINITY ? 1.0F : exp2_approx((reference[r] - next) * scale_log2);
        reference[r] = next;
        sum[r] *= alpha[r];
      }
    }
    float base[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      base[r] = reference[r] == -INFINITY ? 0.0F : reference[r] * scale_log2;
    }
#pragma unroll
    for (int i = 0; i < kCount; i += 4) {
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        s[i + c] = exp2_approx(fmaf(s[i + c], scale_log2, -base[c / 2]));
        sum[c / 2] += s[i + c];
      }
    }
    return any;
  }

  /// Sums over the lanes of each row.
  __device__ void finish() {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      sum[r] += __shfl_xor_sync(~0U, sum[r], 1);
      sum[r] += __shfl_xor_sync(~0U, sum[r], 2);
    }
  }
};

}  // namespace foveal::cuda
