#pragma once

#include <cstdint>

#include "kernels/paged_attention.h"

namespace foveal::kernels::cuda {

/// Adds to each sequence's counters what its rows could attend to, and what they did: at most
/// `most` keys each.
struct RowPairsParams {
  const int32_t* row_keys = nullptr;  ///< device [rows], DeviceSeqs::row_keys
  const int32_t* cu_q = nullptr;      ///< device [num_seqs + 1], or null: one row a sequence
  int32_t num_seqs = 0;
  int32_t num_heads = 0;
  int32_t most = 0;
  AttentionCounters* counters = nullptr;  ///< device [num_seqs]
};
/// `stream` is a cudaStream_t of the current device.
void add_row_pairs(const RowPairsParams& params, void* stream);

}  // namespace foveal::kernels::cuda
