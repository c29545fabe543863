#pragma once

#include "base/thread_pool.h"
#include "device/device.h"

namespace foveal {

/// Where work is issued: on a CPU it runs at once on the stream's thread pool. Every kernel takes
/// one, so that the same call works when a device runs behind the host.
class Stream {
 public:
  /// The pool is borrowed and must outlive the stream.
  Stream(Device device, ThreadPool& pool) : device_(device), pool_(&pool) {}

  Device device() const { return device_; }
  ThreadPool& pool() const { return *pool_; }

  /// Scratch for one kernel call, grow-only, 64-byte aligned; valid until the next call of
  /// `scratch` on this stream.
  std::byte* scratch(size_t bytes);

 private:
  Device device_;
  ThreadPool* pool_;
  Buffer scratch_;
};

}  // namespace foveal
