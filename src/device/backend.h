#pragma once

#include "device/device.h"

// What each backend provides. cpu/ always does; cuda functions come from cuda/ or, where the build
// has no CUDA, from cuda_stub.cc, so that callers have no #ifdef.

namespace foveal::cpu {

/// Null when the system refuses. Zeroed.
std::byte* allocate(size_t bytes);
void release(std::byte* data, size_t bytes);
/// The smaller of what the system and this process's cgroup can still give.
int64_t available_memory();

}  // namespace foveal::cpu

namespace foveal::cuda {

bool in_build();
std::byte* allocate(Device device, size_t bytes);
void release(Device device, std::byte* data);
int64_t available_memory(Device device);

}  // namespace foveal::cuda
