#pragma once

#include <cmath>

#include "kernels/cuda/device/convert.cuh"

namespace foveal::cuda {

/// The running softmax of two rows (lane / 4 and that + 8 of a warp's sixteen), shared by the four
/// lanes of a row. The reference maximum lags behind the true one by up to kSlack in the log2
/// domain, which rounding does not notice (the same factor is in sum and output). So the output is
/// almost never rescaled, and lanes need not agree on a maximum before a tile's exponentials.
struct RunningSoftmax {
  static constexpr float kSlack = 8;

  float reference[2] = {-INFINITY, -INFINITY};  ///< in scores
  float limit[2] = {-INFINITY, -INFINITY};      ///< of scores under this reference
  float base[2] = {0, 0};                       ///< the reference in the log2 domain
  float sum[2] = {0, 0};                        ///< of this lane's columns

  /// Of this lane's columns. Two chains a row: a maximum takes several cycles, and nothing else
  /// runs meanwhile.
  template <int kCount>
  __device__ static void lane_max(const float (&s)[kCount], float (&top)[2]) {
    float other[2] = {fmaxf(s[4], s[5]), fmaxf(s[6], s[7])};
    top[0] = fmaxf(s[0], s[1]);
    top[1] = fmaxf(s[2], s[3]);
#pragma unroll
    for (int i = 8; i < kCount; i += 8) {
      top[0] = fmaxf(top[0], fmaxf(s[i], s[i + 1]));
      top[1] = fmaxf(top[1], fmaxf(s[i + 2], s[i + 3]));
      other[0] = fmaxf(other[0], fmaxf(s[i + 4], s[i + 5]));
      other[1] = fmaxf(other[1], fmaxf(s[i + 6], s[i + 7]));
    }
    top[0] = fmaxf(top[0], other[0]);
    top[1] = fmaxf(top[1], other[1]);
  }

  /// The same for the row: over its four lanes.
  __device__ static void row_max(float (&top)[2]) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      top[r] = fmaxf(top[r], __shfl_xor_sync(~0U, top[r], 1));
      top[r] = fmaxf(top[r], __shfl_xor_sync(~0U, top[r], 2));
    }
  }

  /// Makes room for scores up to `top` (of this lane). True for the whole warp when the output so
  /// far must be multiplied by `alpha`.
  __device__ bool admit(const float (&top)[2], float scale_log2, float (&alpha)[2]) {
    if (!__any_sync(~0U, top[0] > limit[0] || top[1] > limit[1])) return false;
    float row_top[2] = {top[0], top[1]};
    row_max(row_top);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      // Each row by itself: its neighbours may belong to another sequence of the batch.
      const float next = row_top[r] > limit[r] ? row_top[r] : reference[r];
      // A row that has seen no key yet keeps -inf; its sum and output are 0 whatever alpha is.
      const bool seen = next != -INFINITY;
      alpha[r] = seen ? exp2_approx((reference[r] - next) * scale_log2) : 1.0F;
      reference[r] = next;
      limit[r] = next + kSlack / scale_log2;
      base[r] = seen ? next * scale_log2 : 0.0F;
      sum[r] *= alpha[r];
    }
    return true;
  }

  /// Scores to probabilities, in place, and their sum: additions hide behind the exponentials, of
  /// which a warp can start one in eight cycles.
  template <int kCount>
  __device__ void exponentiate(float (&s)[kCount], float scale_log2) {
    float odd[2] = {0, 0};  // a second chain a row
#pragma unroll
    for (int i = 0; i < kCount; i += 4) {
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        s[i + c] = exp2_approx(fmaf(s[i + c], scale_log2, -base[c / 2]));
        (c % 2 == 0 ? sum : odd)[c / 2] += s[i + c];
      }
    }
    sum[0] += odd[0];
    sum[1] += odd[1];
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
