#pragma once

#include <vector>

#include "device/stream.h"

namespace foveal::attention {

/// Memory of the attention kernels of one phase on a device that runs behind the host. What was
/// outgrown stays, for recorded graphs have its address.
class DeviceWorkspace {
 public:
  /// The kernels' own, zeroed when it is made: at least `bytes`, the same address as before where
  /// they fit.
  std::byte* reserve(Device device, size_t bytes) { return grow(workspace_, device, bytes); }
  size_t size() const { return workspace_.empty() ? 0 : workspace_.back().size(); }

  /// For queries in another type than the model's.
  std::byte* reserve_queries(Device device, size_t bytes) { return grow(queries_, device, bytes); }
  /// A 1 on the device: the scale of queries that are not scaled.
  const float* one(const Stream& stream) {
    if (one_.size() == 0) {
      constexpr float kOne = 1;
      one_ = Buffer(stream.device(), sizeof(kOne), "attention scale");
      stream.copy(one_.data(), &kOne, sizeof(kOne));
    }
    return reinterpret_cast<const float*>(one_.data());
  }

 private:
  static std::byte* grow(std::vector<Buffer>& buffers, Device device, size_t bytes) {
    if (buffers.empty() || buffers.back().size() < bytes) {
      buffers.emplace_back(device, bytes + bytes / 4, "attention workspace");
    }
    return buffers.back().data();
  }

  std::vector<Buffer> workspace_;
  std::vector<Buffer> queries_;
  Buffer one_;
};

}  // namespace foveal::attention
