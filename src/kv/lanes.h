#pragma once

#include <cstdint>
#include <string>

namespace foveal::kv {

/// Extra storage a method keeps under the page table of K and V: zeroed with the page, freed with
/// it, opaque to everyone but the method.
struct LaneSpec {
  std::string name;
  int64_t bytes_per_page = 0;  ///< of one layer
};

}  // namespace foveal::kv
