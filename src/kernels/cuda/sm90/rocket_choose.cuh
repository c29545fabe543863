#pragma once

#include "kernels/cuda/sm90/rocket_score.cuh"
#include "kernels/cuda/sm90/rocket_select.cuh"

namespace foveal::kernels::cuda {

/// What is read as soon as a length is known: queries and the beginning of the page table, a line
/// of 128 bytes a thread.
__device__ inline void prefetch_row(const RocketArgs& args, int32_t seq, int32_t head) {
  constexpr int kLine = 128;
  const int32_t line = static_cast<int32_t>(threadIdx.x) * kLine;
  const DecodeArgs& decode = args.decode;
  if (line < min(decode.page_table_stride, int64_t{4096}) * 4) {
    foveal::cuda::prefetch_l2(
        reinterpret_cast<const char*>(decode.page_table + seq * decode.page_table_stride) + line);
  }
  if (line < args.heads * decode.q_head_bytes) {
    foveal::cuda::prefetch_l2(decode.q + seq * decode.q_row_bytes +
                              int64_t{head} * args.heads * decode.q_head_bytes + line);
  }
}

/// Logits of this CTA's entries and each head's largest.
template <class Bound, int kHeadDim, int kHeadBlocks>
__device__ inline void score_pages(const RocketArgs& args, const Entries& entries, int32_t head,
                                   float* logits, int32_t begin, int32_t count) {
  using Scorer = PageScorer<Bound, kHeadDim, kHeadBlocks>;
  using Opened = typename Scorer::Opened;
  static_assert(kChooseOpened % alignof(Opened) == 0);
  static_assert(kChooseOpened + sizeof(Opened) <= kChooseStatic);
  auto& opened = *reinterpret_cast<Opened*>(choose_memory() + kChooseOpened);
  ChooseShared& shared = choose_shared();
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const int32_t group = args.decode.group;
  const char* q = args.decode.q + entries.seq * args.decode.q_row_bytes +
                  static_cast<int64_t>(head) * args.heads * args.decode.q_head_bytes;
  const bool all_channels = args.num_channels >= kHeadDim;
  Scorer scorer(args, entries, head, begin, count, opened);
#pragma unroll 1
  for (int32_t pass = 0; pass < static_cast<int32_t>(args.decode.passes.divisor); ++pass) {
    const char* own = q + int64_t{pass} * group * args.decode.q_head_bytes;
    scorer.start(pass);
    open_rows(args, own, group, opened);
    if (pass == 0) {
      open_sides(args, q, opened);
      if (!all_channels) leave_out(args, opened);
    }
    if (!all_channels) make_up(args, own, group, opened);
    __syncthreads();
    scorer.score(logits + int64_t{pass} * group * args.logits_pitch,
                 shared.warp_maxima[thread / 32]);
    __syncthreads();
    if (thread >= group) continue;
    float largest = -INFINITY;
#pragma unroll
    for (int warp = 0; warp < kChooseWarps; ++warp) {
      largest = fmaxf(largest, shared.warp_maxima[warp][thread]);
    }
    shared.maxima[pass * group + thread] = largest;
  }
}

// Computes: bounds of each sequence's newest page from its keys; s[h][P] = scale t[h] sum over
//   channels of q[h][i] b[i][P] of all entries (include/foveal/kernels_rocket.h); the list of pages
//   of each (sequence, KV head): the newest, the sinks and the recent ones, and the best others by
//   the group's sum (largest) of softmax over entries of s, of equals the lowest; all where there
//   are no more than topk.
// In/out: RocketArgs; bounds [cache pages][KV heads][pages][2][head_dim] e5m2 or bf16; slots,
//   lengths, pages, count, ranks.
// Units: entries of 16 (a warp's step); logits in the log2 domain; ranks are probabilities.
// Launch: a CTA, or a cluster of up to 8, a (sequence, KV head): grid (CTAs, rows), 512 threads; a
//   CTA's logits in shared memory, or in the workspace where they do not fit.
// Needs: sm_90; rows of bounds at multiples of 16 bytes; bf16 bounds: bf16 queries.
// Numerics: e5m2 bounds are exact in f16, as are the queries, scaled by a power of two a row;
//   float32 sums. A page's logit depends on nothing beside it. Logits are held within 1e30 and a
//   NaN becomes 1e30. Weights are added up in steps of 2^-40, exactly. Selection is exact.
// Source: RocketKV (arXiv 2502.14051) stage two; rows of bounds on tensor cores are ours.
// Measured: docs/kernels/cuda_rocket.md.
template <class Bound, int kHeadDim, int kHeadBlocks>
__global__ void __launch_bounds__(kChooseThreads, 1)
    rocket_choose_kernel(const __grid_constant__ RocketArgs args) {
  ChooseShared& shared = choose_shared();
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const auto row = static_cast<int32_t>(blockIdx.y);
  const int32_t head = row % args.num_kv_heads;
  const auto ctas = static_cast<int32_t>(gridDim.x);
  const auto rank = static_cast<int32_t>(blockIdx.x);
  wait_for_previous();
  let_next_start();
  prefetch_row(args, row / args.num_kv_heads, head);
  const Entries entries = Entries::of(args, row / args.num_kv_heads, head);
  const ListWriter list(args, entries, head);
  const bool all = entries.all(args);
  if (rank == 0 && thread == kChooseThreads / 2) list.finish();
  if (all || args.topk == 1) {
    if (rank == 0 && thread < 32 && entries.count > 0) {
      make_newest<sizeof(typename Bound::Stored)>(args, entries, head, kHeadDim, thread);
    }
    const int32_t first = all ? 0 : entries.count - 1;
    for (int32_t at = first + rank * kChooseThreads + thread; at < entries.count;
         at += ctas * kChooseThreads) {
      list.put(at - first, at);
    }
    return;
  }
  const int32_t units = (entries.count + kScoreUnit - 1) / kScoreUnit;
  const int32_t slice = (units + ctas - 1) / ctas * kScoreUnit;
  const int32_t begin = min(rank * slice, entries.count);
  const int32_t own = min(slice, entries.count - begin);
  auto* logits = reinterpret_cast<float*>(choose_memory() + kChooseStatic);
  if (args.logits != nullptr) {
    logits =
        args.logits + (static_cast<int64_t>(row) * ctas + rank) * args.heads * args.logits_pitch;
  }
  if (thread == 0) {
    shared.entries = entries;
    foveal::cuda::barrier_init(&shared.agreed[0], 1);
    foveal::cuda::barrier_init(&shared.agreed[1], 1);
    foveal::cuda::barrier_init_fence();
  }
  __syncwarp();
  if (ctas > 1) foveal::cuda::cluster_arrive_relaxed();
  score_pages<Bound, kHeadDim, kHeadBlocks>(args, entries, head, logits, begin, own);
  if (ctas > 1) {
    select_pages<true>(args, row, logits, begin, own);
  } else {
    select_pages<false>(args, row, logits, begin, own);
  }
  if (rank == 0 && thread == 0) list.put(args.topk - 1, entries.count - 1);
}

}  // namespace foveal::kernels::cuda
