#include "kernels/cuda/decode_choose.h"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/cuda/attention_check.h"

namespace foveal::kernels::cuda {

namespace {

constexpr int32_t kDefaultSplitKeys = 512;
/// Work is dealt in whole votes, dense or not: the same splits, so that a voting call which drops
/// nothing gives the dense call's bits.
constexpr int32_t kChunkUnits = kDecodeVoteKeys / kDecodeUnit;
/// A step of eight warps: less would leave warps without a unit.
constexpr uint32_t kMinChunksLog2 = 1;
/// Table rows longer than this are not fetched ahead: nobody waits for one entry of a large batch.
constexpr int32_t kMaxPrefetchLines = 2048;
constexpr int32_t kEntriesALine = 32;

int32_t ceil_div(int32_t a, int32_t b) { return (a + b - 1) / b; }

void choose_splits(const foveal_attention_params& params, DecodeChoice& choice) {
  choice.chunk_units = kChunkUnits;
  choice.min_chunks_log2 = kMinChunksLog2;
  choice.max_splits = 0;
  if ((params.flags & FOVEAL_ATTENTION_FIXED_SPLITS) == 0) return;
  const int32_t keys = params.split_keys > 0 ? params.split_keys : kDefaultSplitKeys;
  choice.chunk_units = keys / kDecodeUnit;
  choice.min_chunks_log2 = 0;
  choice.max_splits = ceil_div(params.max_kv_len, keys) + 1;
}

}  // namespace

DecodeChoice decode_choose(const foveal_attention_params& params, int32_t multiprocessors) {
  DecodeChoice choice{};
  choice.passes = decode_passes(params.num_heads / params.num_kv_heads, params.head_dim);
  const int32_t group = params.num_heads / params.num_kv_heads / choice.passes;
  choice.shape = {params.head_dim, element_bytes(params.kv_dtype), ceil_div(group, 8),
                  params.skip_factor > 0};
  choice.grid = std::min(multiprocessors, kMaxDecodeGrid);
  choose_splits(params, choice);
  if (params.page_table != nullptr) {
    const int32_t lines = ceil_div(ceil_div(params.max_kv_len, params.page_size), kEntriesALine);
    if (static_cast<int64_t>(lines) * params.num_seqs <= kMaxPrefetchLines)
      choice.prefetch_lines = static_cast<uint32_t>(lines);
  }
  const int64_t rows = static_cast<int64_t>(params.num_seqs) * params.num_kv_heads * choice.passes;
  const int64_t slots =
      rows * std::max(choice.max_splits, 1) +
      (choice.max_splits > 0 ? 0 : int64_t{kMaxDecodeGrid} * static_cast<int64_t>(kMaxRunsAWorker));
  choice.workspace = decode_workspace(slots, group, params.head_dim);
  return choice;
}

std::string to_string(const DecodeChoice& choice) {
  return fmt::format(
      "decode: head_dim {} kv_bytes {} head_blocks {} passes {} vote {} warps {} stages {} shared "
      "{} "
      "grid {} chunk {} keys min_chunks {} max_splits {}",
      choice.shape.head_dim, choice.shape.kv_bytes, choice.shape.head_blocks, choice.passes,
      choice.shape.vote ? 1 : 0, choice.shape.warps(), choice.shape.stages(),
      choice.shape.shared_bytes(), choice.grid, choice.chunk_units * kDecodeUnit,
      1u << choice.min_chunks_log2, choice.max_splits);
}

}  // namespace foveal::kernels::cuda
