#pragma once

#include "kernels/cuda/device/atomic.cuh"
#include "kernels/cuda/sm90/decode_segment.cuh"
#include "kernels/cuda/sm90/decode_tile.cuh"

// Joining: the warps of a CTA through shared memory, then the CTAs of a row through the workspace,
// done by the last of them to arrive. Always in ascending order, whoever is last.

namespace foveal::kernels::cuda {

template <class Tile>
class DecodeMerge {
  static constexpr DecodeShape kShape = Tile::kShape;
  static constexpr int kHeadDim = kShape.head_dim;
  static constexpr int kWarps = kShape.warps();
  static constexpr int kThreads = kWarps * 32;
  static constexpr int kHeads = 8 * kShape.head_blocks;
  static constexpr int kRow = kShape.merge_row();
  static constexpr int kQuads = kHeadDim / 4;

 public:
  __device__ DecodeMerge(const DecodeArgs& args, char* shared)
      : args_(args),
        results_(reinterpret_cast<float*>(shared)),
        stats_(reinterpret_cast<float2*>(results_ + kWarps * kHeads * kRow)),
        last_(reinterpret_cast<int*>(stats_ + kWarps * kHeads)) {}

  /// All threads of the CTA, each warp with its part of the segment. Shared memory is free again
  /// when it returns.
  __device__ void finish(const typename Tile::Accumulator& acc, const Segment& segment,
                         uint32_t run, const DecodeDeal& deal) {
    put(acc);
    __syncthreads();
    const int64_t slot =
        args_.max_splits > 0 ? fixed_slot(segment, segment.first_chunk) : dealt_slot(segment, run);
#pragma unroll 1
#pragma unroll 1
    for (int item = static_cast<int>(threadIdx.x); item < args_.group * kQuads; item += kThreads) {
      join_warps(item / kQuads, item % kQuads, segment, slot);
    }
    if (segment.whole == 0) {
      join_row(segment, deal);
    } else {
      __syncthreads();
    }
  }

  /// Rows without keys: zeros.
  __device__ void write_empty(int32_t seq) const {
#pragma unroll 1
    for (int item = static_cast<int>(threadIdx.x); item < args_.num_heads * kQuads;
         item += kThreads) {
      write(seq, item / kQuads, item % kQuads, float4{0, 0, 0, 0}, -INFINITY, 0);
    }
  }

 private:
  struct Part {
    float max = -INFINITY;
    float sum = 0;
    float4 o{0, 0, 0, 0};

    /// Without branches: a part without keys (-inf, 0, 0) adds nothing.
    __device__ void add(float other_max, float other_sum, const float4& other) {
      const float next = fmaxf(max, other_max);
      const float base = next == -INFINITY ? 0.0F : next;
      const float a = foveal::cuda::exp2_approx(max - base);
      const float b = foveal::cuda::exp2_approx(other_max - base);
      max = next;
      sum = sum * a + other_sum * b;
      o.x = o.x * a + other.x * b;
      o.y = o.y * a + other.y * b;
      o.z = o.z * a + other.z * b;
      o.w = o.w * a + other.w * b;
    }
  };

  __device__ int64_t row(const Segment& segment) const {
    return static_cast<int64_t>(segment.seq) * args_.num_kv_heads + segment.head;
  }

  /// Places in the workspace. Walking all chunks in order, a new segment begins with each run and
  /// with each row, so their sum numbers the segments of splits as dealt.
  __device__ int64_t fixed_slot(const Segment& segment, uint32_t split) const {
    return row(segment) * args_.max_splits + split;
  }
  __device__ int64_t dealt_slot(const Segment& segment, uint32_t run) const {
    return row(segment) + run;
  }

  __device__ void put(const typename Tile::Accumulator& acc) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int warp = static_cast<int>(threadIdx.x) / 32;
#pragma unroll
    for (int block = 0; block < kShape.head_blocks; ++block) {
#pragma unroll
      for (int column = 0; column < 2; ++column) {
        const int head = block * 8 + (lane % 4) * 2 + column;
        float sum = acc.sum[block][column];
#pragma unroll
        for (int step = 4; step < 32; step *= 2) sum += __shfl_xor_sync(~0u, sum, step);
        if (head >= args_.group) continue;
        const int line = warp * kHeads + head;
        if (lane < 4) stats_[line] = float2{acc.max[block][column], sum};
#pragma unroll
        for (int step = 0; step < Tile::kSteps; step += 2) {
          *reinterpret_cast<float4*>(results_ + line * kRow + Tile::out_element(step, lane)) =
              float4{acc.o[block][step][column], acc.o[block][step][column + 2],
                     acc.o[block][step + 1][column], acc.o[block][step + 1][column + 2]};
        }
      }
    }
  }

  __device__ void join_warps(int head, int quad, const Segment& segment, int64_t slot) {
    float max = -INFINITY;
#pragma unroll
    for (int warp = 0; warp < kWarps; ++warp) max = fmaxf(max, stats_[warp * kHeads + head].x);
    float sum = 0;
    float4 o{0, 0, 0, 0};
#pragma unroll
    for (int warp = 0; warp < kWarps; ++warp) {
      const int line = warp * kHeads + head;
      const float2 stats = stats_[line];
      const float weight = stats.x == -INFINITY ? 0.0F : foveal::cuda::exp2_approx(stats.x - max);
      const float4 part = *reinterpret_cast<const float4*>(results_ + line * kRow + quad * 4);
      sum += stats.y * weight;
      o.x += part.x * weight;
      o.y += part.y * weight;
      o.z += part.z * weight;
      o.w += part.w * weight;
    }
    if (segment.whole != 0) {
      write(segment.seq, segment.head * args_.group + head, quad, o, max, sum);
      return;
    }
    const int64_t line = slot * args_.group + head;
    __stcg(reinterpret_cast<float4*>(args_.partial + line * kHeadDim + quad * 4), o);
    if (quad == 0) __stcg(reinterpret_cast<float2*>(args_.stats + line * 2), float2{max, sum});
  }

