#pragma once

#include "kernels/cuda/sm90/page_bounds.cuh"
#include "kernels/cuda/sm90/rocket_args.h"

namespace foveal::kernels::cuda {

/// How a KV head's queries look at page bounds: which side of which channels, by masks over the
/// stored values, and each head's factor for the channels left out. One a warp.
template <class Stored, int kHeadDim>
struct OpenedQuery {
  Stored least[kHeadDim];  ///< all bits where the least value counts
  Stored most[kHeadDim];
  float importance[kHeadDim];
  float factor[16];  ///< of a pass's heads
};

__device__ inline float query_value(const DecodeArgs& args, const char* row, int channel) {
  return read_key(row + channel * (args.q_dtype == FOVEAL_E4M3 ? 1 : 2), args.q_dtype);
}

/// `q`: the KV head's queries; heads [first_head, first_head + count) are those of the pass. Sums
/// run over heads in ascending order in float32, as on the CPU, so that the same channels are
/// chosen.
template <class Stored, int kHeadDim>
__device__ inline void open_query(const RocketArgs& args, const char* q, int32_t first_head,
                                  int32_t count, OpenedQuery<Stored, kHeadDim>& out, int lane) {
  const int64_t head_bytes = args.decode.q_head_bytes;
  // Four channels a lane, all heads' loads under way together.
#pragma unroll
  for (int channel = lane * 4; channel < kHeadDim; channel += 128) {
    const char* at = q + channel * (args.decode.q_dtype == FOVEAL_E4M3 ? 1 : 2);
    float4 sum{0, 0, 0, 0};
    float4 magnitude{0, 0, 0, 0};
#pragma unroll 8
    for (int h = 0; h < args.heads; ++h) {
      const float4 value = read_four(at + h * head_bytes, args.decode.q_dtype);
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
  if (lane < 16) out.factor[lane] = 1;
  __syncwarp();
  if (args.num_channels >= kHeadDim) return;
  // A channel's place by importance is how many come before it.
#pragma unroll 1
  for (int channel = lane; channel < kHeadDim; channel += 32) {
    const float own = out.importance[channel];
    int place = 0;
#pragma unroll 8
    for (int other = 0; other < kHeadDim; ++other) {
      const float value = out.importance[other];
      place += value > own || (value == own && other < channel) ? 1 : 0;
    }
    if (place >= args.num_channels) out.least[channel] = out.most[channel] = 0;
  }
  __syncwarp();
#pragma unroll 2
  for (int h = 0; h < count; ++h) {
    float all = 0;
    float kept = 0;
    for (int channel = lane; channel < kHeadDim; channel += 32) {
      const float value =
          fabsf(query_value(args.decode, q + (first_head + h) * head_bytes, channel));
      all += value;
      kept += (out.least[channel] | out.most[channel]) != 0 ? value : 0;
    }
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
      all += __shfl_xor_sync(~0U, all, step);
      kept += __shfl_xor_sync(~0U, kept, step);
    }
    if (lane == 0) out.factor[h] = kept > 0 ? sqrtf(all / kept) : 1.0F;
  }
  __syncwarp();
}

}  // namespace foveal::kernels::cuda
