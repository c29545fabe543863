#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/kv_view.h"
#include "device/device.h"
#include "kv/capacity.h"
#include "kv/lanes.h"
#include "kv/page_allocator.h"

namespace foveal::kv {

/// The memory behind the page ids: for every layer one K lane, one V lane (but for a latent cache)
/// and the method's lanes, each [num_pages][bytes]. On a CPU the system backs a page of it when it
/// is first written, so a pool that is larger than its use costs nothing. On CUDA all K and V lanes
/// are one piece of memory (`pool`), so that one kernel reaches any of their pages.
class KvStorage {
 public:
  /// Throws kInvalidArgument for a geometry, lane or page count that cannot be (see
  /// `bytes_per_page`) and kOutOfMemory when the device does not have the memory.
  KvStorage(Device device, const KvGeometry& geometry, std::span<const LaneSpec> lanes,
            int32_t num_pages);

  const KvGeometry& geometry() const { return geometry_; }
  int32_t num_pages() const { return num_pages_; }
  /// Over all layers and lanes. Times the pages held, this is the memory in use.
  int64_t bytes_per_page() const { return bytes_per_page_; }

  KvLayerView layer_view(int32_t layer) const;

  int32_t num_lanes() const { return static_cast<int32_t>(lanes_.size()); }
  const LaneSpec& lane_spec(int32_t lane) const;
  /// Start of a method's lane in one layer, [num_pages][lane_spec(lane).bytes_per_page]; null where
  /// the layer has none. Lanes are numbered as given to the constructor.
  std::byte* lane_data(int32_t lane, int32_t layer) const;
  std::byte* lane_page(int32_t lane, int32_t layer, PageId page) const;

  /// On CUDA: where the pages of all layers' K and V begin, back to back.
  std::byte* pool() const { return pool_.data(); }
  /// Of K (or of V) of one page in one layer.
  int64_t lane_page_bytes() const { return kv_page_bytes_; }
  /// Appends the places of a page's K and V in all layers, counted from `pool` in pages.
  void append_pool_pages(PageId page, std::vector<int32_t>& places) const;

  /// On a CPU: makes pages that a sequence has just taken read as zero, in the layers
  /// [first_layer, end_layer). Threads may call it at once for different layers.
  void zero_pages(int32_t first_layer, int32_t end_layer, std::span<const PageId> pages) const;

 private:
  struct Lane {
    LaneSpec spec;
    std::vector<Buffer> buffers;     ///< empty for K and V on CUDA
    std::vector<std::byte*> layers;  ///< [num_layers], null where the layer has none; or empty
  };

  Lane make_lane(LaneSpec spec) const;
  Lane lane_of_pool(LaneSpec spec, int32_t which) const;

  Device device_;
  KvGeometry geometry_;
  int32_t num_pages_ = 0;
  int64_t kv_page_bytes_ = 0;
  int64_t bytes_per_page_ = 0;
  Buffer pool_;
  Lane k_;
  Lane v_;
  std::vector<Lane> lanes_;
  std::vector<std::byte*> lanes_by_layer_;  ///< [num_layers][lanes], for views
};

}  // namespace foveal::kv
