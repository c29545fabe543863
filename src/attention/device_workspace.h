#pragma once

#include <vector>

#include "device/device.h"

namespace foveal::attention {

/// Memory of the attention kernels of one phase on a device that runs behind the host: zeroed when
/// it is made and theirs alone afterwards. Memory that was outgrown stays, for recorded graphs have
/// its address.
class DeviceWorkspace {
 public:
  /// At least `bytes`; the same address as before where they fit.
  std::byte* reserve(Device device, size_t bytes) {
    if (buffers_.empty() || buffers_.back().size() < bytes) {
      buffers_.emplace_back(device, bytes + bytes / 4, "attention workspace");
    }
    return buffers_.back().data();
  }
  size_t size() const { return buffers_.empty() ? 0 : buffers_.back().size(); }

 private:
  std::vector<Buffer> buffers_;
};

}  // namespace foveal::attention
