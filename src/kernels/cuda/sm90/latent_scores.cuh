#pragma once

#include "kernels/cuda/device/cp_async.cuh"
#include "kernels/cuda/device/tma.cuh"
#include "kernels/cuda/device/wgmma.cuh"
#include "kernels/cuda/sm90/latent_traits.cuh"
#include "kernels/cuda/sm90/prefill_softmax.cuh"

namespace foveal::cuda {

/// -inf where there is no key: `none` has a bit for each that is none.
template <int kCount>
__device__ inline void latent_mask(float (&s)[kCount], uint64_t none, int32_t lane) {
  if (none == 0) return;
  const uint64_t bits = none >> (lane % 4 * 2);
#pragma unroll
  for (int block = 0; block < kCount / 4; ++block) {
    const auto pair = static_cast<uint32_t>(bits >> (block * 8));
    if ((pair & 1) != 0) s[block * 4] = s[block * 4 + 2] = -INFINITY;
    if ((pair & 2) != 0) s[block * 4 + 1] = s[block * 4 + 3] = -INFINITY;
  }
}

/// The warpgroup of scores and probabilities.
template <class Traits>
struct LatentScores {
  using Product = Wgmma<Bf16, Traits::kKeys>;
  static constexpr int kScores = Traits::kKeys / 2;
  static constexpr int kSteps = Traits::kKeys / 16;  ///< of the product with the values
  static constexpr int kRegisterSteps = Traits::kRegisterBlocks * 4;
  static constexpr uint32_t kBarrier = 1;

  LatentShared<Traits>& shared;
  const LatentArgs& args;
  int32_t thread = static_cast<int32_t>(threadIdx.x) % 128;
  int32_t lane = static_cast<int32_t>(threadIdx.x) % 32;
  int32_t warp = thread / 32;
  Ring<Traits::kStages> ring{};
  uint32_t totals_parity = 0;

  uint32_t q[kRegisterSteps][4];
  float s[kScores];
  RunningSoftmax softmax;

  __device__ void run_item(const LatentItem& item) {
    load_queries(item);
    softmax = RunningSoftmax{};
#pragma unroll 1
    for (int32_t tile = item.begin; tile < item.end; ++tile) {
      compute();
      // A warp that issues products waits for those before, and all share the tensor cores: the
      // output of the tile before had to wait for these scores, and runs beside what follows.
      if (Traits::kTakeTurns && tile > item.begin) announce(behind());
      take(tile == item.begin);
      if (!Traits::kTakeTurns || tile + 1 == item.end) announce_now();
    }
    finish(item);
  }

  /// Heads that do not exist are zeros.
  __device__ void load_queries(const LatentItem& item) {
    const int32_t heads = args.num_heads - item.tile * kLatentHeads;
    const auto* from = static_cast<const __nv_bfloat16*>(args.q) + item.row * args.q_row_stride +
                       static_cast<int64_t>(item.tile) * kLatentHeads * args.q_head_stride;
    const int32_t chunk = thread % 8;
    const uint32_t to = smem_address(shared.q[0]);
#pragma unroll
    for (int i = 0; i < kLatentHeads / 16; ++i) {
      const int32_t head = thread / 8 + i * 16;
      const bool real = head < heads;
      const __nv_bfloat16* row = from + (real ? head : 0) * args.q_head_stride;
#pragma unroll
      for (int block = 0; block < Traits::kSharedBlocks; ++block) {
        cp_async<16>(
            to + block * Traits::kQueryBlockBytes + head * 128 + ((chunk ^ (head % 8)) * 16),
            row + (Traits::kRegisterBlocks + block) * 64 + chunk * 8, real ? 16 : 0);
      }
    }
    cp_async_commit();
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int32_t head = warp * 16 + lane / 4 + r * 8;
      const bool real = head < heads;
      const auto* row =
          reinterpret_cast<const uint4*>(from + (real ? head : 0) * args.q_head_stride) + lane % 4;
#pragma unroll
      for (int step = 0; step < kRegisterSteps; step += 2) {
        const uint4 x = __ldg(row + step * 2);
        q[step][r] = real ? x.x : 0;
        q[step][2 + r] = real ? x.y : 0;
        q[step + 1][r] = real ? x.z : 0;
        q[step + 1][2 + r] = real ? x.w : 0;
      }
    }
    // Lane q of four has the four words of 8 channels, and needs word q of each of four such.
#pragma unroll
    for (int r = 0; r < 2; ++r) {
#pragma unroll
      for (int step = 0; step < kRegisterSteps; step += 2) {
        uint32_t x[4] = {q[step][r], q[step][2 + r], q[step + 1][r], q[step + 1][2 + r]};
        latent_quad_transpose(x);
        q[step][r] = x[0];
        q[step][2 + r] = x[1];
        q[step + 1][r] = x[2];
        q[step + 1][2 + r] = x[3];
      }
    }
    cp_async_wait<0>();
    async_proxy_fence();
    named_sync(kBarrier, 128);
  }

