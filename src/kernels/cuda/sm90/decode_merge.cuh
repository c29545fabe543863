#pragma once

#include "kernels/cuda/device/atomic.cuh"
#include "kernels/cuda/sm90/decode_segment.cuh"
#include "kernels/cuda/sm90/decode_tile.cuh"

// Joining: the warps of a CTA through shared memory, then the CTAs of a row through the workspace,
// done by the last of them to arrive. Always in ascending order, whoever is last. Between calls all
// words of the parts are zero, and no part has a zero word (`mark`): a word that is not zero has
// come, so neither side needs a fence, and a CTA says that it arrives before its part is written.

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

  /// Where the parts of a row lie in the workspace: one after the other.
  struct Parts {
    uint32_t first = 0;
    uint32_t count = 0;
    uint32_t own = 0;
  };
  __device__ Parts parts_of(const Segment& segment, uint32_t run, const DecodeDeal& deal) const {
    if (segment.whole != 0) return {};
    if (args_.max_splits > 0) {
      const uint32_t first = row(segment) * args_.max_splits;
      return {first, segment.chunks, first + segment.first_chunk};
    }
    const uint32_t begin = deal.run(segment.row_start);
    return {row(segment) + begin, deal.run(segment.row_start + segment.chunks - 1) - begin + 1,
            row(segment) + run};
  }

  /// All threads of the CTA, each warp with its part of the segment. Shared memory is free again
  /// when it returns.
  __device__ void finish(const typename Tile::Accumulator& acc, const Segment& segment,
                         const Parts& parts) {
    const bool whole = segment.whole != 0;
    uint32_t arrived = 0;
    // Wraps to zero at the last arrival: ready for the next call.
    if (!whole && threadIdx.x == 0)
      arrived = atomicInc(args_.arrivals + row(segment), parts.count - 1);
    put(acc);
    __syncthreads();
#pragma unroll 1
    for (uint32_t item = threadIdx.x; item < items(); item += kThreads) {
      join_warps(item / kQuads, item % kQuads, segment, parts.own, whole);
    }
    if (!whole && threadIdx.x == 0) *last_ = arrived == parts.count - 1;
    __syncthreads();
    if (!whole && *last_ != 0) join_row(segment, parts);
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
  /// A weighted sum of values and of weights, both relative to 2^max.
  struct Part {
    float max = -INFINITY;
    float sum = 0;
    float4 o{0, 0, 0, 0};

    __device__ void scale_add(const float4& value, float weight) {
      o.x += value.x * weight;
      o.y += value.y * weight;
      o.z += value.z * weight;
      o.w += value.w * weight;
    }
    /// Moves the reference to `next`, at least the present one; -inf where nothing has been added.
    __device__ float move(float next) {
      const float base = next == -INFINITY ? 0.0F : next;
      const float factor = foveal::cuda::exp2_approx(max - base);
      max = next;
      sum *= factor;
      o = float4{o.x * factor, o.y * factor, o.z * factor, o.w * factor};
      return base;
    }
    __device__ void add(float other_max, float other_sum, const float4& other) {
      const float base = move(fmaxf(max, other_max));
      const float weight = foveal::cuda::exp2_approx(other_max - base);
      sum += other_sum * weight;
      scale_add(other, weight);
    }
  };

  /// A zero would look like a word that has not come yet.
  __device__ static float mark(float x) {
    return __float_as_uint(x) == 0 ? __uint_as_float(0x80000000u) : x;
  }
  __device__ static bool written(const float2& a, const float4& b) {
    return __float_as_uint(a.x) != 0 && __float_as_uint(a.y) != 0 && __float_as_uint(b.x) != 0 &&
           __float_as_uint(b.y) != 0 && __float_as_uint(b.z) != 0 && __float_as_uint(b.w) != 0;
  }
  __device__ uint32_t row(const Segment& segment) const {
    return static_cast<uint32_t>(segment.seq * args_.num_kv_heads + segment.head);
  }
  /// Outputs of a row, four at a time.
  __device__ uint32_t items() const { return static_cast<uint32_t>(args_.group) * kQuads; }

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

  __device__ void join_warps(uint32_t head, uint32_t quad, const Segment& segment, uint32_t slot,
                             bool whole) {
    float max = -INFINITY;
#pragma unroll
    for (int warp = 0; warp < kWarps; ++warp) max = fmaxf(max, stats_[warp * kHeads + head].x);
    Part part;
    const float base = part.move(max);
#pragma unroll
    for (int warp = 0; warp < kWarps; ++warp) {
      const uint32_t line = warp * kHeads + head;
      const float2 stats = stats_[line];
      const float weight = foveal::cuda::exp2_approx(stats.x - base);
      part.sum += stats.y * weight;
      part.scale_add(*reinterpret_cast<const float4*>(results_ + line * kRow + quad * 4), weight);
    }
    if (whole) {
      write(segment, head, quad, part);
      return;
    }
    const uint64_t line = static_cast<uint64_t>(slot) * args_.group + head;
    foveal::cuda::store_relaxed(
        reinterpret_cast<float4*>(args_.partial + line * kHeadDim) + quad,
        float4{mark(part.o.x), mark(part.o.y), mark(part.o.z), mark(part.o.w)});
    if (quad == 0)
      foveal::cuda::store_relaxed(reinterpret_cast<float2*>(args_.stats) + line,
                                  float2{mark(max), mark(part.sum)});
  }

  /// By the CTA that came last of a row's: joins all parts, and leaves zeros.
  __device__ void join_row(const Segment& segment, const Parts& parts) {
    const DecodeJoin join = DecodeJoin::of(items(), kThreads);
    const uint32_t share = join.share(threadIdx.x);
#pragma unroll 1
    for (uint32_t begin = 0; begin < items(); begin += join.threads) {
      const uint32_t item = join.item(threadIdx.x, begin);
      Part part;
      if (join.takes(threadIdx.x, begin, items())) {
        add_parts(part, parts.first, parts.count, share, join.shares, item);
      }
      join_shares(part, share, join.shares, join.threads, item);
      if (share == 0 && item < items()) {
        write(segment, item / kQuads, item % kQuads, part);
      }
      __syncthreads();
    }
    auto* stats =
        reinterpret_cast<float2*>(args_.stats) + static_cast<uint64_t>(parts.first) * args_.group;
    for (uint32_t i = threadIdx.x; i < parts.count * static_cast<uint32_t>(args_.group);
         i += kThreads) {
      __stcg(stats + i, float2{0, 0});
    }
  }

  /// Every shares-th part from `share` on; kAhead parts' loads are on their way together.
  static constexpr int kAhead = 8;
  __device__ void add_parts(Part& part, uint32_t first, uint32_t parts, uint32_t share,
                            uint32_t shares, uint32_t item) const {
    const uint64_t line = static_cast<uint64_t>(first) * args_.group + item / kQuads;
    auto* values = reinterpret_cast<float4*>(args_.partial + line * kHeadDim) + item % kQuads;
    const auto* stats = reinterpret_cast<const float2*>(args_.stats) + line;
    const uint32_t stats_step = shares * static_cast<uint32_t>(args_.group);
    stats += share * static_cast<uint32_t>(args_.group);
    values += static_cast<uint64_t>(share) * items();
#pragma unroll 1
    for (uint32_t i = share; i < parts; i += kAhead * shares) {
      float2 other[kAhead];
      float4 o[kAhead];
      float max = part.max;
      bool there = false;
      do {
        there = true;
#pragma unroll
        for (int ahead = 0; ahead < kAhead; ++ahead) {
          other[ahead] = float2{-INFINITY, 1};
          o[ahead] = float4{1, 1, 1, 1};
          if (i + ahead * shares < parts) {
            other[ahead] = foveal::cuda::load_relaxed(stats + ahead * stats_step);
            o[ahead] = foveal::cuda::load_relaxed(values + ahead * stats_step * kQuads);
          }
        }
#pragma unroll
        for (int ahead = 0; ahead < kAhead; ++ahead) there &= written(other[ahead], o[ahead]);
      } while (!there);
#pragma unroll
      for (int ahead = 0; ahead < kAhead; ++ahead) {
        if (i + ahead * shares < parts)
          __stcg(values + ahead * stats_step * kQuads, float4{0, 0, 0, 0});
      }
#pragma unroll
      for (int ahead = 0; ahead < kAhead; ++ahead) max = fmaxf(max, other[ahead].x);
      const float base = part.move(max);
#pragma unroll
      for (int ahead = 0; ahead < kAhead; ++ahead) {
        const float weight = foveal::cuda::exp2_approx(other[ahead].x - base);
        part.sum += other[ahead].y * weight;
        part.scale_add(o[ahead], weight);
      }
      stats += kAhead * stats_step;
      values += kAhead * stats_step * kQuads;
    }
  }

  /// Threads that summed different parts of one item meet in shared memory.
  __device__ void join_shares(Part& part, uint32_t share, uint32_t shares, uint32_t threads,
                              uint32_t item) {
    if (shares == 1) return;
    float4* values = reinterpret_cast<float4*>(results_);
    float2* stats = reinterpret_cast<float2*>(values + kThreads);
    values[threadIdx.x] = part.o;
    stats[threadIdx.x] = float2{part.max, part.sum};
    __syncthreads();
    if (share != 0 || item >= items()) return;
#pragma unroll 1
    for (uint32_t at = threadIdx.x + threads; at < shares * threads; at += threads) {
      part.add(stats[at].x, stats[at].y, values[at]);
    }
  }

  __device__ void write(const Segment& segment, uint32_t head, uint32_t quad,
                        const Part& part) const {
    write(segment.seq, segment.head * args_.group + static_cast<int32_t>(head),
          static_cast<int>(quad), part.o, part.max, part.sum);
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
