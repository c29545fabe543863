#include "engine/generation.h"

#include <algorithm>
#include <utility>

namespace foveal {
void GenerationState::Signal::raise() {
  std::function<void()> call;
  {
    const std::lock_guard lock(mutex);
    ++count;
    call = callback;
  }
  changed.notify_all();
  if (call) call();
}

GenerationState::GenerationState(std::vector<int32_t> prompt, const SamplingParams& sampling,
                                 std::vector<std::shared_ptr<engine::TokenStream>> streams,
                                 const tokenizer::Tokenizer* tokenizer)
    : prompt_(std::move(prompt)), signal_(std::make_shared<Signal>()) {
  completions_.reserve(streams.size());
  for (auto& stream : streams) {
    stream->on_ready([signal = signal_] { signal->raise(); });
    const auto index = static_cast<int32_t>(completions_.size());
    completions_.emplace_back(index, sampling, std::move(stream), tokenizer);
  }
}

GenerationState::~GenerationState() {
  {
    const std::lock_guard lock(signal_->mutex);
    signal_->callback = nullptr;
  }
  for (CompletionStream& completion : completions_) {
    completion.stream().on_ready(nullptr);
    completion.stream().cancel();  // nobody is left to read what would come
  }
}

std::optional<OutputDelta> GenerationState::poll() {
  for (size_t step = 0; step < completions_.size(); ++step) {
    turn_ = (turn_ + 1) % completions_.size();
    if (auto delta = completions_[turn_].poll()) return delta;
  }
  return std::nullopt;
}

bool GenerationState::ended() const {
  return std::all_of(completions_.begin(), completions_.end(),
                     [](const CompletionStream& completion) { return completion.ended(); });
}

std::optional<OutputDelta> GenerationState::next_delta() {
  while (true) {
    uint64_t seen = 0;
    {
      const std::lock_guard lock(signal_->mutex);
      seen = signal_->count;
    }
    if (auto delta = poll()) return delta;
    if (ended()) return std::nullopt;
    std::unique_lock lock(signal_->mutex);
    signal_->changed.wait(lock, [&] { return signal_->count != seen; });
  }
}

std::optional<std::string> GenerationState::next() {
  while (auto delta = next_delta()) {
    if (delta->index == 0) return std::move(delta->text);
  }
  return std::nullopt;
}

void GenerationState::on_ready(std::function<void()> callback) {
  {
    const std::lock_guard lock(signal_->mutex);
    signal_->callback = std::move(callback);
  }
  signal_->raise();
}

void GenerationState::cancel() {
  for (CompletionStream& completion : completions_) completion.stream().cancel();
}

RequestOutput GenerationState::result() {
  while (next_delta()) {
  }
  RequestOutput out;
  out.prompt_token_ids = prompt_;
  for (CompletionStream& completion : completions_) {
    engine::RequestSummary& summary = completion.summary();
    if (completion.failed()) throw *summary.error;
    out.outputs.push_back(completion.output());
    out.sparsity.method = summary.sparsity.method;
    out.sparsity.add(summary.sparsity);
    out.memory.kv_bytes += summary.memory.kv_bytes;
    out.memory.kv_peak_bytes += summary.memory.kv_peak_bytes;
  }
  // The prompt is the first completion's; the others found it in the prefix index.
  engine::RequestSummary& first = completions_.front().summary();
  out.prompt_logprobs = std::move(first.prompt_logprobs);
  out.prompt_top_logprobs = std::move(first.prompt_top_logprobs);
  out.cached_tokens = first.cached_tokens;
  out.timings = first.timings;
  out.logits = std::move(first.logits);
  out.generation_logits = std::move(first.generation_logits);
  out.trace = std::move(first.trace);
  return out;
}

std::optional<std::string> Generation::next() { return state_->next(); }
std::optional<OutputDelta> Generation::next_delta() { return state_->next_delta(); }
std::optional<OutputDelta> Generation::poll() { return state_->poll(); }
bool Generation::ended() const { return state_->ended(); }
void Generation::on_ready(std::function<void()> callback) { state_->on_ready(std::move(callback)); }
void Generation::cancel() { state_->cancel(); }
RequestOutput Generation::result() { return state_->result(); }

}  // namespace foveal
