#include "device/stream.h"

#include <chrono>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "device/backend.h"

namespace foveal {
namespace {

bool on_gpu(Device device) { return device.kind == DeviceKind::kCuda; }

int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace

Stream::Stream(Device device, ThreadPool& pool) : device_(device), pool_(&pool) {
  if (!on_gpu(device)) return;
  make_current();
  native_ = cuda::create_stream(device);
}

Stream::~Stream() {
  if (native_ != nullptr) cuda::destroy_stream(native_);
}

Stream::Stream(Stream&& other) noexcept
    : device_(other.device_),
      pool_(other.pool_),
      native_(std::exchange(other.native_, nullptr)),
      scratch_(std::move(other.scratch_)),
      old_scratch_(std::move(other.old_scratch_)) {}

Stream& Stream::operator=(Stream&& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(pool_, other.pool_);
  std::swap(native_, other.native_);
  std::swap(scratch_, other.scratch_);
  std::swap(old_scratch_, other.old_scratch_);
  return *this;
}

std::byte* Stream::scratch(size_t bytes) {
  if (scratch_.size() >= bytes) return scratch_.data();
  FOVEAL_CHECK(!is_capturing(), ErrorKind::kInternal, "scratch",
               "got {} bytes inside a graph capture; need at most {}, or a call as large before it",
               bytes, scratch_.size());
  if (on_gpu(device_)) {
    old_scratch_.push_back(std::move(scratch_));
  }
  scratch_ = Buffer();  // on a CPU release before growing: the old content is never needed
  scratch_ = Buffer(device_, bytes + bytes / 4, "kernel scratch");
  return scratch_.data();
}

void Stream::make_current() const {
  if (on_gpu(device_)) cuda::make_current(device_);
}

void Stream::synchronize() const {
  if (native_ != nullptr) cuda::synchronize_stream(native_);
}

bool Stream::is_capturing() const { return native_ != nullptr && cuda::is_capturing(native_); }

void Stream::copy(void* to, const void* from, size_t bytes) const {
  if (bytes == 0) return;
  if (native_ != nullptr) {
    cuda::copy(to, from, bytes, native_);
  } else {
    std::memcpy(to, from, bytes);
  }
}

void Stream::fill(void* to, uint8_t value, size_t bytes) const {
  if (bytes == 0) return;
  if (native_ != nullptr) {
    cuda::fill(to, value, bytes, native_);
  } else {
    std::memset(to, value, bytes);
  }
}

Event::Event(Device device, Timing timing) : device_(device) {
  if (on_gpu(device)) native_ = cuda::create_event(device, timing == Timing::kOn);
}

Event::~Event() {
  if (native_ != nullptr) cuda::destroy_event(native_);
}

Event::Event(Event&& other) noexcept
    : device_(other.device_),
      native_(std::exchange(other.native_, nullptr)),
      host_ns_(other.host_ns_) {}

Event& Event::operator=(Event&& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(native_, other.native_);
  std::swap(host_ns_, other.host_ns_);
  return *this;
}

void Event::record(const Stream& stream) {
  host_ns_ = now_ns();
  if (native_ != nullptr) cuda::record_event(native_, stream.native());
}

void Event::block(const Stream& stream) const {
  if (native_ != nullptr) cuda::wait_event(stream.native(), native_);
}

bool Event::is_done() const { return native_ == nullptr || cuda::is_event_done(native_); }

void Event::synchronize() const {
  if (native_ != nullptr) cuda::synchronize_event(native_);
}

float Event::elapsed_ms(const Event& start) const {
  if (native_ != nullptr) return cuda::elapsed_ms(start.native_, native_);
  return static_cast<float>(host_ns_ - start.host_ns_) * 1e-6F;
}

}  // namespace foveal
