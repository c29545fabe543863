#pragma once

#include "kernels/cuda/device/convert.cuh"
#include "kernels/cuda/device/tma.cuh"
#include "kernels/cuda/device/wgmma.cuh"
#include "kernels/cuda/sm90/latent_traits.cuh"

namespace foveal::cuda {

/// One of two warpgroups that multiply probabilities with their half of the values.
template <class Traits>
struct LatentOutput {
  static constexpr int kColumns = kLatentValueDim / 2;
  static constexpr int kOut = kColumns / 2;

  LatentShared<Traits>& shared;
  const LatentArgs& args;
  int32_t half;
  int32_t lane = static_cast<int32_t>(threadIdx.x) % 32;
  int32_t warp = static_cast<int32_t>(threadIdx.x) % 128 / 32;
  Ring<Traits::kStages> ring{};
  uint32_t totals_parity = 0;

  /// Two products side by side: the assembler has no room for one of 256 columns in a kernel that
  /// starts with 128 registers a thread.
  float o[2][kOut / 2];

  template <class Fetch>
  __device__ void run_item(const LatentItem& item, Fetch& fetch) {
#pragma unroll 1
    for (int32_t tile = item.begin; tile < item.end; ++tile) {
      fetch.step();
      multiply(tile == item.begin);
    }
    barrier_wait(&shared.totals_full, totals_parity);
    totals_parity ^= 1;
    const int32_t row = warp * 16 + lane / 4;
    const float2 totals[2] = {shared.totals[row], shared.totals[row + 8]};
    barrier_arrive(&shared.totals_empty);
    if (args.splits == 1) {
      write(item, totals);
    } else {
      write_part(item, totals);
    }
  }

  __device__ void multiply(bool first) {
    barrier_wait(&shared.p_full[ring.stage], ring.parity);
    if (shared.rescale[ring.stage][warp] != 0) rescale();
    const uint64_t p =
        narrow_descriptor(smem_address(shared.k[ring.stage][Traits::kBlocks - 1]), 8 * 32);
    const uint64_t v =
        swizzled_descriptor(smem_address(shared.k[ring.stage][half * 4]), Traits::kKeyBlockBytes);
    registers_fence(o[0]);
    registers_fence(o[1]);
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < Traits::kKeys / 16; ++step) {
#pragma unroll
      for (int side = 0; side < 2; ++side) {
        Wgmma<Bf16, kColumns / 2>::ss_n(
            o[side], advance(p, step * kLatentHeads * 32),
            advance(v, side * 2 * Traits::kKeyBlockBytes + step * 16 * 128), step > 0 || !first);
      }
    }
    wgmma_commit();
    wgmma_wait<0>();
    registers_fence(o[0]);
    registers_fence(o[1]);
    if (lane == 0) barrier_arrive(&shared.k_empty[ring.stage]);
    ring.next();
  }

  __device__ void rescale() {
    const float* alpha = shared.alpha[ring.stage] + warp * 16 + lane / 4;
    const float factor[2] = {alpha[0], alpha[8]};
#pragma unroll
    for (int i = 0; i < kOut; ++i) o[i / (kOut / 2)][i % (kOut / 2)] *= factor[i % 4 / 2];
  }

  /// Two neighbouring channels of a row (0, or 1: that + 8): of block i of eight.
  __device__ float2 pair(int i, int r) const {
    constexpr int kHalf = kOut / 8;
    const float* from = &o[i / kHalf][i % kHalf * 4 + r * 2];
    return {from[0], from[1]};
  }

  __device__ int32_t head(const LatentItem& item, int r) const {
    return item.tile * kLatentHeads + warp * 16 + lane / 4 + r * 8;
  }

  __device__ void write(const LatentItem& item, const float2 (&totals)[2]) const {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const bool real = head(item, r) < args.num_heads;
      const float factor = totals[r].y > 0 ? 1.0F / totals[r].y : 0.0F;
      auto* to = static_cast<__nv_bfloat16*>(args.out) + item.row * args.out_row_stride +
                 head(item, r) * args.out_head_stride + half * kColumns + lane % 4 * 8;
#pragma unroll
      for (int i = 0; i < kOut / 4; i += 4) {
        uint32_t x[4];
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          x[k] = pack<Bf16>(pair(i + k, r).x * factor, pair(i + k, r).y * factor);
        }
        latent_quad_transpose(x);
        if (real) *reinterpret_cast<uint4*>(to + i * 8) = uint4{x[0], x[1], x[2], x[3]};
      }
      if (real && half == 0 && lane % 4 == 0) write_lse(item, r, totals[r]);
    }
  }
  __device__ void write_lse(const LatentItem& item, int r, const float2& totals) const {
    if (args.lse == nullptr) return;
    constexpr float kLn2 = 0.6931471805599453F;
    args.lse[static_cast<int64_t>(item.row) * args.num_heads + head(item, r)] =
        totals.y > 0 ? (totals.x + log2f(totals.y)) * kLn2 : -INFINITY;
  }

  /// As they are: latent_combine undoes the order.
  __device__ void write_part(const LatentItem& item, const float2 (&totals)[2]) const {
    const int32_t group = item.tile * (kLatentHeads / kLatentGroup) + warp;
    if (group >= args.groups) return;
    const int64_t part = static_cast<int64_t>(item.row) * args.splits + item.split;
    float4* to = args.parts + (part * args.groups + group) * kLatentPieces * 32 +
                 half * (kLatentPieces / 2) * 32 + lane;
#pragma unroll
    for (int i = 0; i < kLatentPieces / 2; ++i) {
      const float2 low = pair(i, 0);
      const float2 high = pair(i, 1);
      to[i * 32] = float4{low.x, low.y, high.x, high.y};
    }
    if (half != 0 || lane % 4 != 0) return;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      if (head(item, r) < args.num_heads) {
        args.part_stats[part * args.num_heads + head(item, r)] = totals[r];
      }
    }
  }

  /// A row without keys, of an item that is the whole row.
  __device__ void write_empty(const LatentItem& item) {
#pragma unroll
    for (float(&side)[kOut / 2] : o) {
#pragma unroll
      for (float& x : side) x = 0;
    }
    const float2 totals[2] = {float2{0, 0}, float2{0, 0}};
    write(item, totals);
  }
};

}  // namespace foveal::cuda
