#pragma once

#include <cstddef>
#include <string_view>

#include "device/stream.h"

namespace foveal::kernels::cuda {

/// The stream's cudaStream_t. Throws kUnsupported, naming `kernel`, when it is not a CUDA stream.
void* native_stream(const Stream& stream, std::string_view kernel);

/// How every kernel of this folder is launched. Overlapped (programmatic dependent launch): a
/// kernel may start while the one before it on the stream still runs; it reads nothing that an
/// earlier kernel writes, and writes nothing, before `griddepcontrol.wait`. So the order of effects
/// is that of the stream, and only launch gaps and weight prefetches overlap. Works inside a graph.
enum class Overlap : bool { kNo, kYes };

}  // namespace foveal::kernels::cuda
