#pragma once

#include <cuda.h>

#include <string_view>

namespace foveal::cuda {

/// Entries of the driver that the runtime has no name for. Found at run time, so that the program
/// starts where no driver is.
struct Driver {
  decltype(&::cuTensorMapEncodeTiled) tensor_map_encode_tiled = nullptr;
};

/// Looked up once. Any thread. Throws kUnsupported when the driver has not got one of them.
const Driver& driver();

/// Throws kInternal, naming the call, for anything but success.
void check(CUresult status, std::string_view call);

}  // namespace foveal::cuda
