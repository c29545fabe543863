#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <map>
#include <mutex>
#include <utility>

#include "device/cuda/check.h"
#include "device/cuda/properties.h"

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

/// More than 48 KiB of shared memory must be asked for, once a kernel and device.
inline void allow_shared(const char* name, const void* kernel, size_t bytes) {
  constexpr size_t kDefaultShared = 48 << 10;
  if (bytes <= kDefaultShared) return;
  static std::mutex mutex;
  static std::map<std::pair<const void*, int>, size_t> allowed;
  const std::lock_guard lock(mutex);
  size_t& most = allowed[{kernel, foveal::cuda::current_device()}];
  if (bytes <= most) return;
  foveal::cuda::check_launch(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           static_cast<int>(bytes)),
      name);
  most = bytes;
}

/// A kernel of unknown type; `arguments` are the addresses of its parameters.
inline void launch_erased(const char* name, const void* kernel, const Grid& grid, void* stream,
                          void** arguments) {
  allow_shared(name, kernel, grid.shared_bytes);
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
  foveal::cuda::check_launch(cudaLaunchKernelExC(&config, kernel, arguments), name);
}

}  // namespace foveal::kernels::cuda
