#pragma once

#include "kernels/cuda/device/bulk.cuh"
#include "kernels/cuda/device/pdl.cuh"
#include "kernels/cuda/sm90/latent_cluster_keys.cuh"
#include "kernels/cuda/sm90/latent_scores.cuh"

namespace foveal::cuda {

/// The named barriers of the kernel; 0 is the CTA's own.
struct LatentClusterBarrier {
  static constexpr uint32_t kKeys = 1, kValues = 2, kShare = 3;
};

/// Scores and probabilities of a CTA's keys, by its first warpgroup.
struct LatentClusterScores {
  using Shared = LatentClusterShared;
  using Product = Wgmma<Bf16, kLatentKeys>;
  static constexpr int kCtas = Shared::kCtas;
  static constexpr int kSteps = kLatentKeys / 16;

  Shared& shared;
  const LatentArgs& args;
  int32_t rank;
  int32_t lane = static_cast<int32_t>(threadIdx.x) % 32;
  int32_t warp = static_cast<int32_t>(threadIdx.x) / 32;

  /// Bits of the keys that are none.
  __device__ uint64_t none() const {
    const int64_t* offsets = shared.offsets[0];
    const uint32_t low = __ballot_sync(~0U, offsets[lane] < 0);
    const uint32_t high = __ballot_sync(~0U, lane + 32 < kLatentKeys && offsets[lane + 32] < 0);
    return uint64_t{high} << 32 | low;
  }

  __device__ void run() const {
    float s[kLatentKeys / 2];
    multiply(s);
    latent_mask(s, none(), lane);
    RunningSoftmax softmax;
    float top[2];
    RunningSoftmax::lane_max(s, top);
    RunningSoftmax::row_max(top);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      // Whole, so that bf16 probabilities go over to another's reference without rounding.
      softmax.base[r] =
          top[r] == -INFINITY ? RunningSoftmax::kUnseen : ceilf(top[r] * args.scale_log2);
    }
    uint32_t p[kSteps][4];
    TileSum sum;
    softmax.template exponentiate<Bf16, 0, kSteps>(s, args.scale_log2, p, sum);
    softmax.add(sum);
    softmax.finish();
    publish(p, softmax);
  }

  __device__ void multiply(float (&s)[kLatentKeys / 2]) const {
    const uint64_t keys = k_major_descriptor(smem_address(shared.k[0]));
    const uint64_t queries = k_major_descriptor(smem_address(shared.q[0]));
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < Shared::kKeyBlocks * 4; ++step) {
      Product::ss(s, advance(queries, step / 4 * Shared::kQueryBlockBytes + step % 4 * 32),
                  advance(keys, step / 4 * Shared::kKeyBlockBytes + step % 4 * 32), step > 0);
    }
    wgmma_commit();
    wgmma_wait<0>();
    registers_fence(s);
  }

  /// To this CTA and all the others.
  __device__ void publish(const uint32_t (&p)[kSteps][4], const RunningSoftmax& softmax) const {
    LatentShare& share = shared.shares[rank];
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      store_matrix_x4(
          smem_address(share.p) + latent_p_offset(step, warp * 16 + lane % 16, lane / 16),
          p[step][0], p[step][1], p[step][2], p[step][3]);
    }
    if (lane % 4 == 0) {
      share.totals[warp * 16 + lane / 4] = float2{softmax.base[0], softmax.sum[0]};
      share.totals[warp * 16 + lane / 4 + 8] = float2{softmax.base[1], softmax.sum[1]};
    }
    barrier_arrive(&shared.own);
    async_proxy_fence();
    named_sync(LatentClusterBarrier::kShare, 128);
    static_assert(kCtas - 1 <= 4);
    if (warp < kCtas - 1 && elect_lane()) {
      const auto to = static_cast<uint32_t>((rank + 1 + warp) % kCtas);
      bulk_send(cluster_address(&share, to), &share, sizeof(LatentShare), &shared.others, to);
    }
  }
};

/// The sum over all the cluster's keys, for 64 channels: a warpgroup.
struct LatentClusterOutput {
  using Shared = LatentClusterShared;
  using Product = Wgmma<Bf16, 64>;
  static constexpr int kSteps = kLatentKeys / 16;
  static constexpr int kCtas = Shared::kCtas;

  Shared& shared;
  const LatentArgs& args;
  int32_t rank;
  int32_t block;  ///< of the CTA's channels
  int32_t lane = static_cast<int32_t>(threadIdx.x) % 32;
  int32_t warp = static_cast<int32_t>(threadIdx.x) % 128 / 32;

