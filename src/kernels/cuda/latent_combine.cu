#include <cmath>

#include "kernels/cuda/device/convert.cuh"
#include "kernels/cuda/device/pdl.cuh"
#include "kernels/cuda/sm90/latent_traits.cuh"

namespace foveal::cuda {
namespace {

constexpr int kPieces = 4;  ///< of a CTA
constexpr int kLanes = kPieces * 32;
/// Sums of a piece: of every fourth part each, then of these. Whatever the number of threads, so
/// that a row's bits do not depend on how many parts the longest row has.
constexpr int kSums = 4;

__device__ inline void add(float4& sum, const float4& x, float weight, float weight_high) {
  sum.x += x.x * weight;
  sum.y += x.y * weight;
  sum.z += x.z * weight_high;
  sum.w += x.w * weight_high;
}

struct HeadTotals {
  float reference = -INFINITY;
  float sum = 0;
};

/// What the parts of a head weigh, by kThreads neighbouring lanes of which this is `lane`.
template <int kThreads, int kSplits>
__device__ HeadTotals weigh(const LatentArgs& args, int32_t splits, int32_t row, int32_t head,
                            int lane, float* weights) {
  constexpr int kEach = kSplits / kThreads;
  const int64_t first = static_cast<int64_t>(row) * args.splits * args.num_heads + head;
  float2 stats[kEach];
  HeadTotals totals;
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int32_t split = lane + i * kThreads;
    stats[i] = head < args.num_heads && split < splits
                   ? __ldcg(args.part_stats + first + static_cast<int64_t>(split) * args.num_heads)
                   : float2{-INFINITY, 0};
    if (stats[i].y > 0) totals.reference = fmaxf(totals.reference, stats[i].x);
  }
#pragma unroll
  for (int step = kThreads / 2; step > 0; step /= 2) {
    totals.reference = fmaxf(totals.reference, __shfl_xor_sync(~0U, totals.reference, step));
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const float weight = stats[i].y > 0 ? exp2_approx(stats[i].x - totals.reference) : 0.0F;
    totals.sum += stats[i].y * weight;
    weights[lane + i * kThreads] = weight;
  }
#pragma unroll
  for (int step = kThreads / 2; step > 0; step /= 2) {
    totals.sum += __shfl_xor_sync(~0U, totals.sum, step);
  }
  return totals;
}

/// Computes:  the output of rows whose keys were split, from their parts.
/// In/out:    LatentArgs.parts and part_stats; out, lse.
/// Units:     parts of shares without keys were not written and are not read.
/// Launch:    one CTA a (row, group of 16 heads, 32 channels); a thread one piece (two channels of
///            two heads) of every kShares-th part.
/// Needs:     sm_90; splits up to 64.
/// Numerics:  float32, in an order that follows from a row's own parts; deterministic.
/// Source:    ours.
/// Measured:  docs/kernels/cuda_mla.md
template <int kShares, int kAhead>
__global__ void __launch_bounds__(kLanes* kShares) latent_combine(const LatentArgs args) {
  constexpr int kHeadThreads = kLanes * kShares / kLatentGroup;
  constexpr int kSumsEach = kSums / kShares;
  constexpr int kSplits = kShares * kAhead;
  __shared__ float weights[kLatentGroup][kSplits + 1];  // a lane each of eight heads: eight banks
  __shared__ float factors[kLatentGroup];
  __shared__ float4 shares[kShares > 1 ? kSums : 1][kLanes];
  const auto row = static_cast<int32_t>(blockIdx.z);
  const auto group = static_cast<int32_t>(blockIdx.y);
  // Counts are older than the parts: the kernel before this one let it start when it had them.
  const auto splits = static_cast<int32_t>(LatentShares(latent_count(args, row), args).splits);
  kernels::cuda::wait_for_previous();
  kernels::cuda::let_next_start();
  // All parts at once, before it is known what they weigh.
  const int at = static_cast<int>(threadIdx.x) % kLanes;
  const int share = static_cast<int>(threadIdx.x) / kLanes;
  const int64_t stride = int64_t{args.groups} * kLatentPieces * 32;
  const float4* from = args.parts + row * args.splits * stride +
                       (group * kLatentPieces + static_cast<int32_t>(blockIdx.x) * kPieces) * 32 +
                       at;
  float4 part[kAhead];
#pragma unroll
  for (int i = 0; i < kAhead; ++i) {
    const int32_t split = share + i * kShares;
    part[i] = split < splits ? __ldcg(from + split * stride) : float4{0, 0, 0, 0};
  }
  {
    const int head = static_cast<int>(threadIdx.x) / kHeadThreads;
    const int lane = static_cast<int>(threadIdx.x) % kHeadThreads;
    const int32_t line = group * kLatentGroup + head;
    const HeadTotals totals =
        weigh<kHeadThreads, kSplits>(args, splits, row, line, lane, weights[head]);
    if (lane == 0) {
      factors[head] = totals.sum > 0 ? 1.0F / totals.sum : 0.0F;
      if (args.lse != nullptr && blockIdx.x == 0 && line < args.num_heads) {
        constexpr float kLn2 = 0.6931471805599453F;
        args.lse[static_cast<int64_t>(row) * args.num_heads + line] =
            totals.sum > 0 ? (totals.reference + log2f(totals.sum)) * kLn2 : -INFINITY;
      }
    }
  }
  __syncthreads();
  const int lane = at % 32;
  const int low = lane / 4;
  float4 sums[kSumsEach] = {};
#pragma unroll
  for (int i = 0; i < kAhead; ++i) {
    const int split = share + i * kShares;
    add(sums[i % kSumsEach], part[i], weights[low][split], weights[low + 8][split]);
  }
  if constexpr (kShares > 1) {
#pragma unroll
    for (int i = 0; i < kSumsEach; ++i) shares[share + i * kShares][at] = sums[i];
    __syncthreads();
    if (share > 0) return;
  }
  float4 out = sums[0];
#pragma unroll
  for (int i = 1; i < kSums; ++i) {
    if constexpr (kShares > 1) {
      add(out, shares[i][at], 1, 1);
    } else {
      add(out, sums[i], 1, 1);
    }
  }
  const int32_t channel = (static_cast<int32_t>(blockIdx.x) * kPieces + at / 32) * 8 + lane % 4 * 2;
  auto* to = static_cast<__nv_bfloat16*>(args.out) + row * args.out_row_stride + channel;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int32_t head = group * kLatentGroup + low + r * 8;
    if (head >= args.num_heads) continue;
    const float factor = factors[low + r * 8];
    *reinterpret_cast<uint32_t*>(to + head * args.out_head_stride) =
        r == 0 ? pack<Bf16>(out.x * factor, out.y * factor)
               : pack<Bf16>(out.z * factor, out.w * factor);
  }
}

}  // namespace

cudaError_t latent_launch_combine(const LatentArgs& args, cudaStream_t stream) {
  // Few parts are of many rows: small CTAs, many of them on an SM.
  const int shares = args.splits <= 8 ? 1 : args.splits <= 16 ? 2 : 4;
  auto* kernel = shares == 1         ? latent_combine<1, 8>
                 : shares == 2       ? latent_combine<2, 8>
                 : args.splits <= 32 ? latent_combine<4, 8>
                                     : latent_combine<4, kLatentMaxSplits / 4>;
  cudaLaunchAttribute overlap{};
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(kLatentPieces / kPieces, static_cast<unsigned>(args.groups),
                        static_cast<unsigned>(args.num_rows));
  config.blockDim = static_cast<unsigned>(kLanes * shares);
  config.stream = stream;
  config.attrs = &overlap;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, kernel, args);
}

}  // namespace foveal::cuda
