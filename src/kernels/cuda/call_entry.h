#pragma once

#include <cstddef>
#include <stdexcept>

#include "foveal/kernels.h"

namespace foveal::kernels::cuda {

/// For tests and benchmarks: calls an entry of foveal/kernels.h or kernels_rocket.h and throws the
/// message of one that refuses.
template <class Params>
void call_entry(foveal_status (*entry)(const Params*, void*, char*, size_t), const Params& params,
                void* stream) {
  char message[512];
  if (entry(&params, stream, message, sizeof(message)) != FOVEAL_OK) {
    throw std::runtime_error(message);
  }
}

}  // namespace foveal::kernels::cuda
