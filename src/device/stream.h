#pragma once

#include "base/thread_pool.h"
#include "device/arena.h"
#include "device/device.h"

namespace foveal {

/// Where work is issued. On a CPU it runs at once on the stream's thread pool; on a GPU it is
/// queued behind the host, in order. Every kernel takes one, so that the same call works on both.
/// One thread at a time; a GPU stream first used on another thread than made it needs
/// `make_current` there. Move-only.
class Stream {
 public:
  /// The pool is borrowed and must outlive the stream.
  Stream(Device device, ThreadPool& pool);
  ~Stream();
  Stream(Stream&& other) noexcept;
  Stream& operator=(Stream&& other) noexcept;

  Device device() const { return device_; }
  ThreadPool& pool() const { return *pool_; }
  /// The cudaStream_t (non-blocking: not ordered with the legacy default stream); null on a CPU.
  void* native() const { return native_; }

  /// Scratch for one kernel call, grow-only, 64-byte aligned on a CPU and 256 on a GPU; valid until
  /// the next call of `scratch` on this stream. Inside a graph capture it cannot grow: throws
  /// kInternal unless a call that large came before.
  std::byte* scratch(size_t bytes);

  /// Directs the calling thread's CUDA calls to this stream's device.
  void make_current() const;
  /// Waits for everything issued. Errors of kernels that ran behind the host are thrown here.
  void synchronize() const;
  bool is_capturing() const;

  /// Copies in stream order, between any of host, pinned and device memory. Pinned memory must stay
  /// as it is until the copy has run; pageable memory may be reused at once, but waits.
  void copy(void* to, const void* from, size_t bytes) const;
  /// Sets every byte, in stream order.
  void fill(void* to, uint8_t value, size_t bytes) const;

 private:
  Device device_;
  ThreadPool* pool_;
  void* native_ = nullptr;
  Buffer scratch_;
  // Graphs captured on the stream keep the address of the scratch they saw.
  std::vector<Buffer> old_scratch_;
};

/// A point in a stream's work. On a CPU everything before it has always happened.
class Event {
 public:
  enum class Timing : uint8_t { kOff, kOn };

  explicit Event(Device device, Timing timing = Timing::kOff);
  ~Event();
  Event(Event&& other) noexcept;
  Event& operator=(Event&& other) noexcept;

  void record(const Stream& stream);
  /// Work issued on `stream` from now on runs after the recorded point.
  void block(const Stream& stream) const;
  bool is_done() const;
  /// The host waits. Returns at once when nothing was recorded.
  void synchronize() const;
  /// Milliseconds of device time from `start`'s point to this one. Needs both timed and done; on a
  /// CPU the time between the calls of `record`.
  float elapsed_ms(const Event& start) const;
  void* native() const { return native_; }  ///< cudaEvent_t; null on a CPU

 private:
  Device device_;
  void* native_ = nullptr;
  int64_t host_ns_ = 0;
};

}  // namespace foveal
