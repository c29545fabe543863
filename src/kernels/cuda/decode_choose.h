#pragma once

#include <cstdint>
#include <string>

#include "foveal/kernels.h"
#include "kernels/cuda/decode_plan.h"

namespace foveal::kernels::cuda {

/// What a call of paged decode will run: a pure function of the call's sizes and the device's.
struct DecodeChoice {
  DecodeShape shape;
  int32_t passes;            ///< over K and V, each for a part of a KV head's query heads
  int32_t grid;              ///< CTAs; each finds its work from the lengths on the device
  int32_t chunk_units;       ///< the grain of that work
  uint32_t min_chunks_log2;  ///< fewest chunks a CTA
  int32_t max_splits;        ///< fixed splits: slots of a row; 0: as dealt
  uint32_t prefetch_lines;   ///< 128-byte lines of a page table row to fetch ahead
  DecodeWorkspace workspace;
};

/// Grid of any device that these kernels know; keeps the workspace a function of sizes alone.
inline constexpr int32_t kMaxDecodeGrid = 160;

DecodeChoice decode_choose(const foveal_attention_params& params, int32_t multiprocessors);

/// One line for errors.
std::string to_string(const DecodeChoice& choice);

/// Throws Error(kInvalidArgument or kUnsupported), `[attention_decode] got X; need Y`.
void decode_check(const foveal_attention_params& params);
/// The part of it that needs sizes alone: decode_choose takes what passes.
void decode_check_sizes(const foveal_attention_params& params);

}  // namespace foveal::kernels::cuda
