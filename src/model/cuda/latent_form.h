#pragma once

#include <span>

#include "kernels/paged_attention.h"
#include "model/config.h"

namespace foveal::model {

/// What the form of heads (LatentHeadForm) works with.
struct HeadFormRoom {
  int64_t heads = 0;
  int64_t head_values = 0;  ///< of keys and values of heads at once
  int64_t processors = 1;

  /// How many heads' keys and values of so many keys there is room for; at least one.
  int64_t heads_at_once(const LatentConfig& dims, int64_t keys) const;
};

/// Whether prompt rows that attend to all keys are estimated to take less time in the form of heads
/// than over latents. Few rows of a long context do not: keys and values of heads are made of all
/// of it, and few query blocks do not fill the processors.
bool heads_take_less(const LatentConfig& dims, const HeadFormRoom& room,
                     std::span<const kernels::AttentionSeq> seqs);

}  // namespace foveal::model
