#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "foveal/config.h"
#include "foveal/error.h"
#include "foveal/request.h"

namespace foveal {

/// Wall times of one request, in milliseconds.
struct Timings {
  double ttft_ms = 0;          ///< submitted to first token
  double prefill_ms = 0;       ///< first prompt row started to last prompt row done
  double decode_ms = 0;        ///< first token to last token
  int64_t prefill_tokens = 0;  ///< prompt tokens computed (not taken from the prefix cache)
  int64_t decode_tokens = 0;   ///< tokens after the first

  double prefill_tok_s() const { return rate(prefill_tokens, prefill_ms); }
  double decode_tok_s() const { return rate(decode_tokens, decode_ms); }

 private:
  static double rate(int64_t tokens, double ms) {
    return ms > 0 ? 1000.0 * static_cast<double>(tokens) / ms : 0;
  }
};

/// KV memory of one request, in bytes of pages and lanes.
struct RequestMemory {
  int64_t kv_bytes = 0;       ///< held when it ended
  int64_t kv_peak_bytes = 0;  ///< the most it held
};

/// A float32 matrix handed out by a request that asked for it.
struct TracedTensor {
  std::string name;
  int64_t rows = 0;
  int64_t cols = 0;
  std::vector<float> data;
};

/// One completion, without the prompt. `text` ends before a stop string or an end token;
/// `token_ids` ends with the token that completed it.
struct CompletionOutput {
  std::string text;
  std::vector<int32_t> token_ids;
  std::vector<TokenLogprob> logprobs;  ///< one a token, when asked for
  std::vector<std::vector<TokenLogprob>> top_logprobs;
  FinishReason finish_reason = FinishReason::kNone;
};

struct RequestOutput {
  std::vector<int32_t> prompt_token_ids;
  std::vector<CompletionOutput> outputs;  ///< one for now
  std::vector<std::optional<TokenLogprob>>
      prompt_logprobs;  ///< [prompt], first empty; when asked for
  std::vector<std::vector<TokenLogprob>> prompt_top_logprobs;  ///< [prompt], first empty; likewise
  int64_t cached_tokens = 0;  ///< prompt tokens taken from the prefix cache
  Timings timings;
  SparsityReport sparsity;
  RequestMemory memory;
  std::optional<TracedTensor> logits;  ///< RequestOptions::logits
  std::vector<TracedTensor> trace;     ///< RequestOptions::trace_filter
};

/// What a request wants besides text.
struct RequestOptions {
  bool logits = false;                      ///< float32 logits of prompt positions
  std::optional<int64_t> logits_last;       ///< only of the last so many
  std::optional<std::string> trace_filter;  ///< regex of names of intermediate tensors to keep
};

/// A prompt as text (raw, the model's begin token added if its tokenizer does) or as token ids.
struct Prompt {
  std::string text;
  std::optional<std::vector<int32_t>> token_ids;  ///< wins over text
};

class GenerationState;

/// A submitted request. Any thread; one consumer.
class Generation {
 public:
  explicit Generation(std::shared_ptr<GenerationState> state) : state_(std::move(state)) {}

  /// Waits for more text. Nothing at the end. A piece may be empty (a token inside a character).
  std::optional<std::string> next();
  /// Ends the request soon; `result` then says kCancelled.
  void cancel();
  /// Waits for the end. Throws the request's own Error if it failed.
  RequestOutput result();

 private:
  std::shared_ptr<GenerationState> state_;
};

/// A model, loaded and ready. Thread-safe: requests of many threads share each step.
class LLM {
 public:
  /// Called while loading: a stage's name and its share done in [0, 1].
  using Progress = std::function<void(const std::string& stage, double share)>;

  /// Loads the model. Throws Error when model, config and machine do not fit together.
  explicit LLM(const LlmConfig& config, const Progress& progress = nullptr);
  ~LLM();
  LLM(LLM&&) noexcept;

  /// Queues a request. Throws Error at once for invalid parameters or a prompt that cannot fit.
  Generation submit(const Prompt& prompt, const SamplingParams& sampling,
                    const RequestOptions& options = {});
  RequestOutput generate(const Prompt& prompt, const SamplingParams& sampling,
                         const RequestOptions& options = {});

  /// Ids of a chat prompt, rendered with the model's template. `messages_json`: a JSON list of
  /// {"role", "content"}.
  std::vector<int32_t> chat_token_ids(const std::string& messages_json) const;

  /// Called by the engine thread after each step that had prompt rows: tokens done and total of the
  /// request. For progress bars; must be quick.
  void on_prefill(std::function<void(int64_t done, int64_t total)> callback);

  /// e.g. "dense" or "skip_softmax".
  std::string method() const;
  int64_t weights_bytes() const;
  double load_ms() const;
  int64_t max_seq_len() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace foveal
