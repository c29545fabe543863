#pragma once

#include "kernels/cuda/device/pdl.cuh"
#include "kernels/cuda/sm90/latent_output.cuh"
#include "kernels/cuda/sm90/latent_producer.cuh"
#include "kernels/cuda/sm90/latent_scores.cuh"

namespace foveal::cuda {

/// Computes:  out[r, h] = softmax(scale * q[r, h] . key) * key[0 .. 512) over the keys of row r, or
///            of a share of them (then relative to 2^reference, for latent_combine).
/// In/out:    q [rows, heads, 576], out [rows, heads, 512] in bf16; the latent cache's rows by
///            lists of slots, by lists of tokens and a page table, or all; kernels_mla.h.
/// Units:     keys and rows; scores unscaled, exponents base 2.
/// Launch:    persistent: one CTA of four warpgroups an SM, which takes every gridDim-th item of 64
///            heads, one row, one split; shared memory sizeof(LatentShared).
/// Needs:     sm_90a; rows of q and of the pool at multiples of 16 bytes, of out at 4.
/// Numerics:  float32 scores, sums and output; probabilities and 656-byte rows' channels rounded to
///            bf16 (exact where scales are powers of two). NaN bytes of e4m3 count as 480. A row
///            without keys gives 0. Deterministic; a row's result depends on its keys, their order
///            and the number of splits.
/// Source:    DeepSeek-V2 (arXiv 2405.04434) absorbed; FlashMLA for the split of the output over
///            warpgroups; the separate scores' warpgroup with queries in registers, the lagging
///            reference and the conversion of e4m3 are ours.
/// Measured:  docs/kernels/cuda_mla.md
template <class Producer>
__global__ void __launch_bounds__(Producer::Traits::kThreads, 1)
    latent_kernel(const __grid_constant__ LatentArgs args) {
  using Traits = typename Producer::Traits;
  extern __shared__ __align__(1024) uint8_t raw[];
  auto& shared = *reinterpret_cast<LatentShared<Traits>*>(raw);
  if (threadIdx.x == 0) {
    for (int i = 0; i < Traits::kStages; ++i) {
      barrier_init(&shared.k_full[i], Producer::kArrivals);
      barrier_init(&shared.k_empty[i], 8);
      barrier_init(&shared.p_full[i], 128);
    }
    for (auto& barrier : shared.raw_full) barrier_init(&barrier, 8);
    for (auto& barrier : shared.raw_empty) barrier_init(&barrier, 4);
    barrier_init(&shared.totals_full, 128);
    barrier_init(&shared.totals_empty, 2 * 128);
    barrier_init_fence();
  }
  __syncthreads();
  kernels::cuda::wait_for_previous();
  kernels::cuda::let_next_start();
  const int32_t items = latent_items(args);
  // By a shuffle, so that the compiler knows it to be the same in a warp.
  const int warpgroup = __shfl_sync(~0U, static_cast<int>(threadIdx.x) / 128, 0);
  if (warpgroup == 0) {
    registers_shrink<Traits::kProducerRegisters>();
    Producer producer{.shared = shared, .args = args};
#pragma unroll 1
    for (auto i = static_cast<int32_t>(blockIdx.x); i < items; i += gridDim.x) {
      const LatentItem item = latent_item(args, i);
      if (item.begin < item.end) producer.run_item(item);
    }
  } else if (warpgroup == 1) {
    registers_grow<Traits::kScoreRegisters>();
    LatentScores<Traits> scores{.shared = shared, .args = args};
#pragma unroll 1
    for (auto i = static_cast<int32_t>(blockIdx.x); i < items; i += gridDim.x) {
      const LatentItem item = latent_item(args, i);
      if (item.begin < item.end) scores.run_item(item);
    }
  } else {
    registers_grow<Traits::kOutputRegisters>();
    LatentOutput<Traits> output{.shared = shared, .args = args, .half = warpgroup - 2};
    typename Producer::Fetch fetch{.shared = shared, .args = args};
    fetch.start();
#pragma unroll 1
    for (auto i = static_cast<int32_t>(blockIdx.x); i < items; i += gridDim.x) {
      const LatentItem item = latent_item(args, i);
      if (item.begin < item.end) {
        output.run_item(item, fetch);
      } else if (args.splits == 1) {
        output.write_empty(item);
      }
    }
  }
}

template <class Producer>
cudaError_t latent_launch(const LatentArgs& args, int32_t num_sms, cudaStream_t stream) {
  auto* kernel = latent_kernel<Producer>;
  constexpr int kBytes = sizeof(LatentShared<typename Producer::Traits>);
  static_assert(kBytes <= 227 * 1024);
  const cudaError_t status =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  if (status != cudaSuccess) return status;
  cudaLaunchAttribute overlap{};
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  const int64_t items = int64_t{args.num_rows} * args.splits * args.tiles;
  cudaLaunchConfig_t config{};
  config.gridDim = static_cast<unsigned>(items < num_sms ? items : num_sms);
  config.blockDim = Producer::Traits::kThreads;
  config.dynamicSmemBytes = kBytes;
  config.stream = stream;
  config.attrs = &overlap;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, kernel, args);
}

}  // namespace foveal::cuda
