#pragma once

#include "kernels/cuda/sm90/decode_tile.cuh"
#include "kernels/cuda/sm90/page_bounds.cuh"
#include "kernels/cuda/sm90/rocket_args.h"

namespace foveal::kernels::cuda {

/// A KV head's queries as its scores take them: which side of which channels, by masks over the
/// stored values, and a pass's queries as they go to the tensor cores. One a CTA.
template <class Stored, int kHeadDim>
struct OpenedQuery {
  static constexpr int kPitch = kHeadDim + 4;  ///< so that a warp's eight rows meet other banks
  alignas(16) Stored least[kHeadDim];          ///< all bits where the least value counts
  alignas(16) Stored most[kHeadDim];
  alignas(16) float importance[kHeadDim];
  alignas(16) uint16_t rows[16][kPitch];  ///< f16 scaled by a power of two, or bf16 as they are
  float scale[16];                        ///< of scores to the log2 domain
};

__device__ inline const char* query_at(const DecodeArgs& args, const char* row, int channel) {
  return row + channel * (args.q_dtype == FOVEAL_E4M3 ? 1 : 2);
}

/// Masks of all channels, by the last warps of a CTA. Sums run over heads in ascending order in
/// float32, as on the CPU, so that the same channels are chosen.
template <class Stored, int kHeadDim>
__device__ inline void open_sides(const RocketArgs& args, const char* q,
                                  OpenedQuery<Stored, kHeadDim>& out) {
  const int channel = (kChooseThreads - 1 - static_cast<int>(threadIdx.x)) * 4;
  if (channel >= kHeadDim) return;
  const char* at = query_at(args.decode, q, channel);
  float4 sum{0, 0, 0, 0};
  float4 magnitude{0, 0, 0, 0};
#pragma unroll 1
  for (int h = 0; h < args.heads; ++h) {
    const float4 value = read_four(at + h * args.decode.q_head_bytes, args.decode.q_dtype);
    sum = {sum.x + value.x, sum.y + value.y, sum.z + value.z, sum.w + value.w};
    magnitude = {magnitude.x + fabsf(value.x), magnitude.y + fabsf(value.y),
                 magnitude.z + fabsf(value.z), magnitude.w + fabsf(value.w)};
  }
  const float sums[4] = {sum.x, sum.y, sum.z, sum.w};
  *reinterpret_cast<float4*>(out.importance + channel) = magnitude;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    out.least[channel + i] = sums[i] > 0 ? Stored{0} : static_cast<Stored>(~Stored{0});
    out.most[channel + i] = sums[i] > 0 ? static_cast<Stored>(~Stored{0}) : Stored{0};
  }
}

/// The `count` queries of a pass, which begin at `q`, a warp a query.
template <class Stored, int kHeadDim>
__device__ inline void open_rows(const RocketArgs& args, const char* q, int32_t count,
                                 OpenedQuery<Stored, kHeadDim>& out) {
  static_assert(kChooseWarps == 16);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int h = static_cast<int>(threadIdx.x) / 32;
  if (h >= count) return;
  constexpr int kRounds = (kHeadDim + 127) / 128;
  float4 own[kRounds];
  float largest = 0;
#pragma unroll
  for (int round = 0; round < kRounds; ++round) {
    const int channel = round * 128 + lane * 4;
    own[round] = {0, 0, 0, 0};
    if (channel < kHeadDim) {
      own[round] = read_four(query_at(args.decode, q + h * args.decode.q_head_bytes, channel),
                             args.decode.q_dtype);
    }
    const float4& v = own[round];
    largest = fmaxf(largest, fmaxf(fmaxf(fabsf(v.x), fabsf(v.y)), fmaxf(fabsf(v.z), fabsf(v.w))));
  }
  // The row's largest value to [1, 2): then any bf16 fits f16.
  float down = 1;
  float up = 1;
  if constexpr (sizeof(Stored) == 1) {
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
      largest = fmaxf(largest, __shfl_xor_sync(~0U, largest, step));
    }
    const int exponent = min(max(static_cast<int>(__float_as_uint(largest) >> 23), 1), 253);
    down = __uint_as_float(static_cast<uint32_t>(254 - exponent) << 23);
    up = __uint_as_float(static_cast<uint32_t>(exponent) << 23);
  }
  using Math = std::conditional_t<sizeof(Stored) == 1, foveal::cuda::F16, foveal::cuda::Bf16>;
#pragma unroll
  for (int round = 0; round < kRounds; ++round) {
    const int channel = round * 128 + lane * 4;
    if (channel >= kHeadDim) continue;
    const float4& v = own[round];
    *reinterpret_cast<uint2*>(&out.rows[h][channel]) = {
        foveal::cuda::pack<Math>(v.x * down, v.y * down),
        foveal::cuda::pack<Math>(v.z * down, v.w * down)};
  }
  if (lane == 0) out.scale[h] = args.decode.scale_log2 * up;
}

/// Closes the channels that scores leave out, by a CTA that has opened all.
template <class Stored, int kHeadDim>
__device__ __noinline__ void leave_out(const RocketArgs& args, OpenedQuery<Stored, kHeadDim>& out) {
  static_assert(kHeadDim <= kChooseThreads);
  __syncthreads();
  const auto channel = static_cast<int>(threadIdx.x);
  if (channel < kHeadDim) {
    // A channel's place by importance is how many come before it.
    const float own = out.importance[channel];
    int place = 0;
#pragma unroll 8
    for (int other = 0; other < kHeadDim; ++other) {
      const float value = out.importance[other];
      place += value > own || (value == own && other < channel) ? 1 : 0;
    }
    if (place >= args.num_channels) out.least[channel] = out.most[channel] = 0;
  }
  __syncthreads();
}

/// What makes up for those, in the scales of the `count` queries at `q`.
template <class Stored, int kHeadDim>
__device__ __noinline__ void make_up(const RocketArgs& args, const char* q, int32_t count,
                                     OpenedQuery<Stored, kHeadDim>& out) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int h = static_cast<int>(threadIdx.x) / 32;
  if (h >= count) return;
  float all = 0;
  float kept = 0;
  for (int channel = lane; channel < kHeadDim; channel += 32) {
    const char* at = query_at(args.decode, q + h * args.decode.q_head_bytes, channel);
    const float value = fabsf(read_key(at, args.decode.q_dtype));
    all += value;
    kept += (out.least[channel] | out.most[channel]) != 0 ? value : 0;
  }
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    all += __shfl_xor_sync(~0U, all, step);
    kept += __shfl_xor_sync(~0U, kept, step);
  }
  if (lane == 0 && kept > 0) out.scale[h] *= sqrtf(all / kept);
}

}  // namespace foveal::kernels::cuda
