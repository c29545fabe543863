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

/// A float32 matrix handed out by a request that asked for it: [rows, cols], rows one after the
/// other in `data`.
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
  std::vector<TokenLogprob> logprobs;                   ///< one a token, when asked for
  std::vector<std::vector<TokenLogprob>> top_logprobs;  ///< the best of each token, likewise
  FinishReason finish_reason = FinishReason::kNone;
  std::optional<std::string> stop_text;  ///< the stop string that ended it
};

/// What has been added to one completion since the last one. Texts put together are its `text`.
struct OutputDelta {
  int32_t index = 0;  ///< of the completion, in [0, n)
  std::string text;   ///< may be empty: a token inside a character, or text held back for a stop
  std::vector<int32_t> token_ids;
  std::vector<TokenLogprob> logprobs;                   ///< one a token, when asked for
  std::vector<std::vector<TokenLogprob>> top_logprobs;  ///< the best of each token, likewise
  FinishReason finish_reason = FinishReason::kNone;     ///< set in a completion's last delta
};

/// What became of a request: all of its completions and what they took.
struct RequestOutput {
  std::vector<int32_t> prompt_token_ids;
  std::vector<CompletionOutput> outputs;  ///< SamplingParams::n of them
  std::vector<std::optional<TokenLogprob>>
      prompt_logprobs;  ///< [prompt], first empty; when asked for
  std::vector<std::vector<TokenLogprob>> prompt_top_logprobs;  ///< [prompt], first empty; likewise
  int64_t cached_tokens = 0;  ///< prompt tokens taken from the prefix cache
  Timings timings;
  SparsityReport sparsity;                        ///< of all completions together
  RequestMemory memory;                           ///< likewise
  std::optional<TracedTensor> logits;             ///< RequestOptions::logits: [rows, vocab_size]
  std::optional<TracedTensor> generation_logits;  ///< likewise: a row for each new token
  std::vector<TracedTensor> trace;                ///< RequestOptions::trace_filter
};

/// What a request wants besides text.
struct RequestOptions {
  bool logits = false;                 ///< float32 logits of prompt positions
  std::optional<int64_t> logits_last;  ///< only of the last so many
  bool generation_logits = false;      ///< float32 logits that each new token came from
  /// Teacher forcing: the completion is these ids, whatever the logits say, and ends with the last
  /// of them. max_tokens and what ends a text otherwise are passed over.
  std::vector<int32_t> forced_tokens;
  std::optional<std::string> trace_filter;  ///< regex of names of intermediate tensors to keep
  std::optional<SparseOverride> sparse_attention;  ///< absent: as the engine was started
  /// Requests share cached prompt pages only with requests of the same salt.
  std::string cache_salt;
};

/// A prompt as text (raw, the model's begin token added if its tokenizer does) or as token ids.
struct Prompt {
  std::string text;
  std::optional<std::vector<int32_t>> token_ids;  ///< wins over text
};

class GenerationState;

/// A submitted request. Any thread; one consumer, who uses either `next` or the deltas. When the
/// last copy goes, the request is cancelled.
class Generation {
 public:
  explicit Generation(std::shared_ptr<GenerationState> state) : state_(std::move(state)) {}

  /// Waits for more text of the first completion. Nothing at the end. A piece may be empty.
  std::optional<std::string> next();
  /// Waits for the next delta of any completion. Nothing at the end.
  std::optional<OutputDelta> next_delta();
  /// The next delta if there is one already.
  std::optional<OutputDelta> poll();
  /// True when every completion has ended and its last delta was taken.
  bool ended() const;
  /// Called from the engine's thread whenever `poll` may have more (and once at once). Must be
  /// quick, must not throw, and may be called once more while the Generation goes: let it own what
  /// it uses.
  void on_ready(std::function<void()> callback);
  /// Ends the request soon; `result` then says kCancelled.
  void cancel();
  /// Waits for the end. Throws the request's own Error if it failed.
  RequestOutput result();

 private:
  std::shared_ptr<GenerationState> state_;
};

