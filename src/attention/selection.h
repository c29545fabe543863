#pragma once

#include <cstdint>

namespace foveal::attention {

/// Which keys a step attends to: a value handed from "select" to "compute", never a mask over the
/// cache, so that cost follows what is selected.
enum class SelectionKind : uint8_t {
  kAll,     ///< every key of the sequence
  kPages,   ///< whole pages, per KV head
  kTokens,  ///< single tokens, per KV head
};

/// CSR over (sequence, KV head): entries of row r are indices[offsets[r] .. offsets[r + 1]),
/// ascending and request-local. Both arrays live on the device that computes. Null for kAll.
struct Selection {
  SelectionKind kind = SelectionKind::kAll;
  int32_t num_rows = 0;              ///< sequences * num_kv_heads
  const int32_t* offsets = nullptr;  ///< [num_rows + 1]
  const int32_t* indices = nullptr;  ///< [offsets[num_rows]]
};

}  // namespace foveal::attention
