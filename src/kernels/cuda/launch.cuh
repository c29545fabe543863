#pragma once

#include <cuda_runtime.h>

#include <tuple>

#include "kernels/cuda/launch_erased.h"

namespace foveal::kernels::cuda {

/// launch_erased of a kernel whose type is known.
template <class... Params, class... Args>
void launch(const char* name, void (*kernel)(Params...), const Grid& grid, void* stream,
            const Args&... args) {
  std::tuple<Params...> params{args...};
  std::apply(
      [&](Params&... each) {
        void* arguments[] = {&each...};
        launch_erased(name, reinterpret_cast<const void*>(kernel), grid, stream, arguments);
      },
      params);
}

}  // namespace foveal::kernels::cuda
