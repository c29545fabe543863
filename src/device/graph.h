#pragma once

#include <concepts>

#include "device/stream.h"

namespace foveal {

/// Work recorded once from a stream and launched many times by one call. Everything that changes
/// between launches is read from device memory; the memory it names must outlive it. Move-only.
class Graph {
 public:
  Graph() = default;
  ~Graph();
  Graph(Graph&& other) noexcept;
  Graph& operator=(Graph&& other) noexcept;

  /// Calls `issue`, whose work on `stream` is recorded and not run. What it throws leaves here,
  /// with the stream as it was. Throws kUnsupported on a CPU.
  template <std::invocable Issue>
  static Graph capture(const Stream& stream, Issue&& issue) {
    Capture capture(stream);
    issue();
    return capture.finish();
  }

  bool empty() const { return native_ == nullptr; }
  /// Throws kInternal when empty.
  void launch(const Stream& stream) const;

 private:
  class Capture {
   public:
    explicit Capture(const Stream& stream);
    ~Capture();
    Capture(const Capture&) = delete;
    Capture& operator=(const Capture&) = delete;
    Graph finish();

   private:
    void* stream_;
  };

  void* native_ = nullptr;  // cudaGraphExec_t
};

}  // namespace foveal
