#pragma once

#include <cstdint>
#include <span>
#include <variant>
#include <vector>

#include "attention/rocket/dispatch.h"
#include "attention/rocket/page_bounds.h"
#include "base/kv_view.h"
#include "device/stream.h"
#include "kernels/paged_attention.h"

namespace foveal::attention::rocket {

/// Which pages of a sequence may be selected: the listed ones of its prompt, and all that came
/// after.
struct PageCandidates {
  const OwnedSelection* prompt = nullptr;  ///< pages below first_new, a row a KV head; null: all
  int32_t first_new = 0;
};

/// RocketKV's second stage for the newest row of each sequence: which pages it attends to.
struct PageSelectParams {
  const float* q = nullptr;  ///< [rows, num_heads, head_dim], row stride q_stride elements
  int64_t q_stride = 0;
  int32_t num_heads = 0;
  KvLayerView kv;
  std::span<const kernels::AttentionSeq> seqs;  ///< q_len 1; K and bounds hold kv_len tokens
  PageBounds bounds;
  int32_t topk = 0;             ///< pages per KV head, the forced ones included
  int32_t sink = 0;             ///< candidates that are always selected: the first ...
  int32_t recent = 1;           ///< ... and the last, the newest page at least
  bool max_over_group = false;  ///< a page ranks by its best query head, not by their mean
  int32_t num_channels = 0;     ///< query channels that scores use, 1 to head_dim
  float softmax_scale = 1;
  bool exact = false;  ///< float32 arithmetic even where bf16 dot products are at hand
  std::span<const PageCandidates> candidates;  ///< [seqs.size()], or empty: all pages
  /// Null, or what candidates were ranked by, sequence by sequence and KV head by KV head; those of
  /// KV heads that attend to all of theirs are not ranked. For tests and traces.
  std::vector<float>* ranks = nullptr;
};

/// min(topk, candidates) pages of each (sequence, KV head), ascending: the forced ones, and the
/// best of the others, of equals the lowest. See README.md for the equations.
OwnedSelection select_pages(const PageSelectParams& params, Stream& stream);

/// The setting `topr` as a number of channels.
int32_t num_channels(const std::variant<int64_t, double>& topr, int32_t head_dim);

}  // namespace foveal::attention::rocket
