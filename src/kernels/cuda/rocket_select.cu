#include <algorithm>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/rocket_launch.h"
#include "kernels/cuda/sm90/rocket_select.cuh"

namespace foveal::kernels::cuda {

void launch_rocket_select(const RocketArgs& args, int32_t processors, void* stream) {
  constexpr int32_t kSlice = 8192;  // entries of a CTA, before others are worth their barriers
  constexpr int32_t kMostCached = 40 * 1024;
  const auto rows = static_cast<unsigned>(args.decode.num_seqs * args.num_kv_heads);
  unsigned ctas = 1;
  while (ctas < 8 && static_cast<int32_t>(ctas) * kSlice < args.max_entries &&
         rows * ctas <= static_cast<unsigned>(processors)) {
    ctas *= 2;
  }
  const int32_t slice =
      (args.max_entries + static_cast<int32_t>(ctas) - 1) / static_cast<int32_t>(ctas);
  const int32_t cached = std::min(slice, kMostCached);
  const Grid grid{.blocks = dim3(ctas, rows),
                  .threads = dim3(kSelectThreads),
                  .shared_bytes = static_cast<size_t>(cached) * sizeof(float),
                  .cluster = ctas};
  launch("rocket_select", ctas > 1 ? rocket_select_kernel<true> : rocket_select_kernel<false>, grid,
         stream, args, cached);
}

}  // namespace foveal::kernels::cuda
