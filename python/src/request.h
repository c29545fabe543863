#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "foveal/llm.h"
#include "signal.h"

namespace foveal::python {

/// A submitted request. Keeps its engine until its result was taken; dropping it cancels it.
class Request {
 public:
  Request(std::shared_ptr<LLM> llm, Generation generation)
      : llm_(std::move(llm)), generation_(std::move(generation)) {}
  ~Request();

  /// From now on `signal` says when there is more, under this number.
  void attach(const std::shared_ptr<Signal>& signal, uint64_t number);
  /// What has been added since the last call; may be nothing.
  std::vector<OutputDelta> poll();
  /// Every completion has ended, and its last delta was taken.
  bool ended();
  void cancel();
  /// Once, after the end. Throws the request's own Error.
  RequestOutput result();

 private:
  Generation& generation();

  std::mutex mutex_;  ///< a generation has one consumer, Python may have many threads
  std::shared_ptr<LLM> llm_;
  std::optional<Generation> generation_;  ///< after what it borrows
};

}  // namespace foveal::python
