#pragma once

#include <cmath>

#include "kernels/cuda/sm90/prefill_softmax.cuh"
#include "kernels/cuda/sm90/prefill_unit.cuh"

namespace foveal::cuda {

/// What consumers share that attend: the products and the output.
template <class Traits>
struct PrefillWarpgroup : PrefillUnit<Traits> {
  using Unit = PrefillUnit<Traits>;
  using Unit::args, Unit::group, Unit::item, Unit::k_ring, Unit::lane, Unit::q_ring, Unit::shared,
      Unit::thread;
  using Unit::Unit;
  using Element = typename Traits::Element;
  static constexpr int kScores = Traits::kKeys / 2;
  static constexpr int kOut = Traits::kValueDim / 2;
  static constexpr int kSteps = Traits::kKeys / 16;  ///< of a product P V

  Ring<Traits::kValueStages> v_ring{};
  float o[Traits::kOutputs];
  RunningSoftmax softmax;

  __device__ void hand_back_values() {
    this->release(&shared.v_empty[v_ring.stage]);
    v_ring.next();
  }

  /// s = Q K^T of the stage; left running.
  __device__ void issue_scores(float (&s)[kScores]) {
    const uint64_t queries = k_major_descriptor(smem_address(shared.q[q_ring.stage][group]));
    const uint64_t keys = k_major_descriptor(smem_address(shared.k[k_ring.stage]));
    registers_fence(s);
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < Traits::kHeadDim / 16; ++step) {
      const int block = step / 4;
      const int inside = step % 4 * 32;
      Wgmma<Element, Traits::kKeys>::ss(
          s, advance(queries, block * Traits::kQueryBlockBytes + inside),
          advance(keys, block * Traits::kBlockBytes + inside), step > 0);
    }
    wgmma_commit();
  }

  /// o += P V of the stage; left running.
  __device__ void issue_output(const uint32_t (&p)[kSteps][4]) {
    const uint64_t v =
        swizzled_descriptor(smem_address(shared.v[v_ring.stage]), Traits::kBlockBytes);
    registers_fence(o);
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      Wgmma<Element, Traits::kValueDim>::rs_n(o, p[step], advance(v, step * 16 * 128), 1);
    }
    wgmma_commit();
  }

  __device__ void mask(float (&s)[kScores], int32_t tile) {
    const int32_t row = item.position + group * 64 + thread / 32 * 16 + lane / 4;
    const int32_t key = tile * Traits::kKeys + lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < kScores; ++i) {
      const int32_t behind = row + (i % 4 >= 2 ? 8 : 0) - (key + i / 4 * 8 + i % 2);
      const bool seen = behind >= 0 && (args.window == 0 || behind < args.window);
      if (!seen) s[i] = -INFINITY;
    }
  }

  /// Where a warp's outputs find their order: its own rows of the queries, or memory of its own.
  __device__ uint8_t* staging() {
    if constexpr (Traits::kListed) {
      return shared.q[q_ring.stage][group] + thread / 32 * Traits::kStagingBytes;
    } else {
      return shared.staging[threadIdx.x / 32 - 4];
    }
  }

  /// Rounds, transposes through shared memory and writes the warp's sixteen rows.
  __device__ void write() {
    softmax.finish();
    uint8_t* lines = staging();
    const int32_t first = group * 64 + thread / 32 * 16;
    float factor[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      factor[r] = softmax.sum[r] > 0 ? args.out_scale / softmax.sum[r] : 0.0F;
      const int32_t row = first + lane / 4 + r * 8;
      if (args.lse != nullptr && lane % 4 == 0 && row < item.num_rows) {
        constexpr float kLn2 = 0.6931471805599453F;
        args.lse[int64_t{item.first_row + row} * args.lse_row_stride + item.head] =
            softmax.sum[r] > 0
                ? softmax.reference[r] * args.scale_log2 * kLn2 + logf(softmax.sum[r])
                : -INFINITY;
      }
    }
    const uint32_t staging = smem_address(lines);
    const int32_t to_row = lane % 16;
    using Type = typename Element::Type;
    auto* out = static_cast<Type*>(args.out) + int64_t{item.first_row} * args.out_row_stride +
                int64_t{item.head} * args.out_head_stride;
#pragma unroll
    for (int block = 0; block < Traits::kValueBlocks; ++block) {
      constexpr int kPairs = 4;  // of columns of 8
#pragma unroll
      for (int pair = 0; pair < kPairs; ++pair) {
        const int at = block * 32 + pair * 8;
        if (at >= kOut) break;
        const uint32_t chunk = pair * 2 + lane / 16;
        store_matrix_x4(staging + to_row * 128 + ((chunk ^ (to_row % 8)) * 16),
                        pack<Element>(o[at] * factor[0], o[at + 1] * factor[0]),
                        pack<Element>(o[at + 2] * factor[1], o[at + 3] * factor[1]),
                        pack<Element>(o[at + 4] * factor[0], o[at + 5] * factor[0]),
                        pack<Element>(o[at + 6] * factor[1], o[at + 7] * factor[1]));
      }
      __syncwarp();
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int32_t row = i * 4 + lane / 8;
        const int32_t chunk = lane % 8;
        const uint4 value =
            *reinterpret_cast<const uint4*>(lines + row * 128 + ((chunk ^ (row % 8)) * 16));
        const int32_t channel = block * 64 + chunk * 8;
        if (first + row < item.num_rows && channel < Traits::kValueDim) {
          *reinterpret_cast<uint4*>(out + int64_t{first + row} * args.out_row_stride + channel) =
              value;
        }
      }
      __syncwarp();
    }
  }
};

}  // namespace foveal::cuda