  /// The CTA that brings the last part of the row joins all of them.
  __device__ void join_row(const Segment& segment, const DecodeDeal& deal) {
    const bool fixed = args_.max_splits > 0;
    const uint32_t first = fixed ? 0 : deal.run(segment.row_start);
    const uint32_t parts =
        fixed ? segment.chunks : deal.run(segment.row_start + segment.chunks - 1) - first + 1;
    __syncthreads();
    if (threadIdx.x == 0) {
      // Wraps to zero at the last arrival: ready for the next call.
      const uint32_t before =
          foveal::cuda::atomic_inc_acq_rel(args_.arrivals + row(segment), parts - 1);
      *last_ = before == parts - 1 ? 1 : 0;
    }
    __syncthreads();
    if (*last_ == 0) return;
    // Threads beyond one a quad of outputs take shares of the parts.
    const uint32_t items = static_cast<uint32_t>(args_.group) * kQuads;
    const uint32_t shares = max(1u, min(kThreads / items, 8u));
    const uint32_t threads = kThreads / shares;
    const uint32_t share = threadIdx.x / threads;
#pragma unroll 1
    for (uint32_t item = threadIdx.x - share * threads;
         item < (items + threads - 1) / threads * threads; item += threads) {
      Part part;
#pragma unroll 1
      for (uint32_t i = share; i < parts && item < items; i += shares * kAhead) {
        add_parts(part, segment, first, i, shares, parts, item);
      }
      join_shares(part, share, shares, item, segment);
    }
  }

  static constexpr int kAhead = 8;  ///< parts whose loads are on their way together
  __device__ void add_parts(Part& part, const Segment& segment, uint32_t first, uint32_t begin,
                            uint32_t step, uint32_t parts, uint32_t item) const {
    float2 stats[kAhead];
    float4 o[kAhead];
#pragma unroll
    for (int ahead = 0; ahead < kAhead; ++ahead) {
      const uint32_t i = min(begin + ahead * step, parts - 1);
      const int64_t slot =
          args_.max_splits > 0 ? fixed_slot(segment, i) : dealt_slot(segment, first + i);
      const int64_t line = slot * args_.group + item / kQuads;
      stats[ahead] = __ldcg(reinterpret_cast<const float2*>(args_.stats + line * 2));
      if (begin + ahead * step >= parts) stats[ahead] = float2{-INFINITY, 0};
      o[ahead] = __ldcg(
          reinterpret_cast<const float4*>(args_.partial + line * kHeadDim + (item % kQuads) * 4));
    }
#pragma unroll
    for (int ahead = 0; ahead < kAhead; ++ahead) {
      part.add(stats[ahead].x, stats[ahead].y, o[ahead]);
    }
  }

  /// Threads that summed different parts of one item meet in shared memory.
  __device__ void join_shares(Part& part, uint32_t share, uint32_t shares, uint32_t item,
                              const Segment& segment) {
    if (shares > 1) {
      float4* values = reinterpret_cast<float4*>(results_);
      float2* stats = reinterpret_cast<float2*>(values + kThreads);
      values[threadIdx.x] = part.o;
      stats[threadIdx.x] = float2{part.max, part.sum};
      __syncthreads();
      if (share == 0) {
#pragma unroll 1
        for (uint32_t other = 1; other < shares; ++other) {
          const uint32_t at = threadIdx.x + other * (kThreads / shares);
          part.add(stats[at].x, stats[at].y, values[at]);
        }
      }
    }
    if (share == 0 && item < static_cast<uint32_t>(args_.group) * kQuads) {
      write(segment.seq, segment.head * args_.group + item / kQuads, item % kQuads, part.o,
            part.max, part.sum);
    }
    __syncthreads();
  }

  __device__ void write(int32_t seq, int32_t head, int quad, const float4& o, float max,
                        float sum) const {
    const float scale = sum > 0 ? args_.v_scale / sum : 0.0F;
    uint2 words;
    if (args_.q_dtype == FOVEAL_F16) {
      words.x = foveal::cuda::pack<foveal::cuda::F16>(o.x * scale, o.y * scale);
      words.y = foveal::cuda::pack<foveal::cuda::F16>(o.z * scale, o.w * scale);
    } else {
      words.x = foveal::cuda::pack<foveal::cuda::Bf16>(o.x * scale, o.y * scale);
      words.y = foveal::cuda::pack<foveal::cuda::Bf16>(o.z * scale, o.w * scale);
    }
    char* row = args_.out + seq * args_.out_row_bytes + head * args_.out_head_bytes;
    *reinterpret_cast<uint2*>(row + quad * 8) = words;
    if (quad == 0 && args_.lse != nullptr) {
      constexpr float kLn2 = 0.6931471805599453F;
      args_.lse[static_cast<int64_t>(seq) * args_.num_heads + head] =
          sum > 0 ? (max + __log2f(sum)) * kLn2 : -INFINITY;
    }
  }

  const DecodeArgs& args_;
  float* results_;
  float2* stats_;
  int* last_;
};

}  // namespace foveal::kernels::cuda