  /// Scores of the ring's tile.
  __device__ void compute() {
    barrier_wait(&shared.k_full[ring.stage], ring.parity);
    async_proxy_fence();  // rows came by ordinary stores and copies, probabilities by stores
    const uint64_t keys = k_major_descriptor(smem_address(shared.k[ring.stage][0]));
    // Moved, or the compiler would keep all their steps' descriptors in registers.
    const uint64_t queries = k_major_descriptor(register_move(smem_address(shared.q[0])));
    registers_fence(s);
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < kRegisterSteps; ++step) {
      Product::rs(s, q[step], advance(keys, step / 4 * Traits::kKeyBlockBytes + step % 4 * 32),
                  step > 0);
    }
#pragma unroll
    for (int step = kRegisterSteps; step < Traits::kBlocks * 4; ++step) {
      const int at = step - kRegisterSteps;
      Product::ss(s, advance(queries, at / 4 * Traits::kQueryBlockBytes + at % 4 * 32),
                  advance(keys, step / 4 * Traits::kKeyBlockBytes + step % 4 * 32), 1);
    }
    wgmma_commit();
    wgmma_wait<0>();
    registers_fence(s);
  }

  __device__ void mask() {
    const uint32_t low = shared.none[ring.stage][0];
    const uint32_t high = shared.none[ring.stage][1];
    latent_mask(s, uint64_t{high} << 32 | low, lane);
  }

  /// The tile's probabilities.
  __device__ void take(bool first) {
    mask();
    uint32_t p[kSteps][4];
    TileSum sum;
    if (!first) softmax.template exponentiate<Bf16, 0, kSteps>(s, args.scale_log2, p, sum);
    const bool asks = first || softmax.warp_asks(sum);
    if (asks) {
      float top[2];
      float alpha[2];
      RunningSoftmax::lane_max(s, top);
      softmax.move(sum, top, args.scale_log2, alpha);
      if (lane % 4 == 0) {
        shared.alpha[ring.stage][warp * 16 + lane / 4] = alpha[0];
        shared.alpha[ring.stage][warp * 16 + lane / 4 + 8] = alpha[1];
      }
      sum = TileSum{};
      softmax.template exponentiate<Bf16, 0, kSteps>(s, args.scale_log2, p, sum);
    }
    softmax.add(sum);
    if (lane == 0) shared.rescale[ring.stage][warp] = asks && !first ? 1 : 0;
    put(p);
  }

  __device__ void put(const uint32_t (&p)[kSteps][4]) {
    const uint32_t to = smem_address(shared.k[ring.stage][Traits::kBlocks - 1]);
    named_sync(kBarrier, 128);  // all four warps' scores are done with what was there
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      store_matrix_x4(to + latent_p_offset(step, warp * 16 + lane % 16, lane / 16), p[step][0],
                      p[step][1], p[step][2], p[step][3]);
    }
    ring.next();
  }

  /// The stage before the ring's.
  __device__ int behind() const { return ring.stage == 0 ? Traits::kStages - 1 : ring.stage - 1; }
  __device__ void announce(int stage) { barrier_arrive(&shared.p_full[stage]); }
  __device__ void announce_now() {
    async_proxy_fence();
    announce(behind());
  }

  __device__ void finish(const LatentItem& item) {
    softmax.finish();
    barrier_wait(&shared.totals_empty, totals_parity ^ 1);
    totals_parity ^= 1;
    if (lane % 4 == 0) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const int32_t row = warp * 16 + lane / 4 + r * 8;
        shared.totals[row] = float2{softmax.base[r], softmax.sum[r]};
      }
    }
    barrier_arrive(&shared.totals_full);
  }
};

}  // namespace foveal::cuda
