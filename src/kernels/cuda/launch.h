#pragma once

#include <string_view>

#include "device/stream.h"

namespace foveal::kernels::cuda {

/// The stream's cudaStream_t. Throws kUnsupported, naming `kernel`, when it is not a CUDA stream.
void* native_stream(const Stream& stream, std::string_view kernel);

/// Multiprocessors of the calling thread's device.
int num_multiprocessors();

/// Whether its memory is of the H200's kind (4.9 TB/s) rather than the H100's (3.35).
bool has_fast_memory();

}  // namespace foveal::kernels::cuda