  float o[32];
  float reference[2], sum[2];

  __device__ void run(const LatentItem& item) {
    barrier_wait(&shared.own, 0);
    take_own();
    barrier_wait(&shared.others, 0);
    join_totals();
    take_others();
    write(item);
  }

 private:
  __device__ void take_own() {
    uint32_t p[kSteps][4];
    load(rank, p);
    wgmma_fence();
    multiply(p, shared.k[rank * Shared::kValueBlocks + block], 0);
    wgmma_commit();
  }

  /// What all heads' probabilities are relative to, and what they add up to.
  __device__ void join_totals() {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float2 totals[kCtas];
#pragma unroll
      for (int i = 0; i < kCtas; ++i) totals[i] = total(i, r);
      reference[r] = totals[0].x;
#pragma unroll
      for (int i = 1; i < kCtas; ++i) reference[r] = fmaxf(reference[r], totals[i].x);
      sum[r] = 0;
#pragma unroll
      for (int i = 0; i < kCtas; ++i) sum[r] += totals[i].y * power(totals[i].x - reference[r]);
    }
  }

  __device__ void take_others() {
    wgmma_wait<0>();
    registers_fence(o);
    const float factor[2] = {power(total(rank, 0).x - reference[0]),
                             power(total(rank, 1).x - reference[1])};
#pragma unroll
    for (int i = 0; i < 32; ++i) o[i] *= factor[i % 4 / 2];
    uint32_t p[kCtas - 1][kSteps][4];
#pragma unroll
    for (int i = 0; i < kCtas - 1; ++i) load_scaled((rank + 1 + i) % kCtas, p[i]);
    registers_fence(o);
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < kCtas - 1; ++i) multiply(p[i], shared.v[i][block], 1);
    wgmma_commit();
    wgmma_wait<0>();
    registers_fence(o);
  }

  /// As LatentOutput::write_part.
  __device__ void write(const LatentItem& item) const {
    const int32_t group = item.tile * (kLatentHeads / kLatentGroup) + warp;
    if (group >= args.groups) return;
    const int64_t part = static_cast<int64_t>(item.row) * args.splits + item.split;
    float4* to =
        args.parts +
        ((part * args.groups + group) * kLatentPieces + (rank * Shared::kValueBlocks + block) * 8) *
            32 +
        lane;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      to[i * 32] = float4{o[i * 4], o[i * 4 + 1], o[i * 4 + 2], o[i * 4 + 3]};
    }
    if (rank != 0 || block != 0 || lane % 4 != 0) return;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int32_t head = group * kLatentGroup + lane / 4 + r * 8;
      if (head < args.num_heads) {
        args.part_stats[part * args.num_heads + head] = float2{reference[r], sum[r]};
      }
    }
  }

  /// 2^x for whole numbers up to 0.
  __device__ static float power(float x) {
    return x < -126 ? 0 : __int_as_float((static_cast<int32_t>(x) + 127) << 23);
  }
  __device__ float2 total(int32_t of, int r) const {
    return shared.shares[of].totals[warp * 16 + lane / 4 + r * 8];
  }
  __device__ void load(int32_t of, uint32_t (&p)[kSteps][4]) const {
    const uint32_t from = smem_address(shared.shares[of].p);
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      load_matrix_x4(p[step], from + latent_p_offset(step, warp * 16 + lane % 16, lane / 16));
    }
  }
  __device__ void load_scaled(int32_t of, uint32_t (&p)[kSteps][4]) const {
    load(of, p);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const __nv_bfloat162 factor = __float2bfloat162_rn(power(total(of, r).x - reference[r]));
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
#pragma unroll
        for (int i = r; i < 4; i += 2) {
          const __nv_bfloat162 x =
              __hmul2(*reinterpret_cast<const __nv_bfloat162*>(&p[step][i]), factor);
          p[step][i] = *reinterpret_cast<const uint32_t*>(&x);
        }
      }
    }
  }
  __device__ void multiply(const uint32_t (&p)[kSteps][4], const uint8_t* values, int accumulate) {
    const uint64_t v = swizzled_descriptor(smem_address(values), Shared::kKeyBlockBytes);
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      Product::rs_n(o, p[step], advance(v, step * 16 * 128), step > 0 ? 1 : accumulate);
    }
  }
};

