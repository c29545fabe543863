#pragma once

#include <cstdint>
#include <span>

#include "attention/dsa/index_item.h"
#include "device/stream.h"
#include "kernels/paged_attention.h"

namespace foveal::attention::dsa {

using kernels::cpu::IndexFormat;

/// The lane of index keys of one layer: page p has [page_size][dim] e4m3 values, then [page_size]
/// float32 scales, or [page_size][dim] float32 values.
struct IndexLane {
  std::byte* data = nullptr;
  int32_t page_size = 0;  ///< of the cache
  int32_t dim = 0;
  IndexFormat format = IndexFormat::kFp8;

  kernels::cpu::IndexKeys of(const kernels::AttentionSeq& seq) const;
};

int64_t index_page_bytes(int32_t page_size, int32_t dim, IndexFormat format);

/// Writes the index keys of the sequences' rows to their slots; `k` is [rows, dim] with row stride
/// `stride`, rows as in AttentionSeq.
void store_index_keys(const float* k, int64_t stride, const IndexLane& lane,
                      std::span<const kernels::AttentionSeq> seqs, Stream& stream);

}  // namespace foveal::attention::dsa
