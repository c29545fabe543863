#pragma once

#include <cstdint>

// Plain C++: what asks for tile sizes is built without CUDA, too.
//
// Skip Softmax prefill in two kernels: one decides which key tiles each vote unit keeps and leaves
// a bit a tile in memory, the other attends over those. This is what they share.
//
// A vote unit is 64 query rows of a sequence and one head; tiles are prefill_keys(head_dim) keys at
// absolute positions. A tile is kept when a row of the unit that exists and sees a key of it has
// tile_max - running_max >= log2_threshold, where running_max is the row's largest score in the
// tiles before (a dropped tile never moves it), -inf where it saw none: the first tile that a row
// sees is always kept. Bits of tiles of which no row sees a key are 0.

namespace foveal::cuda {

inline constexpr int32_t kKeptRows = 64;

/// [blocks][num_heads][words] in device memory. Bit t % 32 of word t / 32 is key tile t.
struct KeptTiles {
  uint32_t* bits = nullptr;
  int32_t words = 0;  ///< a unit; those of the longest sequence
};

/// Blocks of 64 rows begin anew with every sequence; this many are enough for all of them.
constexpr int64_t kept_blocks(int64_t num_rows, int64_t num_seqs) {
  return num_rows / kKeptRows + num_seqs;
}

/// The first block of sequence `seq`, whose rows begin at `q_begin` (cu_q[seq]): no two sequences
/// share one, and nothing needs to be added up.
constexpr int64_t kept_first_block(int64_t q_begin, int32_t seq) {
  return q_begin / kKeptRows + seq;
}

constexpr int32_t kept_words(int32_t max_kv_len, int32_t keys_a_tile) {
  return static_cast<int32_t>((int64_t{max_kv_len} + int64_t{keys_a_tile} * 32 - 1) /
                              (int64_t{keys_a_tile} * 32));
}

/// The words of block `block` (kept_first_block + row / 64) and query head `head`. Written are
/// those from the first tile that a row of the unit sees to the last, whole words; no others may be
/// read.
constexpr uint32_t* kept_unit(const KeptTiles& kept, int64_t block, int32_t num_heads,
                              int32_t head) {
  return kept.bits + (block * num_heads + head) * kept.words;
}

}  // namespace foveal::cuda
