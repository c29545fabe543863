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

/// Logits [heads, pitch] of `count` entries from `begin` on, and each head's largest: to maxima
/// [heads], which the thread of each head writes.
template <class Bound, int kHeadDim, int kHeadBlocks>
__device__ inline void score_pages(const RocketArgs& args, const Entries& entries, int32_t head,
                                   int32_t begin, int32_t count, float* logits, int64_t pitch,
                                   float* maxima) {
  using Scorer = PageScorer<Bound, kHeadDim, kHeadBlocks>;
  using Opened = typename Scorer::Opened;
  static_assert(kSelectStatic % alignof(Opened) == 0);
  static_assert(kSelectStatic + sizeof(Opened) <= kChooseStatic);
  auto& opened = *reinterpret_cast<Opened*>(choose_memory() + kSelectStatic);
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
    // Whatever is asked for after the bounds comes after them, so queries go first.
    scorer.look_up(pass);
    if (pass == 0) open_sides(args, q, opened);
    const OpenRow<kHeadDim> opening = open_rows(args, own, group, opened);
    scorer.start();
    if (pass == 0 && !all_channels) leave_out(args.num_channels, opened);
    scale_rows(args, opening, group, all_channels, opened);
    __syncthreads();
    scorer.score(logits + pass * group * pitch, pitch, shared.warp_maxima[thread / 32]);
    __syncthreads();
    if (thread >= group) continue;
    float largest = -INFINITY;
#pragma unroll
    for (int warp = 0; warp < kChooseWarps; ++warp) {
      largest = fmaxf(largest, shared.warp_maxima[warp][thread]);
    }
    maxima[pass * group + thread] = largest;
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
// Launch: a CTA a (sequence, KV head), 512 threads; logits in shared memory.
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
  wait_for_previous();
  let_next_start();
  prefetch_row(args, row / args.num_kv_heads, head);
  const Entries entries = Entries::of(args, row / args.num_kv_heads, head);
  if (thread == kChooseThreads / 2) put_lengths(args, entries, head);
  if (entries.plain(args)) {
    if (thread < 32 && entries.count > 0) {
      make_newest<sizeof(typename Bound::Stored)>(args, entries, head, kHeadDim, thread);
    }
    list_plainly(args, entries, ListWriter(args, entries, head));
    return;
  }
  auto* logits = reinterpret_cast<float*>(choose_memory() + kChooseStatic);
  const int64_t pitch = args.weights_pitch;
  score_pages<Bound, kHeadDim, kHeadBlocks>(args, entries, head, 0, entries.count, logits, pitch,
                                            shared.largest);
  __syncthreads();
  PageSelect<false>(args, entries, row,
                    {logits, pitch, logits, pitch, entries.count, 0, entries.count})
      .run();
}

// Computes: as rocket_choose_kernel, the bounds of the newest page and the logits, of rows too long
//   for a CTA.
// In/out: RocketArgs; bounds; logits [rows, heads, logits_pitch] and maxima [rows, parts, heads].
// Units: as rocket_choose_kernel.
// Launch: grid (parts, rows), 512 threads; a part is an equal share of a row's entries.
// Needs: as rocket_choose_kernel.
// Numerics: as rocket_choose_kernel; the same bits, whatever the parts.
// Source: as rocket_choose_kernel.
// Measured: docs/kernels/cuda_rocket.md.
template <class Bound, int kHeadDim, int kHeadBlocks>
__global__ void __launch_bounds__(kChooseThreads, 1)
    rocket_score_kernel(const __grid_constant__ RocketArgs args) {
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const auto own = static_cast<int64_t>(blockIdx.y);  // of the launch's rows
  const int32_t row = args.first_row + static_cast<int32_t>(own);
  const int32_t head = row % args.num_kv_heads;
  const auto parts = static_cast<int32_t>(gridDim.x);
  const auto part = static_cast<int32_t>(blockIdx.x);
  wait_for_previous();
  let_next_start();
  prefetch_row(args, row / args.num_kv_heads, head);
  const Entries entries = Entries::of(args, row / args.num_kv_heads, head);
  if (entries.plain(args)) {
    if (part == 0 && thread < 32 && entries.count > 0) {
      make_newest<sizeof(typename Bound::Stored)>(args, entries, head, kHeadDim, thread);
    }
    return;
  }
  const int32_t slice = entries.slice(parts);
  const int32_t begin = min(part * slice, entries.count);
  const int64_t pitch = args.logits_pitch;
  score_pages<Bound, kHeadDim, kHeadBlocks>(args, entries, head, begin,
                                            min(slice, entries.count - begin),
                                            args.logits + own * args.heads * pitch + begin, pitch,
                                            args.maxima + (own * parts + part) * args.heads);
}

}  // namespace foveal::kernels::cuda
