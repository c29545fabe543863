#pragma once

#include <cstdint>
#include <span>

#include "attention/rocket/rocket_item.h"
#include "base/kv_view.h"
#include "device/stream.h"
#include "kernels/paged_attention.h"

namespace foveal::attention::rocket {

using kernels::cpu::BoundFormat;
using kernels::cpu::BoundKind;

/// A layer's lane of page bounds, under the page table of K and V. For each cache page
///
///     [num_kv_heads][2][head_dim][cache page_size / page_size]
///
/// with the minima of each channel over each page first, then the maxima (of BoundKind::kMeanStd:
/// mean less and plus half the standard deviation): what one channel of the query needs of all
/// pages lies together.
struct PageBounds {
  std::byte* data = nullptr;   ///< [cache pages][bytes_per_page]
  int64_t bytes_per_page = 0;  ///< bounds_bytes(...)
  BoundFormat format = BoundFormat::kE5m2;
  BoundKind kind = BoundKind::kMinMax;
  int32_t page_size = 0;  ///< tokens; a power of two that divides the cache's page size
};

/// Bytes of a cache page of the lane, for either description of the cache.
template <class Cache>
int64_t bounds_bytes(const Cache& cache, int32_t page_size, BoundFormat format) {
  return int64_t{2} * cache.num_kv_heads * cache.head_dim * (cache.page_size / page_size) *
         kernels::cpu::bound_bytes(format);
}

/// Bounds of the pages that hold the sequences' new tokens [kv_len - q_len, kv_len), whose K is in
/// the cache. A page that an earlier call began is done again from its keys.
void update_bounds(const KvLayerView& kv, std::span<const kernels::AttentionSeq> seqs,
                   const PageBounds& bounds, Stream& stream);

/// Refuses a lane that does not fit the cache.
void check_bounds(const KvLayerView& kv, const PageBounds& bounds, std::string_view where);

}  // namespace foveal::attention::rocket
