#include <algorithm>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/sm90/top_k_resident.cuh"
#include "kernels/cuda/top_k_launch.h"

namespace foveal::kernels::cuda {
namespace top_k {
namespace {

// Computes: indices of the k largest values of each row, ascending; of equals the lowest; the slots
//   they lie in.
// In/out: foveal_top_k_params.
// Units: values in float32.
// Launch: a cluster of 2 to 16 CTAs of 512 threads a row, which hold up to 8,192 values each;
//   sizeof(ResidentShared) of shared memory.
// Needs: sm_90.
// Numerics: exact; NaN counts as -inf, -0 equals +0.
// Source: guess, verify, refine (arXiv 2604.22312): what lies between two guesses from samples goes
// to
//   all CTAs, which choose alike; ours.
// Measured: docs/kernels/cuda_top_k.md.
__global__ void __launch_bounds__(kThreads, 2)
    top_k_resident_kernel(const __grid_constant__ TopKArgs args) {
  extern __shared__ __align__(16) unsigned char memory[];
  Resident(args, *reinterpret_cast<ResidentShared*>(memory)).run();
}

}  // namespace
}  // namespace top_k

bool launch_top_k_resident(const TopKArgs& planned, int32_t processors, void* stream) {
  constexpr int32_t kMostLog2Ctas = 4;
  constexpr int32_t kMostLog2Loads = 2;
  static_assert(1 << kMostLog2Ctas == top_k::kMostCtas && 1 << kMostLog2Loads == top_k::kLoads);
  constexpr int64_t kLeast = top_k::kWarps * top_k::kBlock;  // of a CTA: a load a thread
  constexpr int64_t kSlice = 512;   // values of a CTA before others are worth their exchange
  constexpr int32_t kMostRows = 8;  // more clusters do not all run at once
  TopKArgs args = planned;
  const foveal_top_k_params& call = args.call;
  const int64_t places = 2 * int64_t{processors};
  const bool aligned = call.starts == nullptr &&
                       reinterpret_cast<uintptr_t>(call.values) % sizeof(float4) == 0 &&
                       (call.num_rows == 1 || call.row_stride % 4 == 0);
  const int64_t values = int64_t{call.max_length} + (aligned ? 0 : 3);
  args.log2_ctas = kMostLog2Ctas;
  while (args.log2_ctas > 0 && int64_t{call.num_rows} << args.log2_ctas > places) --args.log2_ctas;
  while (args.log2_ctas > 1 && values <= kSlice << (args.log2_ctas - 1)) --args.log2_ctas;
  args.log2_loads = 0;
  while (values > kLeast << (args.log2_ctas + args.log2_loads)) ++args.log2_loads;
  if (call.num_rows > kMostRows || args.log2_ctas == 0 || args.log2_loads > kMostLog2Loads) {
    return false;
  }
  const auto kernel = top_k::top_k_resident_kernel;
  const unsigned ctas = 1U << args.log2_ctas;
  if (ctas > 8) {
    foveal::cuda::check_launch(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1), "top_k");
  }
  const Grid grid{.blocks = dim3(static_cast<unsigned>(call.num_rows) * ctas),
                  .threads = dim3(top_k::kThreads),
                  .shared_bytes = sizeof(top_k::ResidentShared),
                  .cluster = ctas};
  launch("top_k", kernel, grid, stream, args);
  return true;
}

}  // namespace foveal::kernels::cuda
