// Computes: counters[s].pairs += heads * sum of row_keys; pairs_used likewise, at most `most` a
//           row.
// In/out:   row_keys [rows], cu_q [num_seqs + 1] or null; counters [num_seqs], added to.
// Units:    (query, key) pairs over all heads.
// Launch:   a warp a sequence.
// Needs:    nothing.
// Numerics: integers.
// Source:   ours.
// Measured: not by itself: in whole steps with counters, DeepSeek-V3.2's shape, four layers (H200,
//           2026-11-28; bench/results/2026-11-28-cuda-dsa-engine.md).

#include "kernels/cuda/device/pdl.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/row_pairs.h"

namespace foveal::kernels::cuda {
namespace {

__global__ void __launch_bounds__(32) row_pairs_kernel(RowPairsParams p) {
  let_next_start();
  wait_for_previous();
  const auto seq = static_cast<int32_t>(blockIdx.x);
  const int32_t begin = p.cu_q != nullptr ? p.cu_q[seq] : seq;
  const int32_t end = p.cu_q != nullptr ? p.cu_q[seq + 1] : seq + 1;
  unsigned long long seen = 0;
  unsigned long long used = 0;
  for (int32_t row = begin + static_cast<int32_t>(threadIdx.x); row < end; row += 32) {
    const int32_t keys = max(0, p.row_keys[row]);
    seen += static_cast<unsigned long long>(keys);
    used += static_cast<unsigned long long>(min(keys, p.most));
  }
#pragma unroll
  for (int step = 16; step > 0; step /= 2) {
    seen += __shfl_xor_sync(0xffffffffU, seen, step);
    used += __shfl_xor_sync(0xffffffffU, used, step);
  }
  if (threadIdx.x != 0) return;
  p.counters[seq].pairs += seen * static_cast<unsigned long long>(p.num_heads);
  p.counters[seq].pairs_used += used * static_cast<unsigned long long>(p.num_heads);
}

}  // namespace

void add_row_pairs(const RowPairsParams& params, void* stream) {
  launch("row_pairs", row_pairs_kernel,
         {.blocks = static_cast<unsigned>(params.num_seqs), .threads = 32}, stream, params);
}

}  // namespace foveal::kernels::cuda
