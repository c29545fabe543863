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

/// Parses `auto`, `cpu`, `cuda` (the same as `cuda:0`) or `cuda:N`. `auto` takes the first GPU that
/// our kernels run on, or the CPU, and then says why in the log. Throws kInvalidArgument for other
/// words and kUnsupported for a GPU that this build or machine cannot use, naming what is
/// supported.
Device parse_device(std::string_view text);
std::string device_name(Device device);

/// Memory of a device, owned. Zeroed; aligned to 4096 bytes on a CPU, where large blocks are backed
/// by huge pages if the system offers them, and to 256 on a GPU, whose memory the host cannot
/// touch. Freeing GPU memory waits for the device. Move-only.
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
