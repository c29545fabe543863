#include "engine/loop.h"

#include <pthread.h>

#include <algorithm>

#include "base/check.h"

namespace foveal::engine {
namespace {

// Said before the prompt is read rather than after, or by the system's killer.
void check_kept_logits(const EngineRequest& request, int64_t vocab) {
  if (!request.logits_from) return;
  const int64_t rows = static_cast<int64_t>(request.prompt.size()) - *request.logits_from;
  const int64_t bytes = rows * vocab * static_cast<int64_t>(sizeof(float));
  const int64_t free_bytes = available_memory(Device{});
  FOVEAL_CHECK(
      bytes <= free_bytes, ErrorKind::kOutOfMemory, "logits",
      "got {} positions of {} bytes; need at most {} positions (logits_last), for {} bytes "
      "are free",
      rows, vocab * static_cast<int64_t>(sizeof(float)),
      free_bytes / (vocab * static_cast<int64_t>(sizeof(float))), free_bytes);
}

}  // namespace

Engine::Loop::Loop(const LlmConfig& config, const model::Checkpoint& checkpoint)
    : config_(config),
      pool_(static_cast<int>(config.threads)),
      setup_(make_setup(config, checkpoint)),
      stream_(setup_.device, pool_),
      model_(model::Model::create(checkpoint, setup_.max_seq_len, stream_)),
      storage_(setup_.device, setup_.geometry, setup_.attention->lanes(),
               setup_.capacity.num_pages),
      allocator_(setup_.capacity.num_pages),
      prefix_(config.kv_cache_config.enable_block_reuse && setup_.attention->shares_prefix_pages()
                  ? std::make_unique<kv::PrefixIndex>(allocator_, setup_.geometry.page_size)
                  : nullptr),
      scheduler_(setup_.scheduler, allocator_, prefix_.get()),
      attention_(*setup_.attention, setup_.shape),
      page_used_(static_cast<size_t>(setup_.capacity.num_pages)) {
  for (int32_t layer = 0; layer < setup_.shape.num_layers; ++layer) {
    views_.push_back(storage_.layer_view(layer));
  }
  info_ = engine_info(setup_, checkpoint, pool_.num_threads());
  thread_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "foveal-engine");
    run();
  });
}

Engine::Loop::~Loop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void Engine::Loop::on_prefill(PrefillCallback callback) {
  const std::lock_guard lock(mutex_);
  prefill_callback_ = std::move(callback);
}

std::shared_ptr<TokenStream> Engine::Loop::submit(EngineRequest request) {
  const int32_t vocab = model_->config().vocab_size;
  const auto prompt = static_cast<int64_t>(request.prompt.size());
  FOVEAL_CHECK(prompt > 0, ErrorKind::kInvalidArgument, "prompt",
               "got no tokens; need at least one");
  FOVEAL_CHECK(
      prompt < setup_.max_seq_len ||
          (prompt == setup_.max_seq_len && request.sampling.max_tokens == 0),
      ErrorKind::kContextLength, "prompt",
      "got {} tokens; need fewer than {} (the least of max_seq_len, the model's context of "
      "{} and the cache's {} tokens)",
      prompt, setup_.max_seq_len, model_->config().max_positions, setup_.capacity.num_tokens);
  for (const int32_t token : request.prompt) {
    FOVEAL_CHECK(token >= 0 && token < vocab, ErrorKind::kInvalidArgument, "prompt",
                 "got token id {}; need 0 to {}", token, vocab - 1);
  }
  sampler::validate(request.sampling, vocab);
  check_kept_logits(request, vocab);
  request.sampling.max_tokens =
      std::min<int64_t>(request.sampling.max_tokens, setup_.max_seq_len - prompt);
  auto stream = std::make_shared<TokenStream>();
  const std::lock_guard lock(mutex_);
  FOVEAL_CHECK(!stopping_, ErrorKind::kCancelled, "engine", "got a request; need a running engine");
  inbox_.push_back(std::make_unique<Running>(next_id_++, std::move(request), vocab, stream));
  wake_.notify_all();
  return stream;
}

