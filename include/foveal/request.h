#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "foveal/config.h"

namespace foveal {

/// What a completion must look like; its end is enforced too.
struct GuidedDecoding {
  enum class Kind { kJsonObject, kJsonSchema, kRegex, kChoice, kGrammar };
  Kind kind = Kind::kJsonObject;
  std::string text;                  ///< the JSON schema, regular expression or Lark grammar
  std::vector<std::string> choices;  ///< of kChoice
};

/// How tokens are chosen from logits, and when to stop. Greedy unless temperature is above 0:
/// top_k, top_p and min_p narrow down what temperature draws from. Ranges: sampler::validate.
struct SamplingParams {
  int64_t max_tokens = 32;
  int64_t n = 1;             ///< completions of one prompt; the i-th draws with seed + i
  double temperature = 0.0;  ///< 0: greedy
  int64_t top_k = 0;         ///< 0: off
  double top_p = 1.0;        ///< in (0, 1]; 1: off
  double min_p = 0.0;        ///< in [0, 1], relative to the best token; 0: off
  /// Divides (multiplies) positive (negative) logits of tokens in the prompt or generated.
  double repetition_penalty = 1.0;
  double presence_penalty = 0.0;    ///< in [-2, 2], taken off logits of generated tokens
  double frequency_penalty = 0.0;   ///< in [-2, 2], likewise for each time they were generated
  std::optional<uint64_t> seed;     ///< absent: a fresh one a request
  std::optional<int64_t> logprobs;  ///< top alternatives to report with each token; 0: only its own
  std::optional<int64_t> prompt_logprobs;  ///< the same of the prompt's tokens
  std::vector<std::string> stop;        ///< not part of the text unless include_stop_str_in_output
  std::vector<int32_t> stop_token_ids;  ///< end the text as end tokens do
  bool include_stop_str_in_output = false;
  bool ignore_eos = false;  ///< the model's end tokens end nothing
  int64_t min_tokens = 0;   ///< before these, neither end tokens nor stops end the text
  std::vector<std::vector<int32_t>> bad_words;  ///< token sequences that must not appear
  /// Texts that must not appear, as the tokens each is encoded to, with and without a space in
  /// front. Another spelling in tokens can still get through.
  std::vector<std::string> bad;
  std::map<int32_t, double> logit_bias;  ///< token id to what is added to its logit
  std::optional<GuidedDecoding> guided;
};

/// One request's sparse attention, within the method the engine was started with.
struct SparseOverride {
  bool off = false;  ///< dense attention, whatever the engine's settings
  /// Other Skip Softmax factors; a phase that is absent keeps the engine's. Only for phases in
  /// which the engine runs skip_softmax.
  std::optional<PhaseValue> threshold_scale_factor;
};

/// A token's log-probability (natural logarithm), of the model's own distribution: before
/// penalties, temperature and the rest.
struct TokenLogprob {
  int32_t token = 0;
  float logprob = 0;
  int32_t rank = 0;  ///< 1: the best
};

/// Why a completion ended: not yet; an end token, stop token or stop string, or a guided text that
/// is complete; max_tokens or the context; cancelled; an error.
enum class FinishReason { kNone, kStop, kLength, kCancelled, kError };
/// "none", "stop", "length", "cancelled", "error".
constexpr std::string_view finish_reason_name(FinishReason reason) {
  constexpr std::string_view kNames[] = {"none", "stop", "length", "cancelled", "error"};
  return kNames[static_cast<size_t>(reason)];
}

/// What attention did in one phase, over all heads; of one layer or of all.
struct PhaseSparsity {
  uint64_t pairs = 0;       ///< query-key pairs that dense attention uses
  uint64_t pairs_used = 0;  ///< pairs whose V was used
  /// What a method decides about at once: Skip Softmax's tiles, RocketKV's pages (one a KV head);
  /// 0 where none does.
  uint64_t blocks = 0;
  uint64_t blocks_read = 0;
  void add(const PhaseSparsity& other) {
    pairs += other.pairs;
    pairs_used += other.pairs_used;
    blocks += other.blocks;
    blocks_read += other.blocks_read;
  }
  /// 1 - used / dense; 0 when nothing was attended.
  double skipped() const {
    return pairs == 0 ? 0.0 : 1.0 - static_cast<double>(pairs_used) / static_cast<double>(pairs);
  }
  /// Share of the blocks that were read; where none were decided about, of the pairs.
  double share_read() const {
    return blocks == 0 ? 1.0 - skipped()
                       : static_cast<double>(blocks_read) / static_cast<double>(blocks);
  }
};

/// Both phases of one layer, or of all together.
struct LayerSparsity {
  PhaseSparsity prefill;
  PhaseSparsity decode;
};

/// What attention really did for one request.
struct SparsityReport {
  std::string method = "dense";       ///< ModelInfo::method
  std::vector<LayerSparsity> layers;  ///< [num_layers]; empty where nothing was counted
  /// Prompt tokens read for decoding, and those of them that decode can reach (a KV head;
  /// RocketKV's budget, or all). 0 until a prompt has been read.
  uint64_t prompt_tokens = 0;
  uint64_t kept_tokens = 0;
  void add(const SparsityReport& other) {
    prompt_tokens += other.prompt_tokens;
    kept_tokens += other.kept_tokens;
    if (layers.size() < other.layers.size()) layers.resize(other.layers.size());
    for (size_t idx = 0; idx < other.layers.size(); ++idx) {
      layers[idx].prefill.add(other.layers[idx].prefill);
      layers[idx].decode.add(other.layers[idx].decode);
    }
  }
  LayerSparsity total() const {
    LayerSparsity sum;
    for (const LayerSparsity& layer : layers) {
      sum.prefill.add(layer.prefill);
      sum.decode.add(layer.decode);
    }
    return sum;
  }
};

}  // namespace foveal
