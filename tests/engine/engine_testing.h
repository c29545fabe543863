#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "foveal/llm.h"

namespace foveal::engine_testing {

/// Of the golden llama3 and its like.
inline constexpr int32_t kVocab = 384;

inline std::vector<int32_t> random_prompt(uint32_t seed, size_t len) {
  std::vector<int32_t> out(len);
  uint32_t state = seed * 2654435761U + 1;
  for (int32_t& token : out) {
    state = state * 1664525U + 1013904223U;
    token = static_cast<int32_t>((state >> 8) % kVocab);
  }
  return out;
}

/// Exactly so many, greedily.
inline SamplingParams tokens(int64_t count) {
  SamplingParams out;
  out.max_tokens = count;
  out.ignore_eos = true;
  return out;
}

/// Keeps an engine inside the next step that reads a prompt, until `release`: what is submitted
/// meanwhile comes while the first request runs, however slow the test's own thread is. Made before
/// that request is submitted; the engine goes after it.
class Hold {
 public:
  explicit Hold(LLM& llm) {
    llm.on_prefill([gate = gate_](int64_t, int64_t) {
      std::unique_lock lock(gate->mutex);
      gate->changed.wait(lock, [&] { return gate->open; });
    });
  }
  ~Hold() { release(); }
  Hold(const Hold&) = delete;
  Hold& operator=(const Hold&) = delete;

  void release() {
    const std::lock_guard lock(gate_->mutex);
    gate_->open = true;
    gate_->changed.notify_all();
  }

 private:
  struct Gate {
    std::mutex mutex;
    std::condition_variable changed;
    bool open = false;
  };
  std::shared_ptr<Gate> gate_ = std::make_shared<Gate>();  ///< the engine's thread may be late
};

}  // namespace foveal::engine_testing
