#pragma once

#include <cstdint>
#include <string>

namespace foveal::kv {

/// Extra storage a method keeps under the page table of K and V.
struct LaneSpec {
  std::string name;
  int64_t bytes_per_page = 0;  ///< of one layer
};

}  // namespace foveal::kv
