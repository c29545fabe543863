#pragma once

#include "foveal/kernels_rocket.h"
#include "kernels/cuda/device/convert.cuh"
#include "kernels/cuda/device/pdl.cuh"
#include "kernels/cuda/radix_select.cuh"
#include "kernels/cuda/sm90/rocket_entries.cuh"

namespace foveal::kernels::cuda {

inline constexpr int kSelectThreads = 512;

/// The list of one (sequence, KV head), written entry by entry.
class ListWriter {
 public:
  __device__ ListWriter(const RocketArgs& args, const Entries& entries, int32_t head)
      : args_(args),
        entries_(entries),
        head_(head),
        row_(static_cast<int64_t>(entries.seq) * args.num_kv_heads + head) {}

  __device__ void put(int32_t position, int32_t entry) const {
    const int32_t page = entries_.page(entry);
    args_.slots[row_ * args_.topk + position] = entries_.slot(args_, page);
    if (args_.pages != nullptr) args_.pages[row_ * args_.pages_stride + position] = page;
  }
  /// Sinks and recent pages.
  __device__ bool forced(int32_t entry) const {
    return entry < args_.sink_pages || entry >= entries_.count - args_.recent_pages;
  }
  /// By one thread.
  __device__ void finish() const {
    const int32_t length = entries_.list_length(args_);
    args_.row_lengths[row_] = length;
    if (args_.count != nullptr) args_.count[row_] = min(entries_.count, args_.topk);
    if (head_ == 0) args_.lengths[entries_.seq] = longest();
    if (args_.decode.counters == nullptr) return;
    unsigned long long* counters = args_.decode.counters + static_cast<int64_t>(entries_.seq) * 4;
    const auto add = [&](int which, int64_t by) {
      atomicAdd(counters + which, static_cast<unsigned long long>(by));
    };
    add(0, int64_t{entries_.kv_len} * args_.heads);
    add(1, int64_t{length} * args_.heads);
    add(2, entries_.pages);
    add(3, entries_.pages - min(entries_.count, args_.topk));
  }

 private:
  /// KV heads differ where candidates are fewer than topk.
  __device__ int32_t longest() const {
    int32_t most = entries_.list_length(args_);
    for (int32_t head = 1; entries_.candidates != nullptr && head < args_.num_kv_heads; ++head) {
      most = max(most, Entries::of(args_, entries_.seq, head).list_length(args_));
    }
    return most;
  }

