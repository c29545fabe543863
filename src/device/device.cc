#include "device/device.h"

#include <fmt/format.h>

#include <charconv>
#include <utility>

#include "base/check.h"
#include "device/backend.h"
#include "device/stream.h"

namespace foveal {

Device parse_device(std::string_view text) {
  if (text == "auto" || text == "cpu") return {};
  constexpr std::string_view kCuda = "cuda";
  if (text.starts_with(kCuda)) {
    std::string_view digits = text.substr(kCuda.size());
    int index = 0;
    bool good = digits.empty();
    if (digits.starts_with(':')) {
      digits.remove_prefix(1);
      const auto [end, status] =
          std::from_chars(digits.data(), digits.data() + digits.size(), index);
      good = status == std::errc{} && end == digits.data() + digits.size() && index >= 0;
    }
    if (good) {
      FOVEAL_CHECK(cuda::in_build(), ErrorKind::kUnsupported, "device",
                   "got {}; need auto or cpu (CUDA is not in this build)", text);
      return {DeviceKind::kCuda, index};
    }
  }
  fail(ErrorKind::kInvalidArgument, "device", "got '{}'; need auto, cpu or cuda:N", text);
}

std::string device_name(Device device) {
  return device.kind == DeviceKind::kCpu ? "cpu" : fmt::format("cuda:{}", device.index);
}

Buffer::Buffer(Device device, size_t bytes, std::string_view what)
    : device_(device), bytes_(bytes) {
  if (bytes == 0) return;
  data_ = device.kind == DeviceKind::kCpu ? cpu::allocate(bytes) : cuda::allocate(device, bytes);
  FOVEAL_CHECK(data_ != nullptr, ErrorKind::kOutOfMemory, "memory",
               "got no {} bytes for {}; need that much free on {}", bytes, what,
               device_name(device));
}

Buffer::~Buffer() {
  if (data_ == nullptr) return;
  if (device_.kind == DeviceKind::kCpu) {
    cpu::release(data_, bytes_);
  } else {
    cuda::release(device_, data_);
  }
}

Buffer::Buffer(Buffer&& other) noexcept
    : device_(other.device_),
      data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

int64_t available_memory(Device device) {
  return device.kind == DeviceKind::kCpu ? cpu::available_memory() : cuda::available_memory(device);
}

std::byte* Stream::scratch(size_t bytes) {
  if (scratch_.size() < bytes) {
    scratch_ = Buffer();  // release before growing: the old content is never needed
    scratch_ = Buffer(device_, bytes + bytes / 4, "kernel scratch");
  }
  return scratch_.data();
}

}  // namespace foveal
