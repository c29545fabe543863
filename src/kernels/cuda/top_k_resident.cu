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
// Source: guess, verify, refine (arXiv 2604.22312): what lies between two guesses from samples
//   goes to all CTAs, which choose alike; ours.
// Measured: docs/kernels/cuda_top_k.md.
__global__ void __launch_bounds__(kThreads, 2)
    top_k_resident_kernel(const __grid_constant__ TopKArgs args) {
  extern __shared__ __align__(16) unsigned char memory[];
  Resident(args, *reinterpret_cast<ResidentShared*>(memory)).run();
}

}  // namespace
}  // namespace top_k

namespace {

constexpr int32_t kMostLog2Ctas = 4;
constexpr int32_t kMostLog2Loads = 2;
static_assert(1 << kMostLog2Ctas == top_k::kMostCtas && 1 << kMostLog2Loads == top_k::kLoads);
constexpr int64_t kLeast = top_k::kWarps * top_k::kBlock;  // values of a CTA: a load a thread
constexpr int64_t kMost = kLeast << kMostLog2Loads;

/// CTAs of a row, as a power of two: as many as find a multiprocessor each at once (clusters of 16
/// find few such places), or two a multiprocessor where a row's values need as many registers. 0
/// where the other kernel is to be taken.
int32_t spread(int64_t rows, int64_t values, int64_t k, int64_t processors) {
  // Where the last one taken is in the middle of a row it may be near zero, where keys are far
  // apart and guesses in vain; with many rows one of them is.
  constexpr int64_t kFewRows = 4;
  if (rows > kFewRows && values < 3 * k) return 0;
  constexpr int64_t kSlice = 512;  // values of a CTA before others are worth their exchange
  int32_t log2_ctas = kMostLog2Ctas;
  if (rows << log2_ctas > processors / 2) --log2_ctas;
  while (log2_ctas > 0 && rows << log2_ctas > processors) --log2_ctas;
  while (log2_ctas > 1 && values <= kSlice << (log2_ctas - 1)) --log2_ctas;
  while (log2_ctas < kMostLog2Ctas && values > kMost << log2_ctas) ++log2_ctas;
  return values <= kMost << log2_ctas && rows << log2_ctas <= 2 * processors ? log2_ctas : 0;
}

}  // namespace

bool launch_top_k_resident(const TopKArgs& planned, int32_t processors, void* stream) {
  TopKArgs args = planned;
  const foveal_top_k_params& call = args.call;
  const bool aligned = call.starts == nullptr &&
                       reinterpret_cast<uintptr_t>(call.values) % sizeof(float4) == 0 &&
                       (call.num_rows == 1 || call.row_stride % 4 == 0);
  const int64_t values = int64_t{call.max_length} + (aligned ? 0 : 3);
  args.log2_ctas = spread(call.num_rows, values, call.k, processors);
  if (args.log2_ctas == 0) return false;
  args.log2_loads = 0;
  while (values > kLeast << (args.log2_ctas + args.log2_loads)) ++args.log2_loads;
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
