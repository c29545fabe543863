#pragma once

#include <driver_types.h>

#include <string_view>

namespace foveal::cuda {

/// Throws for anything but success: kOutOfMemory where memory ran out, else kInternal, naming the
/// call and, for an error of a kernel that ran behind the host, the kernel this thread launched
/// last. `check(cudaMemcpyAsync(...), "cudaMemcpyAsync")`.
void check(cudaError_t status, std::string_view call);

/// After each launch whose status was not looked at: throws what it found wrong. `kernel` is a
/// literal. With CUDA_LAUNCH_BLOCKING=1 in the environment a kernel's own errors appear here too,
/// under its name.
void check_launch(const char* kernel);

/// The same for a launch that returned its status.
void check_launch(cudaError_t status, const char* kernel);

}  // namespace foveal::cuda