bool Engine::Loop::wait_for_work() {
  std::unique_lock lock(mutex_);
  wake_.wait(lock, [this] { return stopping_ || !inbox_.empty() || !running_.empty(); });
  return !stopping_;
}

void Engine::Loop::take_inbox() {
  while (traced_ == 0) {
    std::unique_ptr<Running> next;
    {
      const std::lock_guard lock(mutex_);
      if (inbox_.empty()) return;
      if (inbox_.front()->trace() != nullptr && !running_.empty()) return;
      next = std::move(inbox_.front());
      inbox_.pop_front();
    }
    admit(std::move(next));
  }
}

void Engine::Loop::admit(std::unique_ptr<Running> running) {
  const bool whole = running->needs_whole_prompt();
  const std::string root =
      setup_.prefix_settings + '|' + setup_.attention->prefix_key(running->prompt_len());
  scheduler::NewRequest request{
      .id = running->id(),
      .prompt = running->request().prompt,
      .max_new_tokens = static_cast<int32_t>(running->request().sampling.max_tokens),
      .prefix_root = kv::PrefixIndex::root(root),
      .reuse_prefix = !whole};
  scheduler::AddResult result{};
  try {
    result = scheduler_.add(std::move(request));
  } catch (const Error& error) {
    running->finish(FinishReason::kError, 0, setup_.attention->name(), error);
    return;
  }
  if (result == scheduler::AddResult::kQueued) {
    if (running->trace() != nullptr) traced_ = running->id();
    running_.emplace(running->id(), std::move(running));
    return;
  }
  const char* text = result == scheduler::AddResult::kQueueFull
                         ? "[engine] got a full queue; need fewer waiting requests"
                         : "[engine] got a request larger than the cache; need a larger cache";
  running->finish(FinishReason::kError, 0, setup_.attention->name(),
                  Error(ErrorKind::kOutOfMemory, text));
}

void Engine::Loop::drop_cancelled() {
  std::vector<RequestId> cancelled;
  for (const auto& [id, running] : running_) {
    if (running->stream().cancelled()) cancelled.push_back(id);
  }
  for (const RequestId id : cancelled) end(id, FinishReason::kCancelled);
}

void Engine::Loop::run() {
  std::optional<Error> broken;
  try {
    while (wait_for_work()) {
      take_inbox();
      drop_cancelled();
      if (!running_.empty()) step();
    }
  } catch (const std::exception& error) {
    // Nothing may leave a thread. Consumers learn why, and later requests are refused.
    broken = Error(ErrorKind::kInternal, std::string("[engine] got a failed step (") +
                                             error.what() + "); need a restart");
  }
  const FinishReason reason = broken ? FinishReason::kError : FinishReason::kCancelled;
  const std::string method = setup_.attention->name();
  for (auto& [id, running] : running_) running->finish(reason, 0, method, broken);
  running_.clear();
  const std::lock_guard lock(mutex_);
  stopping_ = true;
  for (auto& waiting : inbox_) waiting->finish(reason, 0, method, broken);
  inbox_.clear();
}

void Engine::Loop::end(RequestId id, FinishReason reason, const std::optional<Error>& error) {
  const auto found = running_.find(id);
  if (found == running_.end()) return;
  const bool good = reason == FinishReason::kStop || reason == FinishReason::kLength;
  if (good) {
    scheduler_.finish(id);
  } else {
    scheduler_.cancel(id);
  }
  if (traced_ == id) traced_ = 0;
  found->second->finish(reason, storage_.bytes_per_page(), setup_.attention->name(), error);
  running_.erase(found);
}

Engine::Engine(const LlmConfig& config, const model::Checkpoint& checkpoint)
    : loop_(std::make_unique<Loop>(config, checkpoint)) {}
Engine::~Engine() = default;

std::shared_ptr<TokenStream> Engine::submit(EngineRequest request) {
  return loop_->submit(std::move(request));
}
const EngineInfo& Engine::info() const { return loop_->info(); }
void Engine::on_prefill(PrefillCallback callback) { loop_->on_prefill(std::move(callback)); }

}  // namespace foveal::engine
