#include "sampler/rules.h"

#include <algorithm>
#include <limits>

namespace foveal::sampler {
namespace {

constexpr float kBanned = -std::numeric_limits<float>::infinity();

/// Extreme penalties saturate: an infinity would have no probability.
float to_logit(double value) {
  constexpr double kMax = std::numeric_limits<float>::max();
  return static_cast<float>(std::clamp(value, -kMax, kMax));
}

}  // namespace

LogitRules::LogitRules(const SamplingParams& params, int32_t vocab_size,
                       std::span<const int32_t> prompt, std::span<const int32_t> end_tokens)
    : vocab_size_(vocab_size),
      repetition_(params.repetition_penalty),
      presence_(params.presence_penalty),
      frequency_(params.frequency_penalty),
      min_tokens_(params.min_tokens),
      bias_(params.logit_bias.begin(), params.logit_bias.end()),
      bad_words_(params.bad_words) {
  if (min_tokens_ > 0) {
    early_bans_ = params.stop_token_ids;
    std::copy_if(end_tokens.begin(), end_tokens.end(), std::back_inserter(early_bans_),
                 [&](int32_t token) { return in_vocab(token); });
  }
  for (const std::vector<int32_t>& word : bad_words_) {
    history_len_ = std::max(history_len_, word.size() - 1);
  }
  const size_t kept = std::min(history_len_, prompt.size());
  history_.assign(prompt.end() - static_cast<ptrdiff_t>(kept), prompt.end());
  if (repetition_ != 1) {
    for (const int32_t token : prompt) remember(token, /*generated=*/0);
  }
}

bool LogitRules::idle() const {
  return bias_.empty() && bad_words_.empty() && seen_.empty() && num_generated_ >= min_tokens_;
}

void LogitRules::remember(int32_t token, int64_t generated) {
  if (!in_vocab(token)) return;
  const auto [slot, is_new] = seen_slot_.try_emplace(token, seen_.size());
  if (is_new) seen_.push_back({token, 0});
  seen_[slot->second].generated += generated;
}

void LogitRules::note_history(int32_t token) {
  if (history_len_ == 0) return;
  // Cut back only now and then, so that a token costs constant time.
  if (history_.size() >= 2 * history_len_ + 64) {
    history_.erase(history_.begin(), history_.end() - static_cast<ptrdiff_t>(history_len_));
  }
  history_.push_back(token);
}

void LogitRules::accept(int32_t token) {
  ++num_generated_;
  note_history(token);
  if (repetition_ != 1 || presence_ != 0 || frequency_ != 0) remember(token, /*generated=*/1);
}

template <class Ban>
void LogitRules::each_banned_word(const Ban& ban) const {
  for (const std::vector<int32_t>& word : bad_words_) {
    const size_t before = word.size() - 1;
    if (before > history_.size()) continue;
    if (std::equal(word.begin(), word.end() - 1, history_.end() - static_cast<ptrdiff_t>(before))) {
      ban(word.back());
    }
  }
}

void LogitRules::penalise(std::span<float> logits) const {
  for (const Seen& seen : seen_) {
    float& logit = logits[static_cast<size_t>(seen.token)];
    if (logit == kBanned) continue;
    double value = logit;
    value = value > 0 ? value / repetition_ : value * repetition_;
    value -= frequency_ * static_cast<double>(seen.generated);
    if (seen.generated > 0) value -= presence_;
    logit = to_logit(value);
  }
}

void LogitRules::ban_others(std::span<float> logits, std::span<const uint32_t> allowed) const {
  for (size_t first = 0; first < logits.size(); first += 32) {
    const uint32_t word = first / 32 < allowed.size() ? allowed[first / 32] : 0;
    const std::span<float> block =
        logits.subspan(first, std::min<size_t>(32, logits.size() - first));
    if (word == 0) {
      std::fill(block.begin(), block.end(), kBanned);
      continue;
    }
    for (size_t bit = 0; bit < block.size(); ++bit) {
      if ((word >> bit & 1) == 0) block[bit] = kBanned;
    }
  }
}

void LogitRules::describe(kernels::cuda::SampleRow& row) const {
  row.repetition = repetition_;
  row.presence = presence_;
  row.frequency = frequency_;
  row.index = static_cast<uint64_t>(num_generated_);
}

void LogitRules::append_edits(std::vector<kernels::cuda::LogitEdit>& edits) const {
  using kernels::cuda::LogitEdit;
  const auto first = static_cast<ptrdiff_t>(edits.size());
  for (const auto& [token, bias] : bias_) {
    edits.push_back({.token = token, .what = LogitEdit::kBias, .bias = bias});
  }
  each_banned_word(
      [&](int32_t token) { edits.push_back({.token = token, .what = LogitEdit::kBan}); });
  if (num_generated_ < min_tokens_) {
    for (const int32_t token : early_bans_) {
      edits.push_back({.token = token, .what = LogitEdit::kBan});
    }
  }
  for (const Seen& seen : seen_) {
    edits.push_back(
        {.token = seen.token, .what = LogitEdit::kPenalise, .generated = seen.generated});
  }
  const auto begin = edits.begin() + first;
  std::sort(begin, edits.end(),
            [](const LogitEdit& a, const LogitEdit& b) { return a.token < b.token; });
  auto last = begin;
  for (auto edit = begin; edit != edits.end(); ++edit) {
    if (edit == last) continue;
    if (edit->token == last->token) {  // each kind but a ban comes once a token
      last->what |= edit->what;
      last->bias += edit->bias;
      last->generated += edit->generated;
    } else {
      *++last = *edit;
    }
  }
  if (begin != edits.end()) edits.erase(last + 1, edits.end());
}

void LogitRules::apply(std::span<float> logits, std::span<const uint32_t> allowed) const {
  for (const auto& [token, bias] : bias_) {
    float& logit = logits[static_cast<size_t>(token)];
    if (logit != kBanned) logit = to_logit(logit + bias);
  }
  each_banned_word([&](int32_t token) { logits[static_cast<size_t>(token)] = kBanned; });
  if (num_generated_ < min_tokens_) {
    for (const int32_t token : early_bans_) logits[static_cast<size_t>(token)] = kBanned;
  }
  if (!allowed.empty()) ban_others(logits, allowed);
  penalise(logits);
}

}  // namespace foveal::sampler
