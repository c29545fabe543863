#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/check.h"

namespace foveal::attention {

/// [num_layers]: whether `layers`, the configuration's field `where`, names it. Refuses one that
/// the model does not have.
inline std::vector<bool> listed_layers(const std::vector<int32_t>& layers, int32_t num_layers,
                                       std::string_view where) {
  std::vector<bool> listed(static_cast<size_t>(num_layers));
  for (const int32_t layer : layers) {
    FOVEAL_CHECK(layer >= 0 && layer < num_layers, ErrorKind::kInvalidArgument, where,
                 "got layer {}; need 0 to {}", layer, num_layers - 1);
    listed[static_cast<size_t>(layer)] = true;
  }
  return listed;
}

}  // namespace foveal::attention
