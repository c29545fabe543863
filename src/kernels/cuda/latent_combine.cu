#include <cmath>

#include "kernels/cuda/device/convert.cuh"
#include "kernels/cuda/device/pdl.cuh"
#include "kernels/cuda/sm90/latent_traits.cuh"

namespace foveal::cuda {
namespace {

constexpr int kChannels = kLatentValueDim / 4;

__device__ inline void add(float4& sum, const float4& x, float weight) {
  sum.x += x.x * weight;
  sum.y += x.y * weight;
  sum.z += x.z * weight;
  sum.w += x.w * weight;
}

/// Computes:  the output of rows whose keys were split, from their parts.
/// In/out:    LatentArgs.parts and part_stats; out, lse.
/// Units:     parts of shares without keys were not written and are not read.
/// Launch:    one CTA a (row, head); a thread four channels of every kShares-th part.
/// Needs:     sm_90; splits up to 64.
/// Numerics:  float32, in a fixed order; deterministic.
/// Source:    ours.
/// Measured:  docs/kernels/cuda_mla.md
template <int kShares, int kAhead>
__global__ void __launch_bounds__(kChannels* kShares) latent_combine(const LatentArgs args) {
  __shared__ float weights[kLatentMaxSplits];
  __shared__ float4 shares[kShares][kChannels];
  const auto row = static_cast<int32_t>(blockIdx.y);
  const auto head = static_cast<int32_t>(blockIdx.x);
  kernels::cuda::wait_for_previous();
  kernels::cuda::let_next_start();
  const int32_t count = latent_count(args, row);
  const int64_t first = static_cast<int64_t>(row) * args.splits * args.num_heads + head;
  const auto written = [&](int32_t split) {
    return split < args.splits && latent_split_begin(count, split, args.splits) <
                                      latent_split_begin(count, split + 1, args.splits);
  };
  // All parts at once, before it is known what they weigh.
  const int channel = static_cast<int>(threadIdx.x) % kChannels;
  const int share = static_cast<int>(threadIdx.x) / kChannels;
  const auto* from =
      reinterpret_cast<const float4*>(args.parts + first * kLatentValueDim) + channel;
  const int64_t stride = static_cast<int64_t>(args.num_heads) * kChannels;
  float4 part[kAhead];
#pragma unroll
  for (int i = 0; i < kAhead; ++i) {
    const int32_t split = share + i * kShares;
    part[i] = written(split) ? __ldcg(from + split * stride) : float4{0, 0, 0, 0};
  }
  const int lane = static_cast<int>(threadIdx.x) % 32;
  // Each warp reads all statistics: two a lane.
  float2 stats[2];
  float reference = -INFINITY;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int32_t split = lane + i * 32;
    stats[i] = written(split)
                   ? __ldcg(args.part_stats + first + static_cast<int64_t>(split) * args.num_heads)
                   : float2{-INFINITY, 0};
    if (stats[i].y > 0) reference = fmaxf(reference, stats[i].x);
  }
#pragma unroll
  for (int step = 16; step > 0; step /= 2) {
    reference = fmaxf(reference, __shfl_xor_sync(~0U, reference, step));
  }
  float sum = 0;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float weight = stats[i].y > 0 ? exp2_approx(stats[i].x - reference) : 0.0F;
    sum += stats[i].y * weight;
    if (threadIdx.x < 32 && lane + i * 32 < kLatentMaxSplits) weights[lane + i * 32] = weight;
  }
#pragma unroll
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0U, sum, step);
  __syncthreads();
  float4 out{0, 0, 0, 0};
#pragma unroll
  for (int i = 0; i < kAhead; ++i) add(out, part[i], weights[share + i * kShares]);
  if constexpr (kShares > 1) {
    if (share > 0) shares[share][channel] = out;
    __syncthreads();
    if (share > 0) return;
  }
#pragma unroll
  for (int i = 1; i < kShares; ++i) add(out, shares[i][channel], 1);
  const float factor = sum > 0 ? 1.0F / sum : 0.0F;
  auto* to = static_cast<__nv_bfloat16*>(args.out) + row * args.out_row_stride +
             head * args.out_head_stride;
  reinterpret_cast<uint2*>(to)[channel] = {pack<Bf16>(out.x * factor, out.y * factor),
                                           pack<Bf16>(out.z * factor, out.w * factor)};
  if (channel == 0 && args.lse != nullptr) {
    constexpr float kLn2 = 0.6931471805599453F;
    args.lse[static_cast<int64_t>(row) * args.num_heads + head] =
        sum > 0 ? (reference + log2f(sum)) * kLn2 : -INFINITY;
  }
}

}  // namespace

cudaError_t latent_launch_combine(const LatentArgs& args, cudaStream_t stream) {
  // Few parts are of many rows: small CTAs, many of them on an SM.
  constexpr int kFew = 8;
  constexpr int kShares = 4;
  const bool few = args.splits <= kFew;
  cudaLaunchAttribute overlap{};
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim =
      dim3(static_cast<unsigned>(args.num_heads), static_cast<unsigned>(args.num_rows));
  config.blockDim = few ? kChannels : kChannels * kShares;
  config.stream = stream;
  config.attrs = &overlap;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(
      &config, few ? latent_combine<1, kFew> : latent_combine<kShares, kLatentMaxSplits / kShares>,
      args);
}

}  // namespace foveal::cuda
