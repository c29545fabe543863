#pragma once

#include <cstddef>
#include <cstdint>

#include "foveal/kernels.h"
#include "kernels/cuda/sm90/prefill_kept.h"

// The first kernel of Skip Softmax prefill in two: votes by scores in int8.

namespace foveal::kernels::cuda {

/// Memory for one call: sequences begin at multiples of 128 rows (prefill_scratch.h).
struct VoteScratch {
  int32_t* starts = nullptr;  ///< [num_seqs + 1], written by the call
  std::byte* keys =
      nullptr;  ///< num_kv_heads * rows * vote_key_bytes (prefill_plan.h), at a multiple of 256
  int64_t rows = 0;             ///< of keys, for all sequences; a multiple of 128
  uint32_t* counter = nullptr;  ///< of work: 0, and 0 again afterwards
};

/// Quantises the keys of a checked call in bf16 or f16 (pages or contiguous rows), votes, and adds
/// to the call's counters. Reads of the call everything but v and out.
void prefill_vote(const foveal_attention_params& call, const VoteScratch& scratch,
                  const foveal::cuda::KeptTiles& kept, void* stream);

}  // namespace foveal::kernels::cuda
