#include "kernels/cuda/device/pdl.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/rocket.h"
#include "kernels/cuda/rocket_launch.h"

namespace foveal::kernels::cuda {
namespace {

constexpr int kPoolKeys = 1024;  ///< outputs of a CTA
constexpr int kPoolThreads = 256;

// Computes: pooled[j] = the largest of score[j - kernel_size / 2 .. j + kernel_size / 2],
//   score the sum of a KV head's parts; inf for sinks; the window's tokens at the end of `kept`.
// In/out: PoolArgs.
// Units: keys by position.
// Launch: (1,024 keys, KV head) CTAs of 256 threads; 1,024 + kernel_size floats of shared memory.
// Needs: any GPU.
// Numerics: parts in ascending order; the edges cut the range.
// Source: SnapKV (arXiv 2404.14469), RocketKV (arXiv 2502.14051).
// Measured: bench/results/2026-11-28-cuda-h200.md ("choosing what stays").
__global__ void __launch_bounds__(kPoolThreads)
    rocket_pool_kernel(const __grid_constant__ PoolArgs args) {
  extern __shared__ float scores[];
  wait_for_previous();
  let_next_start();
  const auto head = static_cast<int64_t>(blockIdx.y);
  const int32_t begin = static_cast<int32_t>(blockIdx.x) * kPoolKeys;
  const int32_t half = args.kernel_size / 2;
  const int32_t thread = static_cast<int32_t>(threadIdx.x);
  const int32_t end = min(begin + kPoolKeys, args.prefix);
  for (int32_t i = thread; i < end - begin + 2 * half; i += kPoolThreads) {
    const int32_t key = begin - half + i;
    float sum = -INFINITY;
    if (key >= 0 && key < args.prefix) {
      const float* from = args.scores + head * args.parts * args.prefix + key;
      sum = from[0];
      for (int32_t part = 1; part < args.parts; ++part) {
        sum += from[static_cast<int64_t>(part) * args.prefix];
      }
      if (args.sums != nullptr && key >= begin && key < end) {
        args.sums[head * args.prefix + key] = sum;
      }
    }
    scores[i] = sum;
  }
  __syncthreads();
  for (int32_t i = thread; i < end - begin; i += kPoolThreads) {
    float out = scores[i];
#pragma unroll 8
    for (int32_t off = 1; off < args.kernel_size; ++off) out = fmaxf(out, scores[i + off]);
    if (begin + i < args.sink_tokens) out = INFINITY;
    args.pooled[head * args.prefix + begin + i] = out;
  }
  if (blockIdx.x != 0) return;
  int32_t* kept = args.kept + head * args.budget + args.budget - args.window;
  for (int32_t i = thread; i < args.window; i += kPoolThreads) kept[i] = args.prefix + i;
}

// Computes: kept[head][i] = first + i: what a prompt within its budget keeps, and a layer with a
//   sliding window of any.
// In/out: kept [num_kv_heads, stride] int32.
// Units: positions in tokens.
// Launch: 256 positions a CTA, grid (positions, KV head).
// Needs: any GPU.
// Numerics: integers.
// Source: ours.
// Measured: in no timed run: prompts there are longer than what they keep.
__global__ void keep_range_kernel(int32_t* kept, int64_t stride, int32_t first, int32_t count) {
  wait_for_previous();
  let_next_start();
  const auto i = static_cast<int32_t>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < count) kept[blockIdx.y * stride + i] = first + i;
}

}  // namespace

void launch_rocket_pool(const PoolArgs& args, void* stream) {
  launch("rocket_pool", rocket_pool_kernel,
         {.blocks = dim3(static_cast<unsigned>((args.prefix + kPoolKeys - 1) / kPoolKeys),
                         static_cast<unsigned>(args.num_kv_heads)),
          .threads = dim3(kPoolThreads),
          .shared_bytes = static_cast<size_t>(kPoolKeys + args.kernel_size) * sizeof(float)},
         stream, args);
}

void rocket_keep_range(int32_t* kept, int64_t stride, int32_t num_kv_heads, int32_t first,
                       int32_t count, void* stream) {
  launch("rocket_keep_range", keep_range_kernel,
         {.blocks = dim3(static_cast<unsigned>((count + kPoolThreads - 1) / kPoolThreads),
                         static_cast<unsigned>(num_kv_heads)),
          .threads = dim3(kPoolThreads)},
         stream, kept, stride, first, count);
}

}  // namespace foveal::kernels::cuda
