#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace foveal::kv {

/// Extra storage a method keeps under the page table of K and V: zeroed with the page, freed with
/// it, opaque to everyone but the method.
struct LaneSpec {
  std::string name;
  int64_t bytes_per_page = 0;  ///< of one layer
  /// [num_layers]: 0 = the layer has no such lane; empty: every layer has.
  std::vector<uint8_t> layers = {};

  bool in_layer(int32_t layer) const {
    return layers.empty() || layers.at(static_cast<size_t>(layer)) != 0;
  }
};

}  // namespace foveal::kv
