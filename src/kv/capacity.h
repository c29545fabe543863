#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "base/dtype.h"
#include "kv/lanes.h"

namespace foveal::kv {

/// What one token's K and V look like. See base/kv_view.h for the layout of a page.
struct KvGeometry {
  int32_t num_layers = 0;
  int32_t num_kv_heads = 0;
  int32_t head_dim = 0;        ///< even
  int32_t value_dim = 0;       ///< above 0: a latent cache (one KV head, no V lane)
  DType dtype = DType::kBF16;  ///< bf16, f16, f32 or f8_e4m3
  int32_t page_size = 0;       ///< tokens, a multiple of 16
};

/// Bytes of K (or of V) of one page in one layer. Throws kInvalidArgument when the geometry is not
/// one a cache can have or when its size overflows.
int64_t lane_page_bytes(const KvGeometry& geometry);

/// How many lanes of such pages a layer has: K and V, or the one of a latent cache.
constexpr int32_t kv_lanes(const KvGeometry& geometry) { return geometry.value_dim > 0 ? 1 : 2; }

/// Bytes of one page over all layers: K, V and the method's lanes. Throws as `lane_page_bytes`.
int64_t bytes_per_page(const KvGeometry& geometry, std::span<const LaneSpec> lanes);

/// The same for one token, rounded up.
int64_t bytes_per_token(const KvGeometry& geometry, std::span<const LaneSpec> lanes);

struct CapacityRequest {
  std::optional<int64_t> max_tokens;  ///< cache size in tokens; absent: a share of what is free
  double free_memory_fraction = 0.5;  ///< in (0, 1]; used when max_tokens is absent
  int64_t free_bytes = 0;             ///< what the device can give; see available_memory()
};

struct CapacityPlan {
  int32_t num_pages = 0;
  int64_t num_tokens = 0;      ///< num_pages * page_size
  int64_t bytes_per_page = 0;  ///< over all layers and lanes
  int64_t num_bytes = 0;       ///< num_pages * bytes_per_page
};

/// How many pages the pool gets: at least one, max_tokens rounded up to whole pages. Throws
/// kInvalidArgument for a request that makes no sense on any machine and kOutOfMemory when
/// free_bytes does not hold max_tokens or, without them, not even one page.
CapacityPlan plan_capacity(const KvGeometry& geometry, std::span<const LaneSpec> lanes,
                           const CapacityRequest& request);

}  // namespace foveal::kv
