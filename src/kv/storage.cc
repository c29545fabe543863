#include "kv/storage.h"

#include <fmt/format.h>

#include <cstring>

#include "base/check.h"
#include "base/math.h"

namespace foveal::kv {

KvStorage::KvStorage(Device device, const KvGeometry& geometry, std::span<const LaneSpec> lanes,
                     int32_t num_pages)
    : device_(device),
      geometry_(geometry),
      num_pages_(num_pages),
      kv_page_bytes_(kv::lane_page_bytes(geometry)),
      bytes_per_page_(kv::bytes_per_page(geometry, lanes)) {
  FOVEAL_CHECK(num_pages > 0, ErrorKind::kInvalidArgument, "kv_cache",
               "got {} pages; need 1 or more", num_pages);
  // Every buffer is a part of this product, so none of their sizes overflows.
  FOVEAL_CHECK(checked_mul(num_pages, bytes_per_page_).has_value(), ErrorKind::kInvalidArgument,
               "kv_cache", "got {} pages of {} bytes; need a pool below 2^63 bytes", num_pages,
               bytes_per_page_);
  const LaneSpec k{.name = "k", .bytes_per_page = kv_page_bytes_};
  const LaneSpec v{.name = "v", .bytes_per_page = kv_page_bytes_};
  if (device.kind == DeviceKind::kCuda) {
    const int64_t bytes = kv_lanes(geometry) * kv_page_bytes_ * geometry.num_layers * num_pages;
    pool_ = Buffer(device, static_cast<size_t>(bytes), "the KV cache");
    k_ = lane_of_pool(k, 0);
    if (geometry.value_dim == 0) v_ = lane_of_pool(v, 1);
  } else {
    k_ = make_lane(k);
    if (geometry.value_dim == 0) v_ = make_lane(v);
  }
  lanes_.reserve(lanes.size());
  for (const LaneSpec& spec : lanes) lanes_.push_back(make_lane(spec));
  for (int32_t layer = 0; layer < geometry.num_layers; ++layer) {
    for (int32_t lane = 0; lane < num_lanes(); ++lane) {
      lanes_by_layer_.push_back(lane_data(lane, layer));
    }
  }
}

KvStorage::Lane KvStorage::make_lane(LaneSpec spec) const {
  Lane lane{.spec = std::move(spec), .buffers = {}, .layers = {}};
  for (int32_t layer = 0; layer < geometry_.num_layers; ++layer) {
    if (!lane.spec.in_layer(layer)) {
      lane.layers.push_back(nullptr);
      continue;
    }
    lane.buffers.emplace_back(device_, static_cast<size_t>(num_pages_ * lane.spec.bytes_per_page),
                              fmt::format("KV cache lane {} of layer {}", lane.spec.name, layer));
    lane.layers.push_back(lane.buffers.back().data());
  }
  return lane;
}

KvStorage::Lane KvStorage::lane_of_pool(LaneSpec spec, int32_t which) const {
  Lane lane{.spec = std::move(spec), .buffers = {}, .layers = {}};
  const int32_t lanes = kv_lanes(geometry_);
  for (int64_t layer = 0; layer < geometry_.num_layers; ++layer) {
    lane.layers.push_back(pool_.data() + (lanes * layer + which) * num_pages_ * kv_page_bytes_);
  }
  return lane;
}

void KvStorage::append_pool_pages(PageId page, std::vector<int32_t>& places) const {
  FOVEAL_INVARIANT(page >= 0 && page < num_pages_);
  // An int32 reaches: 2^31 pages of the smallest lane are more than any device holds.
  for (int32_t lane = 0; lane < kv_lanes(geometry_) * geometry_.num_layers; ++lane) {
    places.push_back(lane * num_pages_ + page);
  }
}

KvLayerView KvStorage::layer_view(int32_t layer) const {
  FOVEAL_INVARIANT(layer >= 0 && layer < geometry_.num_layers);
  const auto idx = static_cast<size_t>(layer);
  return {.k = k_.layers[idx],
          .v = v_.layers.empty() ? nullptr : v_.layers[idx],
          .page_bytes = kv_page_bytes_,
          .dtype = geometry_.dtype,
          .num_pages = num_pages_,
          .page_size = geometry_.page_size,
          .num_kv_heads = geometry_.num_kv_heads,
          .head_dim = geometry_.head_dim,
          .value_dim = geometry_.value_dim,
          .lanes = lanes_.empty() ? nullptr : lanes_by_layer_.data() + idx * lanes_.size()};
}

const LaneSpec& KvStorage::lane_spec(int32_t lane) const {
  FOVEAL_INVARIANT(lane >= 0 && lane < num_lanes());
  return lanes_[static_cast<size_t>(lane)].spec;
}

std::byte* KvStorage::lane_data(int32_t lane, int32_t layer) const {
  FOVEAL_INVARIANT(lane >= 0 && lane < num_lanes());
  FOVEAL_INVARIANT(layer >= 0 && layer < geometry_.num_layers);
  return lanes_[static_cast<size_t>(lane)].layers[static_cast<size_t>(layer)];
}

std::byte* KvStorage::lane_page(int32_t lane, int32_t layer, PageId page) const {
  FOVEAL_INVARIANT(page >= 0 && page < num_pages_);
  FOVEAL_INVARIANT(lane_spec(lane).in_layer(layer));
  return lane_data(lane, layer) + page * lane_spec(lane).bytes_per_page;
}

void KvStorage::zero_pages(int32_t first_layer, int32_t end_layer,
                           std::span<const PageId> pages) const {
  FOVEAL_CHECK(device_.kind == DeviceKind::kCpu, ErrorKind::kUnsupported, "kv_cache",
               "got pages to zero on {}; need a CPU cache", device_name(device_));
  FOVEAL_INVARIANT(first_layer >= 0 && first_layer <= end_layer &&
                   end_layer <= geometry_.num_layers);
  for (const PageId page : pages) FOVEAL_INVARIANT(page >= 0 && page < num_pages_);
  const auto zero = [&](const Lane& lane, int32_t layer) {
    std::byte* data = lane.layers.empty() ? nullptr : lane.layers[static_cast<size_t>(layer)];
    if (data == nullptr) return;
    const int64_t bytes = lane.spec.bytes_per_page;
    for (const PageId page : pages) {
      std::memset(data + page * bytes, 0, static_cast<size_t>(bytes));
    }
  };
  for (int32_t layer = first_layer; layer < end_layer; ++layer) {
    zero(k_, layer);
    zero(v_, layer);
    for (const Lane& lane : lanes_) zero(lane, layer);
  }
}

}  // namespace foveal::kv
