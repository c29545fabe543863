#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/token_stream.h"
#include "foveal/config.h"
#include "model/checkpoint.h"

namespace foveal::engine {

/// Sizes and choices fixed when an engine starts.
struct EngineInfo {
  std::string device;
  std::string isa;
  int32_t threads = 0;
  std::string method;     ///< "dense", "skip_softmax", ...
  std::string attention;  ///< one line: which method serves which phase
  std::string kv_dtype;
  std::string tiles;        ///< of prefill's kernels: query rows x keys
  int64_t max_seq_len = 0;  ///< longest request, prompt and output together
  int64_t kv_tokens = 0;    ///< capacity of the cache
  int64_t kv_bytes_per_token = 0;
  int64_t kv_bytes = 0;  ///< of the whole pool
  int64_t weights_bytes = 0;
  int64_t workspace_bytes = 0;  ///< attention's; on CUDA also activations and what kernels need
};

/// Called on the engine thread after prompt rows of a request were computed.
using PrefillCallback = std::function<void(int64_t done, int64_t total)>;

/// Owns the model, the cache and the one thread that touches them. Other threads talk to it through
/// `submit` and the streams it returns. See docs/request.md for a token's way through it.
class Engine {
 public:
  /// `checkpoint` is borrowed and must outlive the engine.
  Engine(const LlmConfig& config, const model::Checkpoint& checkpoint);
  /// Cancels what is running and joins the thread.
  ~Engine();

  /// Throws kInvalidArgument for parameters out of range and kContextLength for a prompt that can
  /// never fit; a request that fails later ends its stream with the error.
  /// One stream for each of sampling.n completions; those after the first wait for its prompt and
  /// find it in the prefix index.
  std::vector<std::shared_ptr<TokenStream>> submit(EngineRequest request);

  const EngineInfo& info() const;
  EngineStats stats() const;
  void on_prefill(PrefillCallback callback);

 private:
  class Loop;
  std::unique_ptr<Loop> loop_;
};

}  // namespace foveal::engine
