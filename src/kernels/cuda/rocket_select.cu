#include "kernels/cuda/rocket_launch.h"
#include "kernels/cuda/sm90/rocket_select.cuh"

namespace foveal::kernels::cuda {
namespace {

/// The largest logit of each head from those of the parts, a warp a head.
__device__ void join_maxima(const RocketArgs& args, int64_t row, float* largest) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const float* maxima = args.maxima + row * args.parts * args.heads;
  for (auto h = static_cast<int32_t>(threadIdx.x) / 32; h < args.heads; h += kChooseWarps) {
    float most = -INFINITY;
    for (int32_t part = lane; part < args.parts; part += 32) {
      most = fmaxf(most, maxima[part * args.heads + h]);
    }
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
      most = fmaxf(most, __shfl_xor_sync(~0U, most, step));
    }
    if (lane == 0) largest[h] = most;
  }
}

// Computes: from the logits of rocket_score_kernel the list of pages of each (sequence, KV head),
//   as rocket_choose_kernel.
// In/out: RocketArgs; logits, maxima; slots, lengths, pages, count, ranks.
// Units: logits in the log2 domain; ranks are probabilities.
// Launch: a CTA, or a cluster of up to 8, a row: grid (CTAs, rows), 512 threads.
// Needs: sm_90.
// Numerics: as rocket_choose_kernel; neither the number of CTAs nor the batch shows in a rank.
// Source: RocketKV (arXiv 2502.14051) stage two; the selection is ours.
// Measured: docs/kernels/cuda_rocket.md.
template <bool kCluster>
__global__ void __launch_bounds__(kChooseThreads, 2)
    rocket_select_kernel(const __grid_constant__ RocketArgs args) {
  ChooseShared& shared = choose_shared();
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const auto own = static_cast<int64_t>(blockIdx.y);
  const int32_t row = args.first_row + static_cast<int32_t>(own);
  const int32_t head = row % args.num_kv_heads;
  const auto rank = static_cast<int32_t>(blockIdx.x);
  if (kCluster && thread == 0) {
    foveal::cuda::barrier_init(&shared.agreed, 1);
    foveal::cuda::barrier_init(&shared.gathered, 1);
    foveal::cuda::barrier_init_fence();
  }
  __syncwarp();
  if constexpr (kCluster) foveal::cuda::cluster_arrive_relaxed();
  wait_for_previous();
  let_next_start();
  const Entries entries = Entries::of(args, row / args.num_kv_heads, head);
  if (rank == 0 && thread == kChooseThreads / 2) put_lengths(args, entries, head);
  if (entries.plain(args)) {
    list_plainly(args, entries, ListWriter(args, entries, head));
    if constexpr (kCluster) foveal::cuda::cluster_wait();
    return;
  }
  join_maxima(args, own, shared.largest);
  const int32_t slice = entries.slice(static_cast<int32_t>(gridDim.x));
  const int32_t begin = min(rank * slice, entries.count);
  float* logits = args.logits + own * args.heads * args.logits_pitch + begin;
  const bool resident = args.weights_pitch > 0;
  auto* weights = reinterpret_cast<float*>(choose_memory() + kSelectStatic);
  __syncthreads();
  PageSelect<kCluster>(args, entries, row,
                       {logits, args.logits_pitch, resident ? weights : logits,
                        resident ? args.weights_pitch : args.logits_pitch, slice, begin,
                        min(slice, entries.count - begin)})
      .run();
}

}  // namespace

const void* rocket_select(bool cluster) {
  return cluster ? reinterpret_cast<const void*>(&rocket_select_kernel<true>)
                 : reinterpret_cast<const void*>(&rocket_select_kernel<false>);
}

}  // namespace foveal::kernels::cuda
