#pragma once

#include "kernels/cuda/device/reduce.cuh"
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

/// Masks of all channels, by warps that have neither the first queries nor the newest page. Sums
/// run over heads in ascending order in float32, as on the CPU, so that the same channels are
/// chosen.
template <class Stored, int kHeadDim>
__device__ inline void open_sides(const RocketArgs& args, const char* q,
                                  OpenedQuery<Stored, kHeadDim>& out) {
  const int channel = (static_cast<int>(threadIdx.x) - kChooseThreads / 2) * 4;
  if (channel < 0 || channel >= kHeadDim) return;
  const char* at = query_at(args.decode, q, channel);
  float4 sum{0, 0, 0, 0};
  float4 magnitude{0, 0, 0, 0};
#pragma unroll 4
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

/// What makes up for the channels that scores leave out: the square root of the share of the query
/// that counts, inverted. A warp's lanes hold the query.
template <class Stored, int kHeadDim, int kRounds>
__device__ inline float make_up(const float4 (&own)[kRounds],
                                const OpenedQuery<Stored, kHeadDim>& out) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  float all = 0;
  float kept = 0;
#pragma unroll
  for (int round = 0; round < kRounds; ++round) {
    const int first = round * 128 + lane * 4;
    const float values[4] = {own[round].x, own[round].y, own[round].z, own[round].w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (first + i >= kHeadDim) break;
      const float value = fabsf(values[i]);
      all += value;
      kept += (out.least[first + i] | out.most[first + i]) != 0 ? value : 0;
    }
  }
  all = group_sum(all);
  kept = group_sum(kept);
  return kept > 0 ? sqrtf(all / kept) : 1;
}

/// A warp's query of a pass.
template <int kHeadDim>
struct OpenRow {
  static constexpr int kRounds = (kHeadDim + 127) / 128;
  float4 values[kRounds];
  float up;  ///< what its values in shared memory are to be multiplied by
};

/// The `count` queries of a pass, which begin at `q`, a warp a query; all but their scales.
template <class Stored, int kHeadDim>
__device__ inline OpenRow<kHeadDim> open_rows(const RocketArgs& args, const char* q, int32_t count,
                                              OpenedQuery<Stored, kHeadDim>& out) {
  static_assert(kChooseWarps == 16);
  OpenRow<kHeadDim> row{};
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int h = static_cast<int>(threadIdx.x) / 32;
  if (h >= count) return row;
  float largest = 0;
#pragma unroll
  for (int round = 0; round < row.kRounds; ++round) {
    const int channel = round * 128 + lane * 4;
    if (channel < kHeadDim) {
      row.values[round] = read_four(
          query_at(args.decode, q + h * args.decode.q_head_bytes, channel), args.decode.q_dtype);
    }
    const float4& v = row.values[round];
    largest = fmaxf(largest, fmaxf(fmaxf(fabsf(v.x), fabsf(v.y)), fmaxf(fabsf(v.z), fabsf(v.w))));
  }
  // The row's largest value to [1, 2): then any bf16 fits f16.
  float down = 1;
  row.up = 1;
  if constexpr (sizeof(Stored) == 1) {
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
      largest = fmaxf(largest, __shfl_xor_sync(~0U, largest, step));
    }
    const int exponent = min(max(static_cast<int>(__float_as_uint(largest) >> 23), 1), 253);
    down = __uint_as_float(static_cast<uint32_t>(254 - exponent) << 23);
    row.up = __uint_as_float(static_cast<uint32_t>(exponent) << 23);
  }
  using Math = std::conditional_t<sizeof(Stored) == 1, foveal::cuda::F16, foveal::cuda::Bf16>;
#pragma unroll
  for (int round = 0; round < row.kRounds; ++round) {
    const int channel = round * 128 + lane * 4;
    if (channel >= kHeadDim) continue;
    const float4& v = row.values[round];
    *reinterpret_cast<uint2*>(&out.rows[h][channel]) = {
        foveal::cuda::pack<Math>(v.x * down, v.y * down),
        foveal::cuda::pack<Math>(v.z * down, v.w * down)};
  }
  return row;
}

/// And their scales, once the channels that scores leave out are known.
template <class Stored, int kHeadDim>
__device__ inline void scale_rows(const RocketArgs& args, const OpenRow<kHeadDim>& row,
                                  int32_t count, bool all_channels,
                                  OpenedQuery<Stored, kHeadDim>& out) {
  const int h = static_cast<int>(threadIdx.x) / 32;
  if (h >= count) return;
  const float made_up = all_channels ? 1 : make_up(row.values, out);
  if (threadIdx.x % 32 == 0) out.scale[h] = args.decode.scale_log2 * row.up * made_up;
}

/// Closes all but the `count` most important channels, by a CTA that has opened all; on return all
/// threads see it. A channel's place by importance is how many come before it, which neighbouring
/// lanes count together.
template <class Stored, int kHeadDim>
__device__ inline void leave_out(int32_t count, OpenedQuery<Stored, kHeadDim>& out) {
  constexpr int kLanes = 2;
  constexpr int kOthers = kHeadDim / kLanes;
  static_assert(kHeadDim * kLanes <= kChooseThreads && kHeadDim * kLanes % 32 == 0);
  static_assert(kOthers % 4 == 0);
  __syncthreads();
  const int channel = static_cast<int>(threadIdx.x) / kLanes;
  if (channel < kHeadDim) {
    const float own = out.importance[channel];
    const int first = static_cast<int>(threadIdx.x) % kLanes * kOthers;
    int place = 0;
    const auto add = [&](float value, int other) {
      place += value > own || (value == own && other < channel) ? 1 : 0;
    };
#pragma unroll 4
    for (int other = first; other < first + kOthers; other += 4) {
      const float4 values = *reinterpret_cast<const float4*>(out.importance + other);
      add(values.x, other);
      add(values.y, other + 1);
      add(values.z, other + 2);
      add(values.w, other + 3);
    }
    place += __shfl_xor_sync(~0U, place, 1);
    if (first == 0 && place >= count) out.least[channel] = out.most[channel] = 0;
  }
  __syncthreads();
}

}  // namespace foveal::kernels::cuda