/// Counts since the engine started, and what it holds now. See LLM::stats.
struct EngineStats {
  bool failed = false;  ///< a bug ended the engine's thread: every request is refused
  int64_t running = 0;  ///< requests that hold pages
  int64_t waiting = 0;  ///< requests that hold none yet, or none any more
  int64_t kv_pages_total = 0;
  int64_t kv_pages_used = 0;    ///< held by requests
  int64_t kv_pages_cached = 0;  ///< held by the prefix index alone: free when needed
  int64_t page_size = 0;        ///< tokens
  uint64_t steps = 0;           ///< forward passes
  uint64_t preemptions = 0;
  uint64_t prompt_tokens = 0;  ///< of started requests
  uint64_t cached_tokens = 0;  ///< of these, found in the prefix index
  uint64_t generated_tokens = 0;
  /// On a device that runs behind the host: how often, and how long in all, it waited between a
  /// step's tokens and the next step's launch.
  uint64_t host_gaps = 0;
  uint64_t host_gap_ns = 0;
  SparsityReport sparsity;  ///< all requests' work so far
};

/// What was loaded, and how it runs.
struct ModelInfo {
  std::string name;          ///< of the file or folder
  std::string architecture;  ///< llama, deepseek_v32, ...
  std::string device;        ///< cpu, cuda:0, ...
  std::string isa;           ///< of a CPU
  std::string method;        ///< dense, skip_softmax, ...
  std::string attention;     ///< one line: which method serves which phase
  std::string kv_dtype;
  std::string
      tiles;  ///< query rows that vote together x keys, which skip_softmax factors belong to
  int64_t threads = 0;
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  int64_t vocab_size = 0;
  int64_t max_seq_len = 0;  ///< longest request, prompt and output together
  int64_t kv_tokens = 0;    ///< capacity
  int64_t kv_bytes = 0;
  int64_t kv_bytes_per_token = 0;  ///< in all layers, the method's lanes included
  int64_t weights_bytes = 0;
  int64_t workspace_bytes = 0;  ///< on CUDA: activations and what kernels need beside them
  double load_ms = 0;           ///< all of the constructor
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

  /// Queues a request. Throws Error at once: kInvalidArgument for parameters that can never work,
  /// kContextLength for a prompt that cannot fit, kUnsupported for what this model or engine lacks
  /// (a prompt as text without a tokenizer, for one). What fails later is `result`'s to throw.
  Generation submit(const Prompt& prompt, const SamplingParams& sampling,
                    const RequestOptions& options = {});
  /// Queues a request and waits for it. Throws as `submit` and Generation::result.
  RequestOutput generate(const Prompt& prompt, const SamplingParams& sampling,
                         const RequestOptions& options = {});

  /// Ids of a chat prompt, rendered with the model's template. `messages_json`: a JSON list of
  /// {"role", "content"}; `extra_json`: more template variables (`tools`, ...) as an object. Like
  /// all that needs a tokenizer it throws kUnsupported where the model has none.
  std::vector<int32_t> chat_token_ids(const std::string& messages_json,
                                      const std::string& extra_json = "{}",
                                      bool add_generation_prompt = true) const;
  bool has_tokenizer() const;
  /// Empty when the model has none.
  std::string chat_template() const;
  /// Ids of text, without begin token; special tokens spelled out in it are text unless asked for.
  std::vector<int32_t> encode(const std::string& text, bool parse_special = false) const;
  /// Ids of a raw prompt, with the begin token where the model wants one: what `submit` uses.
  std::vector<int32_t> prompt_token_ids(const std::string& text) const;
  /// Text of ids; bytes that are no UTF-8 become U+FFFD. Throws kInvalidArgument for unknown ids.
  std::string decode(const std::vector<int32_t>& ids, bool skip_special = true) const;
  /// The bytes one id stands for (may be part of a character); empty for ids without text.
  std::string token_bytes(int32_t id) const;

  ModelInfo info() const;
  EngineStats stats() const;

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
