#pragma once

#include "attention/dsa/index_item.h"

namespace foveal::attention::dsa {

/// The kernels of `active_isa()`.
const kernels::cpu::IndexKernels& index_kernels();

}  // namespace foveal::attention::dsa
