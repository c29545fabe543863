#pragma once

#include <cstdint>
#include <vector>

#include "attention/rocket/rocket_item.h"
#include "attention/selection.h"
#include "base/kv_view.h"

namespace foveal::attention::rocket {

/// The kernels of `active_isa()`.
const kernels::cpu::RocketKernels& rocket_kernels();

/// A Selection with its arrays, on the host.
struct OwnedSelection {
  SelectionKind kind = SelectionKind::kAll;
  std::vector<int32_t> offsets;
  std::vector<int32_t> indices;

  Selection view() const;
};

/// Refuses caches and page sizes that the kernels cannot read: kUnsupported or kInvalidArgument.
void check_cache(const KvLayerView& kv, std::string_view where);
void check_heads(const KvLayerView& kv, int32_t num_heads, std::string_view where);
void check_page_size(int32_t cache_page_size, int32_t page_size, std::string_view where);

}  // namespace foveal::attention::rocket
