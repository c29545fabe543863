#pragma once

#include <string_view>

#include "device/stream.h"

namespace foveal::kernels::cuda {

/// The stream's cudaStream_t. Throws kUnsupported, naming `kernel`, when it is not a CUDA stream.
void* native_stream(const Stream& stream, std::string_view kernel);

/// Throws kInternal with the kernel's name and the runtime's words unless `error` (a cudaError_t)
/// is success.
void check_cuda(int error, std::string_view kernel);

/// Multiprocessors of the current device; asked once a process and device.
int num_multiprocessors();

}  // namespace foveal::kernels::cuda
