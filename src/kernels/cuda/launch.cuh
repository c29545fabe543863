#pragma once

#include <cuda_runtime.h>

#include <cstddef>

#include "device/cuda/check.h"

// How every dense kernel is launched: overlapped with the one before it on the stream (programmatic
// dependent launch). A kernel may start while its predecessor still runs; it reads nothing that an
// earlier kernel writes, and writes nothing, before `wait_for_previous()` (device/pdl.cuh). So the
// order of effects is the stream's, and only launch gaps and reads of weights overlap. A graph
// keeps this as a programmatic edge.

namespace foveal::kernels::cuda {

struct Grid {
  dim3 blocks;
  dim3 threads;
  size_t shared_bytes = 0;
  unsigned cluster = 1;  ///< blocks along x
};

template <class... Params, class... Args>
void launch(const char* name, void (*kernel)(Params...), const Grid& grid, void* stream,
            const Args&... args) {
  constexpr size_t kDefaultShared = 48 << 10;
  if (grid.shared_bytes > kDefaultShared) {
    foveal::cuda::check_launch(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(grid.shared_bytes)),
        name);
  }
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim.x = grid.cluster;
  attributes[1].val.clusterDim.y = 1;
  attributes[1].val.clusterDim.z = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid.blocks;
  config.blockDim = grid.threads;
  config.dynamicSmemBytes = grid.shared_bytes;
  config.stream = static_cast<cudaStream_t>(stream);
  config.attrs = attributes;
  config.numAttrs = grid.cluster > 1 ? 2 : 1;
  foveal::cuda::check_launch(cudaLaunchKernelEx(&config, kernel, Params(args)...), name);
}

}  // namespace foveal::kernels::cuda
