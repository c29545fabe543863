#pragma once

#include <cstdint>

#include "foveal/kernels_top_k.h"

namespace foveal::kernels::cuda {

/// What top-k's kernels are told beside the call: how they spread over CTAs and shared memory.
struct TopKArgs {
  foveal_top_k_params call;
  uint64_t page_inverse;  ///< 2^40 / page_size, rounded up: exact for every index
  int32_t log2_ctas;      ///< of a row: the cluster
  int32_t log2_loads;     ///< of 16 bytes a thread, where registers hold the row
  int32_t capacity;       ///< candidates that a CTA may find; 0: radix selection at once
  int32_t aim;            ///< candidates wanted of a row
  int32_t take_all;       ///< rows up to here are candidates as a whole
  int32_t staged;         ///< indices gathered in shared memory before they are written; 0: none
};

}  // namespace foveal::kernels::cuda
