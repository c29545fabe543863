#pragma once

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"

namespace foveal {

/// One layer's K and V lanes. Pages are indexed by page id. On a CPU a page of one lane is, per KV
/// head,
///
///     K: [num_kv_heads][head_dim / pair][page_size][pair]
///     V: [num_kv_heads][page_size / pair][head_dim][pair]
///
/// with pair = 2 for BF16 and 1 for F16 and F32. So both Q.K^T and P.V read rows of one vector of
/// keys (channels) with the reduction dimension in pairs, which is what the bf16 dot product wants,
/// and no kernel ever transposes the cache. On CUDA both lanes are
///
///     [num_kv_heads][page_size][head_dim]
///
/// in bf16, f16 or e4m3, so that a tile of one head's keys is one box in memory.
///
/// A latent cache (MLA; value_dim > 0) has one KV head and no V lane: a page of K is, on either
/// device,
///
///     [page_size][head_dim]
///
/// in bf16, f16 or f32 (CUDA: bf16), and the first value_dim channels of a row are its value. In
/// e4m3 (CUDA) a row is kFp8LatentRowBytes long: value_dim e4m3 values, a float32 scale for each
/// 128 of them (powers of two; a stored value times its scale is the channel), and the rest of the
/// channels in bf16. That is FlashMLA's "FP8 with scale" row.
///
/// Slots past a
/// sequence's length hold finite values (pages are zeroed when a sequence takes them), so that a
/// masked slot times zero is zero.
struct KvLayerView {
  std::byte* k = nullptr;  ///< [num_pages][page_bytes]
  std::byte* v = nullptr;  ///< [num_pages][page_bytes]
  int64_t page_bytes = 0;  ///< of one lane of one layer: num_kv_heads * head_dim * page_size * size
  DType dtype = DType::kBF16;
  int32_t num_pages = 0;
  int32_t page_size = 0;  ///< tokens, a multiple of 16
  int32_t num_kv_heads = 0;
  int32_t head_dim = 0;   ///< even
  int32_t value_dim = 0;  ///< above 0: a latent cache, see above
  float k_scale = 1;      ///< e4m3: a stored value times this is the key
  float v_scale = 1;
  /// The method's lanes of this layer, in its order, each [num_pages][LaneSpec::bytes_per_page];
  /// null where it has none.
  std::byte* const* lanes = nullptr;

  std::byte* k_page(int32_t page) const { return k + page * page_bytes; }
  std::byte* v_page(int32_t page) const { return v + page * page_bytes; }
};

/// Of 512 value channels and 64 that rotate.
inline constexpr int32_t kFp8LatentRowBytes = 656;

/// Channels of a head's output.
constexpr int32_t out_dim(const KvLayerView& kv) {
  return kv.value_dim > 0 ? kv.value_dim : kv.head_dim;
}

constexpr int32_t kv_pair(DType dtype) { return dtype == DType::kBF16 ? 2 : 1; }

}  // namespace foveal
