#pragma once

#include <cstdint>

#include "attention/selection.h"
#include "device/stream.h"
#include "kernels/paged_attention.h"

namespace foveal::attention::rocket {

/// Decode attention over the selected pages of `page_size` tokens: exact softmax over them, one row
/// a sequence. `selection` is kPages with a row a (sequence, KV head), each with at least one page,
/// or kAll. A sequence that selects all of its pages is kernels::paged_decode's, bit for bit.
/// Counters: `pairs_used` is what was selected. Neither windows nor skip factors.
void attend_pages(const kernels::PagedAttentionParams& params, const Selection& selection,
                  int32_t page_size, Stream& stream);

}  // namespace foveal::attention::rocket
