#include "sampler/sampler.h"

#include <exception>
#include <random>

#include "base/check.h"
#include "sampler/choice.h"
#include "sampler/logprob.h"
#include "sampler/philox.h"
#include "sampler/rules.h"

namespace foveal::sampler {
namespace {

uint64_t fresh_seed() {
  try {
    std::random_device device;
    return (static_cast<uint64_t>(device()) << 32) | device();
  } catch (const std::exception& error) {
    fail(ErrorKind::kIo, "sampling.seed", "got no random numbers ({}); need a seed", error.what());
  }
}

}  // namespace

struct Sampler::Impl {
  Filters filters;
  std::optional<int64_t> logprobs;
  uint64_t seed;
  int32_t vocab_size;
  LogitRules rules;

  Impl(const SamplingParams& params, int32_t vocab, std::span<const int32_t> prompt,
       std::span<const int32_t> end_tokens)
      : filters{params.temperature, params.top_k, params.top_p, params.min_p},
        logprobs(params.logprobs),
        seed(params.seed ? *params.seed : fresh_seed()),
        vocab_size(vocab),
        rules(params, vocab, prompt, end_tokens) {}

  int32_t choose_token(std::span<float> logits, std::span<const uint32_t> allowed) const {
    rules.apply(logits, allowed);
    if (filters.temperature == 0) return argmax(logits);
    return choose(logits, filters,
                  uniform_draw(seed, static_cast<uint64_t>(rules.num_generated())));
  }
};

Sampler::Sampler(const SamplingParams& params, int32_t vocab_size, std::span<const int32_t> prompt,
                 std::span<const int32_t> end_tokens) {
  validate(params, vocab_size);
  impl_ = std::make_unique<Impl>(params, vocab_size, prompt, end_tokens);
}
Sampler::~Sampler() = default;
Sampler::Sampler(Sampler&&) noexcept = default;

SampleResult Sampler::sample(std::span<float> logits, std::span<const uint32_t> allowed) {
  FOVEAL_CHECK(logits.size() == static_cast<size_t>(impl_->vocab_size), ErrorKind::kInternal,
               "sampling", "got {} logits; need {}", logits.size(), impl_->vocab_size);
  check_logits(logits);
  SampleResult result;
  const std::optional<int64_t> num_top = impl_->logprobs;
  if (!num_top) {
    result.token = impl_->choose_token(logits, allowed);
  } else {
    // The unmodified logits are needed once the token is known.
    thread_local std::vector<float> edited;
    std::span<float> chosen_from = logits;
    if (!impl_->rules.idle() || !allowed.empty()) {
      edited.assign(logits.begin(), logits.end());
      chosen_from = edited;
    }
    result.token = impl_->choose_token(chosen_from, allowed);
    const double normalizer = log_sum_exp(logits);
    const TokenLogprob own = token_logprob(logits, result.token, normalizer);
    result.logprob = own.logprob;
    result.rank = own.rank;
    result.top = top_logprobs(logits, static_cast<int32_t>(*num_top), normalizer);
  }
  accept(result.token);
  return result;
}

bool Sampler::describe(kernels::cuda::SampleRow& row, std::vector<kernels::cuda::LogitEdit>& edits,
                       int64_t pending) const {
  constexpr size_t kMostEdits = 8192;  // the copy of more costs as much as that of the logits
  if (impl_->logprobs || impl_->rules.num_edits() > kMostEdits) return false;
  row = {.temperature = impl_->filters.temperature,
         .top_p = impl_->filters.top_p,
         .min_p = impl_->filters.min_p,
         .seed = impl_->seed,
         .top_k = impl_->filters.top_k};
  impl_->rules.describe(row);
  row.index += static_cast<uint64_t>(pending);
  if (!impl_->rules.idle()) impl_->rules.append_edits(edits);
  return true;
}

bool Sampler::memoryless() const { return impl_->rules.idle(); }

void Sampler::fail_choice(uint32_t flags) {
  FOVEAL_CHECK((flags & kernels::cuda::kSampleBadLogit) == 0, ErrorKind::kInternal, "sampling",
               "got a logit that is NaN or +inf, or -inf for all; need numbers below infinity");
  fail(ErrorKind::kInvalidArgument, "sampling",
       "got a ban of every token; need bad_words, stop tokens and min_tokens that leave one");
}

void Sampler::accept(int32_t token) { impl_->rules.accept(token); }

}  // namespace foveal::sampler
