#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/attention_item.h"

namespace foveal::kernels::cpu {

// What the host half of RocketKV hands to the code of one instruction-set level: plain data.

enum class BoundFormat : uint8_t { kBf16, kE5m2 };
/// What stands for a page's keys in a channel: the least and the largest, or mean -+ spread.
enum class BoundKind : uint8_t { kMinMax, kMeanStd };
constexpr int32_t bound_bytes(BoundFormat format) { return format == BoundFormat::kBf16 ? 2 : 1; }

/// Stage one: some keys of one KV head. A "row" is one window query of one query head; row
/// head * window + i stands at position prompt_len - window + i.
struct RocketWindowItem {
  KvHead kv;
  const float* ring = nullptr;  ///< [window][..] at the KV head's first query head; the query of
                                ///< position p is row p % window
  int64_t ring_stride = 0;
  float* coefs = nullptr;  ///< [group * window][head_dim], written by `window_open`
  int32_t group = 0;
  int32_t window = 0;
  int32_t prompt_len = 0;
  int32_t key_begin = 0;  ///< a multiple of kWindowSplit
  int32_t key_end = 0;
  float scale_log2 = 0;
  bool exact = false;
  float* max = nullptr;        ///< [group * window] of these keys, log2 domain
  float* sum = nullptr;        ///< [group * window] relative to max; 0 where nothing is visible
  const float* lse = nullptr;  ///< [group * window] of all keys, log2 domain
  float* scores = nullptr;     ///< [prompt_len - window]
};

/// Stage two: the bounds of some pages of one cache page and KV head.
struct RocketBoundItem {
  const std::byte* k = nullptr;  ///< K of the KV head in the cache page
  std::byte* bounds = nullptr;   ///< [2][head_dim][cache page_size / page_size]: minima, maxima
  KvFormat format = KvFormat::kBf16;
  BoundFormat bound_format = BoundFormat::kBf16;
  BoundKind kind = BoundKind::kMinMax;
  int32_t cache_page_size = 0;
  int32_t page_size = 0;
  int32_t head_dim = 0;
  int32_t page_begin = 0;  ///< among the cache page's
  int32_t page_end = 0;
  int32_t num_tokens = 0;  ///< of the cache page that are in use
};

/// Stage two: what of one KV head's queries pages are scored with, and the same as a level's code
/// wants it, which `score_open` writes.
struct RocketScoreQuery {
  const int32_t* rows = nullptr;   ///< [num_rows] of the [2 * head_dim] rows of bounds
  const float* coefs = nullptr;    ///< [group][num_rows]
  int32_t* offsets = nullptr;      ///< [num_rows + 1] where the rows begin, in bytes
  float* factors = nullptr;        ///< [num_rows][group], or of pairs of rows
  const int32_t* lines = nullptr;  ///< [num_lines] offsets of the cache lines that the rows lie in
  int32_t num_lines = 0;
};

/// Stage two: scores of the pages in some cache pages against the queries of KV heads that read the
/// same cache pages.
struct RocketScoreItem {
  const std::byte* bounds = nullptr;  ///< the first KV head's part of cache page 0
  int64_t head_bytes = 0;             ///< of a KV head's part
  int64_t bytes_per_page = 0;
  const int32_t* cache_pages = nullptr;
  int32_t num_cache_pages = 0;
  int32_t pages_per_cache_page = 0;
  BoundFormat format = BoundFormat::kBf16;
  const RocketScoreQuery* queries = nullptr;  ///< [num_kv_heads]
  int32_t num_kv_heads = 0;
  int32_t num_rows = 0;
  int32_t group = 0;
  bool exact = false;
  float* scores = nullptr;  ///< [num_kv_heads, group], strides head_stride and score_stride, pages
                            ///< of these cache pages
  int64_t head_stride = 0;
  int64_t score_stride = 0;
};

/// Stage two: from scores to what pages are ranked by.
struct RocketRankItem {
  float* scores = nullptr;   ///< [group][score_stride], overwritten
  float* ranks = nullptr;    ///< [score_stride]
  int64_t score_stride = 0;  ///< a multiple of 16
  int32_t num_pages = 0;
  int32_t group = 0;
  bool max_over_group = false;
};

inline constexpr int32_t kAttendChunk = 16;    ///< tokens that surely share a cache page
inline constexpr int32_t kAttendSplit = 32;    ///< chunks of an item
inline constexpr int32_t kWindowSplit = 1024;  ///< keys of a stage-one task

/// Attention over selected tokens of one KV head, in chunks at multiples of kAttendChunk.
struct RocketAttendItem {
  KvHead kv;
  const float* q = nullptr;          ///< [num_heads, head_dim], contiguous
  const int32_t* chunks = nullptr;   ///< [num_chunks] ascending, position / kAttendChunk
  const uint16_t* tokens = nullptr;  ///< [num_chunks] bit i: the chunk's token i; never 0
  int32_t num_chunks = 0;            ///< 1 to kAttendSplit
  int32_t num_heads = 0;
  float scale_log2 = 0;
  bool exact = false;
  float* max = nullptr;  ///< [num_heads], as DecodeItem's
  float* sum = nullptr;
  float* acc = nullptr;                    ///< [num_heads, padded_dim]
  const RocketAttendItem* next = nullptr;  ///< what this thread may read next: a hint to prefetch
};

struct RocketKernels {
  void (*window_open)(const RocketWindowItem& item);
  void (*window_rows)(const RocketWindowItem& item);
  void (*window_columns)(const RocketWindowItem& item);
  void (*bounds)(const RocketBoundItem& item);
  void (*score_open)(const RocketScoreItem& item);
  void (*scores)(const RocketScoreItem& item);
  void (*rank)(const RocketRankItem& item);
  void (*top)(const float* ranks, int32_t n, int32_t k, int32_t* out);
  size_t (*attend_scratch)(int32_t head_dim, int32_t num_heads);
  void (*attend)(const RocketAttendItem& item, std::byte* scratch);
};

namespace portable {
extern const RocketKernels kRocketKernels;
}
namespace avx2 {
extern const RocketKernels kRocketKernels;
}
namespace avx512 {
extern const RocketKernels kRocketKernels;
}
namespace avx512bf16 {
extern const RocketKernels kRocketKernels;
}

}  // namespace foveal::kernels::cpu
