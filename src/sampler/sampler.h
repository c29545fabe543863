#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "foveal/request.h"
#include "kernels/cuda/sample.h"

namespace foveal::sampler {

struct SampleResult {
  int32_t token = 0;
  float logprob = 0;  ///< of the token under the unmodified logits; 0 unless logprobs are asked for
  std::vector<TokenLogprob> top;  ///< SamplingParams::logprobs many, best first
  int32_t rank = 0;               ///< of the token among the unmodified logits, 1: the best; else 0
};

/// Throws kInvalidArgument naming the first field that is out of range, what it got and needs.
void validate(const SamplingParams& params, int32_t vocab_size);

/// Chooses tokens for one request. Order: logit bias, bad words and min_tokens bans, what
/// a constraint does not allow, penalties, temperature, top_k, top_p, min_p, draw; see rules.h and
/// choice.h for their definitions. Ties go to the lower id everywhere. Temperature 0 takes the best
/// token after bans and penalties. The draw for output position i is a pure function of (seed, i)
/// (Philox 4x32-10, philox.h), so same logits and seed give the same text in any batch.
class Sampler {
 public:
  /// `end_tokens` and stop_token_ids are banned while fewer than min_tokens were generated. Throws
  /// as `validate` does.
  Sampler(const SamplingParams& params, int32_t vocab_size, std::span<const int32_t> prompt,
          std::span<const int32_t> end_tokens);
  ~Sampler();
  Sampler(Sampler&&) noexcept;

  /// Chooses a token and accepts it. `logits` [vocab_size] may be overwritten. NaN, +inf or no
  /// finite logit is kInternal; a request that bans every token is kInvalidArgument. Where
  /// `allowed` is not empty it has one bit a token, lowest first, and tokens without one are
  /// banned.
  SampleResult sample(std::span<float> logits, std::span<const uint32_t> allowed = {});
  /// How the device would choose the next token from the same logits: fills `row` and appends to
  /// `edits`. False where only the host can: logprobs are asked for, or edits would be too many.
  /// `pending`: so many tokens were chosen that are still to be accepted; only where the choice is
  /// `memoryless`.
  bool describe(kernels::cuda::SampleRow& row, std::vector<kernels::cuda::LogitEdit>& edits,
                int64_t pending = 0) const;
  /// Whether what was chosen so far, but for its number, does not matter for the next choice.
  bool memoryless() const;
  /// Throws what `sample` would, for a row that the device had no token for.
  [[noreturn]] static void fail_choice(uint32_t flags);
  /// Takes a token as generated without choosing (replay after preemption).
  void accept(int32_t token);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// log softmax of one entry and its rank, and the best `top` entries (ties: lowest id; fewer when
/// the vocabulary is smaller; -inf for a logit of -inf). Logits as for `sample`.
TokenLogprob token_logprob(std::span<const float> logits, int32_t token);
std::vector<TokenLogprob> top_logprobs(std::span<const float> logits, int32_t top);

}  // namespace foveal::sampler
