#pragma once

#include <optional>
#include <string>
#include <vector>

namespace foveal {

struct Gpu {
  std::string name;
  int major = 0;  ///< compute capability
  int minor = 0;
};

/// What a machine has to offer to this build.
struct GpuList {
  std::string problem;    ///< why there can be none: no driver, CUDA not in this build; or empty
  std::vector<Gpu> gpus;  ///< in the driver's order
};

/// Which GPU `auto` takes, the first that our kernels run on, or why none.
struct GpuChoice {
  std::optional<int> index;
  std::string reason;  ///< one sentence where there is no index
};
GpuChoice choose_gpu(const GpuList& list);

/// Throws kUnsupported, naming what is there and what is supported, unless `cuda:index` will do.
void check_gpu(const GpuList& list, int index);

}  // namespace foveal
