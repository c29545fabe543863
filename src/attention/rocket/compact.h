#pragma once

#include <cstdint>

#include "attention/selection.h"
#include "base/kv_view.h"
#include "device/stream.h"

namespace foveal::attention::rocket {

/// Copies the selected tokens' K and V of one layer to slots 0, 1, ... of other pages. `kept` is
/// kTokens with a row a KV head, all of one length. The two sets of pages have none in common.
void compact(const KvLayerView& kv, const int32_t* from_pages, const Selection& kept,
             const int32_t* to_pages, Stream& stream);

}  // namespace foveal::attention::rocket
