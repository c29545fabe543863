#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/sm90/decode_args.h"

namespace foveal::kernels::cuda {

inline constexpr int32_t kMaxRocketHeads = 128;  ///< query heads of a KV head
inline constexpr int32_t kScoreUnit = 16;  ///< entries a warp scores at a time (rows of one mma)
inline constexpr int32_t kChooseThreads = 512;
inline constexpr int32_t kChooseWarps = kChooseThreads / 32;
inline constexpr int32_t kMostSelectCtas = 8;       ///< of a row: what a cluster may have anywhere
inline constexpr size_t kSelectStatic = 18 * 1024;  ///< bytes before queries or weights
inline constexpr size_t kChooseStatic = 29 * 1024;  ///< before the logits of a CTA that does both

/// What the scoring kernels are compiled for.
struct ScoreShape {
  int32_t head_dim;
  int32_t head_blocks;  ///< blocks of 8 query heads: 1 or 2
};

/// What RocketKV's decode kernels read. "Entries" are the pages of a (sequence, KV head) that are
/// considered: all, or the candidates and then the sequence's own.
struct RocketArgs {
  DecodeArgs decode;
  int32_t num_kv_heads;  ///< without the passes
  int32_t heads;         ///< query heads of a KV head
  int32_t kv_dtype;

  char* bounds;
  int64_t bounds_page_bytes;
  int32_t bound_kind;
  int32_t slot_shift;  ///< log2 of a page's tokens

  int32_t topk;
  int32_t num_channels;
  int32_t sink_pages;
  int32_t recent_pages;
  uint32_t flags;

  /// [num_seqs], or null: null (all pages), or the page from which on all are candidates, and for
  /// each KV head, candidates_stride apart and candidates_offset after it, how many are before
  /// that, and which.
  const int32_t* const* candidates;
  int64_t candidates_offset;
  int64_t candidates_stride;

  int32_t first_row;  ///< (sequence, KV head) of the launch's first row of CTAs

  /// Where scores and selection are two launches: [rows of the launch, heads, logits_pitch], else
  /// null: the one CTA of a row keeps them in shared memory.
  float* logits;
  int32_t logits_pitch;  ///< a row's entries, and a little
  float* maxima;         ///< [rows of the launch, parts, heads] of logits, likewise
  int32_t parts;         ///< scoring CTAs of a row

  int32_t weights_pitch;  ///< of a selecting CTA's entries in shared memory; 0: where logits were
  int32_t gather_offset;  ///< in the shared memory of a cluster's first CTA, of what the others
                          ///< have chosen; 0: they choose together

  int32_t* slots;        ///< [num_seqs, num_kv_heads, topk]: DecodeArgs::slots
  int32_t* lengths;      ///< [num_seqs] tokens of a sequence's longest list
  int32_t* row_lengths;  ///< [num_seqs, num_kv_heads] of each
  int32_t* pages;        ///< [num_seqs, num_kv_heads, pages_stride] or null
  int64_t pages_stride;
  int32_t* count;  ///< [num_seqs, num_kv_heads] or null
  float* ranks;    ///< [num_seqs, num_kv_heads, ranks_stride] or null
  int64_t ranks_stride;
};

}  // namespace foveal::kernels::cuda
