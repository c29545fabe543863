#include "kernels/cuda/attention_check.h"
#include "kernels/cuda/device/pdl.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/rocket.h"
#include "kernels/cuda/rocket_launch.h"

namespace foveal::kernels::cuda {
namespace {

constexpr int kMoveThreads = 256;
constexpr int kListThreads = 512;

// Computes: slot i of each KV head in the pages of to_pages = token kept[head][i] in those of
//   from_pages, K and V.
// In/out: foveal_compact_params.
// Units: pieces of 16 bytes of a row.
// Launch: (pieces of 256 threads, KV head) CTAs.
// Needs: rows at multiples of 16 bytes; the two sets of pages have none in common.
// Numerics: bits are copied.
// Source: ours.
// Measured: bench/results/2026-11-28-cuda-h200.md ("copy of 2,048 tokens").
__global__ void __launch_bounds__(kMoveThreads)
    rocket_compact_kernel(const __grid_constant__ foveal_compact_params p, int32_t pieces,
                          int32_t key_bytes) {
  wait_for_previous();
  let_next_start();
  const auto at = static_cast<int32_t>(blockIdx.x * kMoveThreads + threadIdx.x);
  const int32_t slot = at / pieces;
  if (slot >= p.num_tokens) return;
  const auto head = static_cast<int64_t>(blockIdx.y);
  const int32_t token = p.kept[head * p.kept_stride + slot];
  const int64_t from_page = p.from_pages[token / p.page_size];
  const int64_t to_page = p.to_pages[slot / p.page_size];
  const int64_t from_row = token % p.page_size;
  const int64_t to_row = slot % p.page_size;
  const auto piece = static_cast<int64_t>(at % pieces) * 16;
  const auto move = [&](void* pool, int64_t page_stride, int64_t head_stride,
                        int64_t token_stride) {
    char* base = static_cast<char*>(pool) + head * head_stride * key_bytes + piece;
    const char* from = base + (from_page * page_stride + from_row * token_stride) * key_bytes;
    char* to = base + (to_page * page_stride + to_row * token_stride) * key_bytes;
    *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(from);
  };
  move(p.k, p.k_page_stride, p.k_head_stride, p.k_token_stride);
  move(p.v, p.v_page_stride, p.v_head_stride, p.v_token_stride);
}

// Computes: for each KV head the scoring pages below end_page that hold kept tokens, ascending, and
//   their number before them.
// In/out: foveal_candidates_params.
// Units: pages of page_tokens.
// Launch: a CTA a KV head, 512 threads.
// Needs: kept ascending.
// Numerics: integers.
// Source: ours.
// Measured: in no timed run: once a prompt with `candidates: prompt`.
__global__ void __launch_bounds__(kListThreads)
    rocket_candidates_kernel(const __grid_constant__ foveal_candidates_params p) {
  __shared__ int32_t warps[kListThreads / 32];
  wait_for_previous();
  let_next_start();
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int32_t* kept = p.kept + blockIdx.x * p.kept_stride;
  int32_t* out = p.candidates + blockIdx.x * p.candidates_stride;
  int32_t done = 0;
#pragma unroll 1
  for (int32_t first = 0; first < p.num_tokens; first += kListThreads) {
    const int32_t i = first + static_cast<int32_t>(threadIdx.x);
    const int32_t page = i < p.num_tokens ? kept[i] / p.page_tokens : p.end_page;
    const bool begins = page < p.end_page && (i == 0 || kept[i - 1] / p.page_tokens != page);
    const uint32_t votes = __ballot_sync(~0U, begins);
    if (lane == 0) warps[warp] = __popc(votes);
    __syncthreads();
    int32_t before = done;
    for (int w = 0; w < kListThreads / 32; ++w) {
      before += w < warp ? warps[w] : 0;
      done += warps[w];
    }
    if (begins) out[1 + before + __popc(votes & ((1U << lane) - 1))] = page;
    __syncthreads();
  }
  if (threadIdx.x != 0) return;
  out[0] = done;
  if (blockIdx.x == 0 && p.first_own != nullptr) *p.first_own = p.end_page;
}

// Computes: row r of the chunk's queries to row (position + r) % window of the ring; of a chunk of
//   more than `window` rows the last ones.
// In/out: RocketPush.
// Units: rows; row_bytes and q_stride_bytes in bytes.
// Launch: a CTA of 256 threads a row, 16 bytes a thread and turn.
// Needs: rows of 16-byte pieces.
// Numerics: bits are copied.
// Source: ours.
// Measured: not by itself: in the prompts of bench/results/2026-11-28-rocket.md (H200).
__global__ void __launch_bounds__(kMoveThreads)
    rocket_push_kernel(const __grid_constant__ RocketPush push) {
  wait_for_previous();
  let_next_start();
  const int32_t skipped = max(push.num_rows - push.window, 0);
  const int32_t row = skipped + static_cast<int32_t>(blockIdx.x);
  const char* from = static_cast<const char*>(push.q) + row * push.q_stride_bytes;
  char* to = static_cast<char*>(push.ring) +
             static_cast<int64_t>((push.position + row) % push.window) * push.row_bytes;
  for (int32_t at = static_cast<int32_t>(threadIdx.x) * 16; at < push.row_bytes;
       at += kMoveThreads * 16) {
    *reinterpret_cast<uint4*>(to + at) = *reinterpret_cast<const uint4*>(from + at);
  }
}

}  // namespace

void rocket_push(const RocketPush& push, void* stream) {
  if (push.num_rows <= 0) return;
  const int32_t rows = push.num_rows < push.window ? push.num_rows : push.window;
  launch("rocket_push", rocket_push_kernel,
         {.blocks = dim3(static_cast<unsigned>(rows)), .threads = dim3(kMoveThreads)}, stream,
         push);
}

void launch_rocket_compact(const foveal_compact_params& params, void* stream) {
  const int32_t key_bytes = element_bytes(params.kv_dtype);
  const int32_t pieces = params.head_dim * key_bytes / 16;
  const int64_t threads = static_cast<int64_t>(params.num_tokens) * pieces;
  launch("rocket_compact", rocket_compact_kernel,
         {.blocks = dim3(static_cast<unsigned>((threads + kMoveThreads - 1) / kMoveThreads),
                         static_cast<unsigned>(params.num_kv_heads)),
          .threads = dim3(kMoveThreads)},
         stream, params, pieces, key_bytes);
}

void launch_rocket_candidates(const foveal_candidates_params& params, void* stream) {
  launch(
      "rocket_candidates", rocket_candidates_kernel,
      {.blocks = dim3(static_cast<unsigned>(params.num_kv_heads)), .threads = dim3(kListThreads)},
      stream, params);
}

}  // namespace foveal::kernels::cuda