  const RocketArgs& args_;
  const Entries& entries_;
  int32_t head_;
  int64_t row_;
};

/// Each head's largest logit and the inverse of its sum, from those of the blocks, by a warp.
__device__ inline float2 join_blocks(const float* stats, int32_t blocks, int32_t heads, int lane) {
  float top = -INFINITY;
#pragma unroll 1
  for (int32_t block = lane; block < blocks; block += 32) {
    top = fmaxf(top, __ldcg(stats + static_cast<int64_t>(block) * heads * 2));
  }
#pragma unroll
  for (int step = 1; step < 32; step *= 2) top = fmaxf(top, __shfl_xor_sync(~0U, top, step));
  float sum = 0;
#pragma unroll 1
  for (int32_t block = lane; block < blocks; block += 32) {
    const float2 part =
        __ldcg(reinterpret_cast<const float2*>(stats + static_cast<int64_t>(block) * heads * 2));
    sum += part.y * foveal::cuda::exp2_approx(part.x - top);
  }
#pragma unroll
  for (int step = 1; step < 32; step *= 2) sum += __shfl_xor_sync(~0U, sum, step);
  return {top, 1.0F / sum};
}

/// What an entry is ranked by.
__device__ inline float rank_entry(const RocketArgs& args, const float* logits,
                                   const float2* heads) {
  float rank = 0;
  if (args.heads == 4) {  // the usual group: one load
    const float4 s = __ldcg(reinterpret_cast<const float4*>(logits));
    const float own[4] = {s.x, s.y, s.z, s.w};
#pragma unroll
    for (int h = 0; h < 4; ++h) {
      const float weight = foveal::cuda::exp2_approx(own[h] - heads[h].x) * heads[h].y;
      rank = (args.flags & FOVEAL_ROCKET_GROUP_MAX) != 0 ? fmaxf(rank, weight) : rank + weight;
    }
    return rank;
  }
  for (int h = 0; h < args.heads; ++h) {
    const float weight = foveal::cuda::exp2_approx(__ldcg(logits + h) - heads[h].x) * heads[h].y;
    rank = (args.flags & FOVEAL_ROCKET_GROUP_MAX) != 0 ? fmaxf(rank, weight) : rank + weight;
  }
  return rank;
}

// Computes: the list of pages of each (sequence, KV head): the newest, the sinks and the recent
//   ones, and the best others by the group's sum (largest) of softmax over entries, of equals the
//   lowest; all where there are no more than topk.
// In/out: RocketArgs; logits and stats of rocket_score_kernel; slots, lengths, pages, count.
// Units: logits in the log2 domain; ranks are probabilities.
// Launch: a CTA, or a cluster of them, a (sequence, KV head), 512 threads; `cached` floats of
//   shared memory.
// Needs: sm_90. Ranks past `cached` go where the logits lay.
// Numerics: float32; sums of a head's blocks in a fixed order. Selection is exact.
// Source: RocketKV (arXiv 2502.14051) stage two.
// Measured: docs/kernels/cuda_rocket.md.
template <bool kCluster>
__global__ void __launch_bounds__(kSelectThreads)
    rocket_select_kernel(const __grid_constant__ RocketArgs args, int32_t cached) {
  using Select = RadixSelect<kSelectThreads, kCluster>;
  __shared__ typename Select::Shared shared;
  __shared__ float2 heads[kMaxRocketHeads];
  extern __shared__ float cache[];
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const auto thread = static_cast<int32_t>(threadIdx.x);
  wait_for_previous();
  let_next_start();
  const auto row = static_cast<int32_t>(blockIdx.y);
  const Entries entries = Entries::of(args, row / args.num_kv_heads, row % args.num_kv_heads);
  const ListWriter list(args, entries, row % args.num_kv_heads);
  const auto ctas = static_cast<int32_t>(gridDim.x);
  const auto rank = static_cast<int32_t>(blockIdx.x);
  if (rank == 0 && thread == 0) list.finish();
  if (entries.all(args)) {
    for (int32_t entry = rank * kSelectThreads + thread; entry < entries.count;
         entry += ctas * kSelectThreads) {
      list.put(entry, entry);
    }
    return;
  }
  if (rank == 0 && thread == kSelectThreads - 1) list.put(args.topk - 1, entries.count - 1);
  if (args.topk == 1) return;

  const float* stats =
      args.stats + static_cast<int64_t>(row) * (args.max_entries / kScoreBlock) * args.heads * 2;
  const int32_t blocks = (entries.count + kScoreBlock - 1) / kScoreBlock;
  for (int h = thread / 32; h < args.heads; h += kSelectThreads / 32) {
    const float2 joined = join_blocks(stats + h * 2, blocks, args.heads, lane);
    if (lane == 0) heads[h] = joined;
  }
  __syncthreads();
  const int32_t older = entries.count - 1;
  const int32_t slice = (older + ctas - 1) / ctas;
  const int32_t begin = min(rank * slice, older);
  const int32_t own = min(slice, older - begin);
  const bool fits = own <= cached;
  float* logits = args.logits + (static_cast<int64_t>(row) * args.max_entries + begin) * args.heads;
  for (int32_t at = thread; at < own; at += kSelectThreads) {
    float* from = logits + static_cast<int64_t>(at) * args.heads;
    float value = rank_entry(args, from, heads);
    if (args.ranks != nullptr) args.ranks[row * args.ranks_stride + begin + at] = value;
    if (list.forced(begin + at)) value = INFINITY;
    (fits ? cache[at] : *from) = value;
  }
  __syncthreads();
  const StridedValues values{fits ? cache : logits, fits ? 1 : int64_t{args.heads}};
  Select select(shared);
  const typename Select::Threshold threshold =
      select.threshold(values, own, static_cast<uint32_t>(args.topk - 1));
  select.emit(values, own, threshold, [&](uint32_t position, int32_t at) {
    list.put(static_cast<int32_t>(position), begin + at);
  });
}

}  // namespace foveal::kernels::cuda
