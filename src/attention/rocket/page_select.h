#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "attention/rocket/dispatch.h"
#include "attention/rocket/page_bounds.h"
#include "base/kv_view.h"
#include "device/stream.h"
#include "kernels/paged_attention.h"

namespace foveal::attention::rocket {

/// RocketKV's second stage for the newest row of each sequence: which pages it attends to.
struct PageSelectParams {
  const float* q = nullptr;  ///< [rows, num_heads, head_dim], row stride q_stride elements
  int64_t q_stride = 0;
  int32_t num_heads = 0;
  KvLayerView kv;
  std::span<const kernels::AttentionSeq> seqs;  ///< q_len 1; K and bounds hold kv_len tokens
  PageBounds bounds;
  int32_t topk = 0;          ///< pages per KV head, the newest one included
  int32_t num_channels = 0;  ///< query channels that scores use, 1 to head_dim
  float softmax_scale = 1;
  /// Null, or what pages were ranked by, sequence by sequence and KV head by KV head; pages of
  /// sequences that attend to all of theirs are not ranked. For tests and traces.
  std::vector<float>* ranks = nullptr;
};

/// min(topk, pages) pages of each (sequence, KV head), ascending: the newest, and the best of the
/// others, of equals the lowest. See README.md for the equations.
OwnedSelection select_pages(const PageSelectParams& params, Stream& stream);

/// The setting `topr` as a number of channels: from 2 on it is one, up to 1 a share.
int32_t num_channels(double topr, int32_t head_dim);

}  // namespace foveal::attention::rocket
