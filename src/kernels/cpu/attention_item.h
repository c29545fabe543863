#pragma once

#include <cstddef>
#include <cstdint>

namespace foveal::kernels::cpu {

// What the host half of paged attention hands to the code of one instruction-set level. Plain data:
// a level's objects must instantiate nothing that other levels could share.

enum class KvFormat : uint8_t { kBf16, kF16, kF32 };

/// One sequence's K and V of one KV head, in pages (see base/kv_view.h for the layout).
struct KvHead {
  const std::byte* k = nullptr;  ///< this head's part of page 0
  const std::byte* v = nullptr;
  int64_t page_bytes = 0;
  const int32_t* pages = nullptr;
  int32_t page_size = 0;
  int32_t head_dim = 0;
  KvFormat format = KvFormat::kBf16;
};

/// Skip Softmax of one sequence: a tile is dropped below `threshold` (log2 domain) when `on`.
struct SkipRule {
  bool on = false;
  float threshold = 0;
};

/// Work done, to be added to the sequence's AttentionCounters.
struct TileCounts {
  uint64_t pairs_dropped = 0;
  uint64_t tiles = 0;
  uint64_t tiles_skipped = 0;
};

/// Some rows and query heads of one sequence that share a KV head.
struct PrefillItem {
  KvHead kv;
  const float* q = nullptr;  ///< the sequence's first row, at the item's first query head
  float* out = nullptr;      ///< likewise
  int64_t q_stride = 0;
  int64_t out_stride = 0;
  int32_t first_row = 0;  ///< position of the sequence's first row in this call
  int32_t row_begin = 0;  ///< positions of the item's rows; begin and end may cut a query tile
  int32_t row_end = 0;
  int32_t num_heads = 0;
  int32_t kv_len = 0;
  int32_t window = 0;
  float scale_log2 = 0;  ///< softmax scale times log2(e)
  bool exact = false;
  bool count = false;
  SkipRule skip;
  uint8_t* tile_map =
      nullptr;  ///< [query tiles][heads][key tiles] at the item's first head, or null
  int64_t map_tile_stride = 0;
  int64_t map_head_stride = 0;
};

/// One split of one sequence's newest row, for all query heads of a KV head.
struct DecodeItem {
  KvHead kv;
  const float* q = nullptr;  ///< [num_heads, head_dim], contiguous
  int32_t num_heads = 0;
  int32_t key_begin = 0;  ///< keys [begin, end) of one split, the window applied
  int32_t key_end = 0;
  int32_t row_begin = 0;  ///< the same of the whole row
  int32_t row_end = 0;
  float scale_log2 = 0;
  bool exact = false;
  bool count = false;
  SkipRule skip;
  uint8_t* tile_map = nullptr;        ///< [key tiles] of this KV head, or null
  const std::byte* next_k = nullptr;  ///< what this thread may read next: a hint to prefetch
  float* max = nullptr;               ///< [num_heads] running maximum, log2 domain
  float* sum = nullptr;               ///< [num_heads]
  float* acc = nullptr;               ///< [num_heads, padded_dim]: unnormalised, relative to max
};

/// Joins the splits of one row's query heads.
struct CombineItem {
  const float* max = nullptr;  ///< [num_splits, num_heads]
  const float* sum = nullptr;
  const float* acc = nullptr;  ///< [num_splits, num_heads, padded_dim]
  float* out = nullptr;        ///< [num_heads, head_dim], contiguous
  int32_t num_splits = 0;
  int32_t num_heads = 0;
  int32_t head_dim = 0;
};

/// One token's K and V of one KV head.
struct StoreItem {
  const float* k = nullptr;  ///< [head_dim]
  const float* v = nullptr;
  std::byte* k_head = nullptr;  ///< this head's part of the token's page
  std::byte* v_head = nullptr;
  int32_t slot = 0;
  int32_t page_size = 0;
  int32_t head_dim = 0;
  KvFormat format = KvFormat::kBf16;
};

/// Channels of a decode accumulator's row: whole vectors at every level.
constexpr int32_t padded_dim(int32_t head_dim) { return (head_dim + 15) / 16 * 16; }

constexpr int32_t kRowBlock = 32;  ///< prefill items begin and end at multiples (but for a chunk's)
constexpr int32_t kMaxItemHeads = 8;   ///< query heads of a prefill item
constexpr int32_t kMaxItemGroups = 8;  ///< row blocks times heads of one

struct AttentionKernels {
  size_t (*prefill_scratch)(int32_t head_dim);
  void (*prefill)(const PrefillItem& item, std::byte* scratch, TileCounts& counts);
  size_t (*decode_scratch)(int32_t head_dim, int32_t num_heads);
  void (*decode)(const DecodeItem& item, std::byte* scratch, TileCounts& counts);
  void (*combine)(const CombineItem& item);
  void (*store)(const StoreItem& item);
};

namespace portable {
extern const AttentionKernels kAttentionKernels;
}
namespace avx2 {
extern const AttentionKernels kAttentionKernels;
}
namespace avx512 {
extern const AttentionKernels kAttentionKernels;
}
namespace avx512bf16 {
extern const AttentionKernels kAttentionKernels;
}

}  // namespace foveal::kernels::cpu