__device__ inline void latent_cluster_queries(LatentClusterShared& shared, const LatentArgs& args,
                                              const LatentItem& item) {
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const int32_t head = thread / 8;
  const int32_t chunk = thread % 8;
  const int32_t real = args.num_heads - item.tile * kLatentHeads;
  const auto* from = static_cast<const __nv_bfloat16*>(args.q) + item.row * args.q_row_stride +
                     (static_cast<int64_t>(item.tile) * kLatentHeads + (head < real ? head : 0)) *
                         args.q_head_stride +
                     chunk * 8;
  const uint32_t to = smem_address(shared.q[0]) + head * 128 + ((chunk ^ (head % 8)) * 16);
#pragma unroll
  for (int block = 0; block < LatentClusterShared::kKeyBlocks; ++block) {
    cp_async<16>(to + block * LatentClusterShared::kQueryBlockBytes, from + block * 64,
                 head < real ? 16 : 0);
  }
}

/// Computes:  what latent_kernel does, for rows that are cut into shares of as many tiles of keys
///            as a cluster has CTAs, in the least time: one tile a CTA.
/// In/out:    as latent_kernel; parts always.
/// Units:     as latent_kernel.
/// Launch:    a cluster an item of 64 heads, one row, one split; 512 threads, shared
///            memory sizeof(LatentClusterShared).
/// Needs:     sm_90a; as latent_kernel; at most kLatentCluster tiles a split.
/// Numerics:  as latent_kernel, but that references are the next whole number above a tile's
///            maximum. Deterministic.
/// Source:    ours.
/// Measured:  docs/kernels/cuda_mla.md
template <class Rows>
__global__ void __launch_bounds__(LatentClusterShared::kThreads, 1)
    latent_cluster(const __grid_constant__ LatentArgs args) {
  using Barriers = LatentClusterBarrier;
  constexpr int kCtas = LatentClusterShared::kCtas;
  extern __shared__ __align__(1024) uint8_t raw[];
  auto& shared = *reinterpret_cast<LatentClusterShared*>(raw);
  if (threadIdx.x == 0) {
    barrier_init(&shared.own, 128);
    barrier_init(&shared.others, kCtas - 1);
    barrier_init_fence();
  }
  cluster_arrive_relaxed();
  kernels::cuda::wait_for_previous();
  kernels::cuda::let_next_start();
  const auto rank = static_cast<int32_t>(cluster_rank());
  const LatentItem item = latent_item(args, static_cast<int32_t>(blockIdx.x) / kCtas);
  if (item.begin >= item.end) return;
  const LatentKeys keys(args, item);
  const LatentClusterLookup lookup{.shared = shared, .keys = keys};
  const int32_t name = lookup.name(item, rank);
  latent_cluster_queries(shared, args, item);
  lookup.put<Rows::kRowBytes>(name);
  cluster_wait();  // all barriers of the cluster are there
  __syncthreads();
  Rows rows{.shared = shared, .pool = args.kv, .rank = rank};
  rows.load();
  rows.put_keys();
  const int warpgroup = __shfl_sync(~0U, static_cast<int>(threadIdx.x) / 128, 0);
  if (warpgroup == 0) {
    named_sync(Barriers::kKeys, LatentClusterShared::kThreads);
    async_proxy_fence();  // rows came by ordinary stores and copies
    LatentClusterScores{.shared = shared, .args = args, .rank = rank}.run();
  } else {
    named_arrive(Barriers::kKeys, LatentClusterShared::kThreads);
    rows.put_values();
    named_sync(Barriers::kValues, LatentClusterShared::kThreads - 128);
    async_proxy_fence();
    constexpr int kFirst = 4 - LatentClusterShared::kValueBlocks;
    if (warpgroup >= kFirst) {
      LatentClusterOutput{.shared = shared, .args = args, .rank = rank, .block = warpgroup - kFirst}
          .run(item);
    }
  }
  cluster_arrive_relaxed();
  cluster_wait();  // what was sent has been read
}

template <class Rows>
cudaError_t latent_launch_cluster(const LatentArgs& args, cudaStream_t stream) {
  auto* kernel = latent_cluster<Rows>;
  constexpr int kBytes = sizeof(LatentClusterShared);
  static_assert(kBytes <= 227 * 1024);
  const cudaError_t status =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  if (status != cudaSuccess) return status;
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim = {LatentClusterShared::kCtas, 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim =
      static_cast<unsigned>(args.num_rows * args.splits * args.tiles * LatentClusterShared::kCtas);
  config.blockDim = LatentClusterShared::kThreads;
  config.dynamicSmemBytes = kBytes;
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = 2;
  return cudaLaunchKernelEx(&config, kernel, args);
}

}  // namespace foveal::cuda
