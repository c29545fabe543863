#pragma once

#include <cmath>

#include "kernels/cuda/device/convert.cuh"

namespace foveal::cuda {

/// What the probabilities of a tile add up to in this lane: two chains for each of two rows.
struct TileSum {
  float even[2] = {0, 0};
  float odd[2] = {0, 0};
  __device__ float row(int r) const { return even[r] + odd[r]; }
  __device__ void take(int r, float low, float high) {
    even[r] += low;
    odd[r] += high;
  }
};

/// The running softmax of two rows (lane / 4 and that + 8 of a warp's sixteen), shared by the four
/// lanes of a row. The reference maximum lags behind the true one: scores may pass it by kSlack in
/// the log2 domain, or a lane's tile add up to kSumLimit, which rounding does not notice (the same
/// factor is in sum and output; float32, bf16 and f16 all hold it). So the output is almost never
/// rescaled, and lanes need not agree on a maximum, or know one, before a tile's exponentials.
struct RunningSoftmax {
  static constexpr float kSlack = 8;
  static constexpr float kSumLimit = 4096;

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

  /// Whether this lane's part of a row needs another reference: for scores up to `top`, or for
  /// probabilities that add up to `tile` already. A row that has seen no key needs one always.
  __device__ bool asks(const float (&top)[2], int r) const { return top[r] > limit[r]; }
  __device__ bool asks(const TileSum& tile, int r) const {
    return tile.row(r) > (limit[r] == -INFINITY ? -1.0F : kSumLimit);
  }
  template <class Tile>
  __device__ bool warp_asks(const Tile& tile) const {
    return __any_sync(~0U, asks(tile, 0) || asks(tile, 1));
  }

  /// Moves the reference of each row of which a lane asks to the row's maximum (`top`: this
  /// lane's): the output so far must be multiplied by `alpha`. Each row by itself: its neighbours
  /// may belong to another sequence of the batch.
  template <class Tile>
  __device__ void move(const Tile& tile, const float (&top)[2], float scale_log2,
                       float (&alpha)[2]) {
    const uint32_t first_lane = threadIdx.x % 32 / 4 * 4;
    float row_top[2] = {top[0], top[1]};
    row_max(row_top);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const bool asked = (__ballot_sync(~0U, asks(tile, r)) >> first_lane & 0xF) != 0;
      const float next = asked ? row_top[r] : reference[r];
      // A row that has seen no key yet keeps -inf; its sum and output are 0 whatever alpha is.
      const bool seen = next != -INFINITY;
      alpha[r] = seen ? exp2_approx((reference[r] - next) * scale_log2) : 1.0F;
      reference[r] = next;
      limit[r] = next + kSlack / scale_log2;
      base[r] = seen ? next * scale_log2 : 0.0F;
      sum[r] *= alpha[r];
    }
  }

  static constexpr float kUnseen = -1e30F;  ///< base of a row that has seen no key

  /// Another way, for kernels that are short of registers and know maxima: `base` is all that is
  /// kept of a reference.
  __device__ void begin_by_base() {
    base[0] = base[1] = kUnseen;
    sum[0] = sum[1] = 0;
  }

  __device__ void reference_from_base(float scale_log2) {
    reference[0] = base[0] / scale_log2;
    reference[1] = base[1] / scale_log2;
  }

  /// Moves the references of rows of which a lane's `top` gives a probability above 2^most, so that
  /// the row's largest becomes 2^shift. False when no row of the warp moves.
  __device__ bool admit(const float (&top)[2], float scale_log2, float shift, float most,
                        float (&alpha)[2]) {
    if (!__any_sync(~0U, fmaf(top[0], scale_log2, -base[0]) > most ||
                             fmaf(top[1], scale_log2, -base[1]) > most)) {
      return false;
    }
    float row_top[2] = {top[0], top[1]};
    row_max(row_top);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const bool moves = fmaf(row_top[r], scale_log2, -base[r]) > most;
      const float next = moves ? fmaf(row_top[r], scale_log2, -shift) : base[r];
      alpha[r] = exp2_approx(base[r] - next);
      base[r] = next;
      sum[r] *= alpha[r];
    }
    return true;
  }

  /// Probabilities of the scores of product steps [kFrom, kTo), rounded as the product with V takes
  /// them. Additions and rounding hide behind the exponentials, of which a warp can start one in
  /// eight cycles.
  template <class Element, int kFrom, int kTo, int kCount, int kSteps, class Sums>
  __device__ void exponentiate(const float (&s)[kCount], float scale_log2, uint32_t (&p)[kSteps][4],
                               Sums& sums) const {
#pragma unroll
    for (int step = kFrom; step < kTo; ++step) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int r = i % 2;
        const float low = exp2_approx(fmaf(s[step * 8 + i * 2], scale_log2, -base[r]));
        const float high = exp2_approx(fmaf(s[step * 8 + i * 2 + 1], scale_log2, -base[r]));
        sums.take(r, low, high);
        p[step][i] = pack<Element>(low, high);
      }
    }
  }

  /// As TileSum, at once into the sums of the row: one chain, and two registers less.
  __device__ void take(int r, float low, float high) {
    sum[r] += low;
    sum[r] += high;
  }

  __device__ void add(const TileSum& tile) {
    sum[0] += tile.row(0);
    sum[1] += tile.row(1);
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
