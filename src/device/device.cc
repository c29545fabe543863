#include "device/device.h"

#include <fmt/format.h>

#include <atomic>
#include <charconv>
#include <optional>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "device/backend.h"

namespace foveal {
namespace {

Device automatic_device() {
  const GpuChoice choice = choose_gpu(cuda::list_gpus());
  if (choice.index) return {DeviceKind::kCuda, *choice.index};
  static std::atomic<bool> said = false;
  if (!said.exchange(true)) log_info("device: the CPU ({})", choice.reason);
  return {};
}

/// N of `cuda:N`, 0 for `cuda`.
std::optional<int> parse_cuda_index(std::string_view text) {
  constexpr std::string_view kCuda = "cuda";
  if (!text.starts_with(kCuda)) return {};
  std::string_view digits = text.substr(kCuda.size());
  if (digits.empty()) return 0;
  if (!digits.starts_with(':')) return {};
  digits.remove_prefix(1);
  int index = -1;
  const auto [end, status] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
  if (status != std::errc{} || end != digits.data() + digits.size() || index < 0) return {};
  return index;
}

}  // namespace

Device parse_device(std::string_view text) {
  if (text == "cpu") return {};
  if (text == "auto") return automatic_device();
  const std::optional<int> index = parse_cuda_index(text);
  FOVEAL_CHECK(index.has_value(), ErrorKind::kInvalidArgument, "device",
               "got '{}'; need auto, cpu or cuda:N", text);
  check_gpu(cuda::list_gpus(), *index);
  return {DeviceKind::kCuda, *index};
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

}  // namespace foveal
