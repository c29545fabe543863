#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace foveal {

enum class DeviceKind : uint8_t { kCpu, kCuda };

struct Device {
  DeviceKind kind = DeviceKind::kCpu;
  int index = 0;

  bool operator==(const Device&) const = default;
};

/// Parses `auto`, `cpu` or `cuda:N`. `auto` takes the best device of this build and machine.
/// Throws kInvalidArgument for other words and kUnsupported for a device that is not in this build.
Device parse_device(std::string_view text);
std::string device_name(Device device);

/// Memory of a device, owned. Aligned to 4096 bytes, zeroed, large blocks backed by huge pages
/// where the system offers them. Move-only.
class Buffer {
 public:
  Buffer() = default;
  /// Throws kOutOfMemory, saying how much was asked for and `what` it was for.
  Buffer(Device device, size_t bytes, std::string_view what);
  ~Buffer();
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;

  std::byte* data() const { return data_; }
  size_t size() const { return bytes_; }

 private:
  Device device_;
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
};

/// Bytes the device can still give, for capacity planning.
int64_t available_memory(Device device);

}  // namespace foveal
