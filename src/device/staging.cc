#include "device/staging.h"

#include <utility>

#include "base/check.h"
#include "device/backend.h"

namespace foveal {

PinnedBuffer::PinnedBuffer(Device device, size_t bytes, std::string_view what)
    : device_(device), bytes_(bytes) {
  if (bytes == 0) return;
  data_ =
      device.kind == DeviceKind::kCpu ? cpu::allocate(bytes) : cuda::allocate_pinned(device, bytes);
  FOVEAL_CHECK(data_ != nullptr, ErrorKind::kOutOfMemory, "memory",
               "got no {} bytes of host memory for {}; need that much free", bytes, what);
}

PinnedBuffer::~PinnedBuffer() {
  if (data_ == nullptr) return;
  if (device_.kind == DeviceKind::kCpu) {
    cpu::release(data_, bytes_);
  } else {
    cuda::release_pinned(data_);
  }
}

PinnedBuffer::PinnedBuffer(PinnedBuffer&& other) noexcept
    : device_(other.device_),
      data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)) {}

PinnedBuffer& PinnedBuffer::operator=(PinnedBuffer&& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

StepUpload::StepUpload(Device device, size_t bytes) : device_(device, bytes, "a step's arrays") {
  for (int slot = 0; slot < 2; ++slot) {
    slots_.push_back(
        {.host = PinnedBuffer(device, bytes, "a step's arrays"), .sent = Event(device)});
  }
}

void StepUpload::begin() {
  slot_ = (slot_ + 1) % slots_.size();
  slots_[slot_].sent.synchronize();
  used_ = 0;
}

size_t StepUpload::take(size_t bytes) {
  constexpr size_t kAlignment = 256;
  FOVEAL_CHECK(bytes <= device_.size() - used_, ErrorKind::kInternal, "upload",
               "got an array of {} bytes after {}; need at most {} a step", bytes, used_,
               device_.size());
  const size_t offset = used_;
  used_ = std::min(device_.size(), (used_ + bytes + kAlignment - 1) / kAlignment * kAlignment);
  return offset;
}

void StepUpload::send(const Stream& stream) {
  stream.copy(device_.data(), slots_[slot_].host.data(), used_);
  slots_[slot_].sent.record(stream);
}

}  // namespace foveal
