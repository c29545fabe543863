#pragma once

#include <span>
#include <type_traits>
#include <vector>

#include "device/stream.h"

namespace foveal {

/// Host memory that a device copies from and to by itself: page-locked for a GPU, ordinary for a
/// CPU. Move-only.
class PinnedBuffer {
 public:
  PinnedBuffer() = default;
  /// Throws kOutOfMemory, saying how much was asked for and `what` it was for.
  PinnedBuffer(Device device, size_t bytes, std::string_view what);
  ~PinnedBuffer();
  PinnedBuffer(PinnedBuffer&& other) noexcept;
  PinnedBuffer& operator=(PinnedBuffer&& other) noexcept;

  std::byte* data() const { return data_; }
  size_t size() const { return bytes_; }

 private:
  Device device_;
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
};

/// The arrays of a step, written on the host and sent in one copy. Two host slots take turns, so
/// that the host writes step n + 1 while step n's copy or kernels still run; the device has one
/// place for them, which stream order protects and which stays the same for captured graphs: the
/// same `add` calls give the same addresses in each step.
class StepUpload {
 public:
  /// One array: `host` to be written before `send`, `device` where kernels find it after.
  template <class T>
  struct Array {
    std::span<T> host;
    T* device = nullptr;
  };

  /// `bytes`: of all arrays of a step, each rounded up to 256.
  StepUpload(Device device, size_t bytes);

  /// Starts a step. Waits for the copy of the step before the last, which has long been done.
  void begin();
  /// Throws kInternal when the step's arrays are more than the constructor was told.
  template <class T>
  Array<T> add(size_t count) {
    static_assert(std::is_trivially_copyable_v<T>);
    const size_t offset = take(count * sizeof(T));
    return {.host = {reinterpret_cast<T*>(slots_[slot_].host.data() + offset), count},
            .device = reinterpret_cast<T*>(device_.data() + offset)};
  }
  /// One copy of everything added since `begin`, in stream order.
  void send(const Stream& stream);

  size_t used() const { return used_; }

 private:
  struct Slot {
    PinnedBuffer host;
    Event sent;
  };

  size_t take(size_t bytes);

  Buffer device_;
  std::vector<Slot> slots_;
  size_t slot_ = 0;
  size_t used_ = 0;
};

}  // namespace foveal
