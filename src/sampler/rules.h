#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "foveal/request.h"
#include "kernels/cuda/sample.h"

namespace foveal::sampler {

/// What one request does to its logits before a token is chosen: logit bias, bans, penalties. Keeps
/// what it needs of the history, and touches only the entries that are named there.
///
/// Bad words match over prompt and generated tokens together (as Hugging Face and TensorRT-LLM do):
/// the last token of a sequence is banned while the tokens before it end the history. Repetition
/// counts prompt and generated tokens, presence and frequency generated ones only (as OpenAI and
/// vLLM do). A banned logit is -inf and stays so.
class LogitRules {
 public:
  /// `params` must have passed `validate`. Tokens of the prompt and end tokens outside of the
  /// vocabulary (a multimodal placeholder, say) cannot be generated and are ignored.
  LogitRules(const SamplingParams& params, int32_t vocab_size, std::span<const int32_t> prompt,
             std::span<const int32_t> end_tokens);

  /// `allowed`: as for Sampler::sample.
  void apply(std::span<float> logits, std::span<const uint32_t> allowed = {}) const;
  void accept(int32_t token);
  int64_t num_generated() const { return num_generated_; }
  /// What `apply` would do, as edits of single logits for the device: appended, at most one a
  /// token.
  void append_edits(std::vector<kernels::cuda::LogitEdit>& edits) const;
  /// The penalties, which an edit names.
  void describe(kernels::cuda::SampleRow& row) const;
  /// How many edits there would be, at most.
  size_t num_edits() const {
    return bias_.size() + bad_words_.size() + early_bans_.size() + seen_.size();
  }
  /// True when `apply` would leave logits alone, so that a caller need not copy them.
  bool idle() const;

 private:
  struct Seen {
    int32_t token;
    int64_t generated;  ///< times; 0: in the prompt only
  };

  bool in_vocab(int32_t token) const { return token >= 0 && token < vocab_size_; }
  void remember(int32_t token, int64_t generated);
  void note_history(int32_t token);
  void penalise(std::span<float> logits) const;
  void ban_others(std::span<float> logits, std::span<const uint32_t> allowed) const;
  template <class Ban>
  void each_banned_word(const Ban& ban) const;

  int32_t vocab_size_;
  double repetition_;
  double presence_;
  double frequency_;
  int64_t min_tokens_;
  std::vector<std::pair<int32_t, double>> bias_;
  std::vector<int32_t> early_bans_;  ///< while fewer than min_tokens were generated
  std::vector<std::vector<int32_t>> bad_words_;
  size_t history_len_ = 0;        ///< the longest bad word, less its last token
  std::vector<int32_t> history_;  ///< at least the last history_len_ tokens
  std::vector<Seen> seen_;
  std::unordered_map<int32_t, size_t> seen_slot_;
  int64_t num_generated_ = 0;
};

}  // namespace foveal::sampler
