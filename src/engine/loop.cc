#include "engine/loop.h"

#include <fmt/format.h>
#include <pthread.h>

#include <algorithm>

#include "base/check.h"
#include "base/log.h"

namespace foveal::engine {
namespace {

// Said before the prompt is read rather than after, or by the system's killer.
void check_kept_logits(const EngineRequest& request, int64_t vocab) {
  const auto prompt = static_cast<int64_t>(request.prompt.size());
  int64_t rows = prompt - request.logits_from.value_or(prompt);
  if (request.generation_logits) rows += request.sampling.max_tokens;
  if (rows == 0) return;
  const int64_t bytes = rows * vocab * static_cast<int64_t>(sizeof(float));
  const int64_t free_bytes = available_memory(Device{});
  FOVEAL_CHECK(
      bytes <= free_bytes, ErrorKind::kOutOfMemory, "logits",
      "got {} positions of {} bytes; need at most {} positions (logits_last), for {} bytes "
      "are free",
      rows, vocab * static_cast<int64_t>(sizeof(float)),
      free_bytes / (vocab * static_cast<int64_t>(sizeof(float))), free_bytes);
}

void check_ids(std::string_view where, std::span<const int32_t> ids, int32_t vocab) {
  for (const int32_t token : ids) {
    FOVEAL_CHECK(token >= 0 && token < vocab, ErrorKind::kInvalidArgument, where,
                 "got token id {}; need 0 to {}", token, vocab - 1);
  }
}

// Rows that only fill up a step on CUDA have a page of their own.
int32_t pool_pages(const Setup& setup) {
  return setup.capacity.num_pages + (setup.device.kind == DeviceKind::kCuda ? 1 : 0);
}

}  // namespace

Engine::Loop::Loop(const LlmConfig& config, const model::Checkpoint& checkpoint)
    : config_(config),
      pool_(static_cast<int>(config.threads)),
      setup_(make_setup(config, checkpoint)),
      stream_(setup_.device, pool_),
      model_(model::Model::create(checkpoint, model_limits(setup_, config), stream_)),
      storage_(setup_.device, setup_.geometry, setup_.attention->lanes(setup_.geometry),
               pool_pages(setup_)),
      allocator_(setup_.capacity.num_pages),
      prefix_(config.kv_cache_config.enable_block_reuse && setup_.attention->shares_prefix_pages()
                  ? std::make_unique<kv::PrefixIndex>(allocator_, setup_.geometry.page_size)
                  : nullptr),
      scheduler_(setup_.scheduler, allocator_, prefix_.get()),
      attention_(*setup_.attention, setup_.shape, {.count = config.sparsity_counters}),
      page_used_(static_cast<size_t>(setup_.capacity.num_pages)) {
  for (int32_t layer = 0; layer < setup_.shape.num_layers; ++layer) {
    views_.push_back(storage_.layer_view(layer));
  }
  if (setup_.device.kind == DeviceKind::kCuda) {
    device_step_ = make_device_step(setup_, *model_, attention_, storage_, views_, stream_);
    stream_.synchronize();
    warm_up();
  }
  info_ = engine_info(setup_, pool_.num_threads());
  note_stats();
  thread_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "foveal-engine");
    stream_.make_current();
    run();
  });
}

// A device loads a kernel, and the GEMM library chooses, when they are first needed: here, so that
// the first caller does not wait for it and what cannot run says so before anybody is served.
void Engine::Loop::warm_up() {
  constexpr int64_t kPrompt = 20;  // more rows than the decode kernels take
  constexpr int64_t kTokens = 4;   // of the same step the second is recorded, the third replayed
  const int64_t prompt = std::min(kPrompt, setup_.max_seq_len - kTokens);
  if (prompt < 1) return;
  EngineRequest request;
  request.prompt.assign(static_cast<size_t>(prompt), 0);
  request.logits_from = prompt - 1;  // which keeps it out of the prefix index
  request.sampling = {.max_tokens = kTokens, .temperature = 1, .top_k = 50, .top_p = 0.9};
  request.sampling.ignore_eos = true;
  const auto stream = std::make_shared<TokenStream>();
  admit(std::make_unique<Running>(next_id_++, std::move(request), model_->config().vocab_size,
                                  stream));
  while (!running_.empty() || flying_ != nullptr) step();
  const RequestSummary summary = stream->summary();
  if (summary.error) throw Error(*summary.error);
  counted_ = {};
  step_ended_.reset();
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

void Engine::Loop::check(const EngineRequest& request) const {
  const int32_t vocab = model_->config().vocab_size;
  const auto prompt = static_cast<int64_t>(request.prompt.size());
  FOVEAL_CHECK(prompt > 0, ErrorKind::kInvalidArgument, "prompt",
               "got no tokens; need at least one");
  FOVEAL_CHECK(
      prompt < setup_.max_seq_len ||
          (prompt == setup_.max_seq_len && request.sampling.max_tokens == 0),
      ErrorKind::kContextLength, "prompt",
      "got {} tokens; need fewer than {} (the least of max_seq_len, the model's context of "
      "{} and the cache's {} tokens, without what a method copies beside them)",
      prompt, setup_.max_seq_len, model_->config().max_positions, setup_.capacity.num_tokens);
  check_ids("prompt", request.prompt, vocab);
  check_ids("forced_tokens", request.forced_tokens, vocab);
  const auto forced = static_cast<int64_t>(request.forced_tokens.size());
  FOVEAL_CHECK(forced <= setup_.max_seq_len - prompt, ErrorKind::kContextLength, "forced_tokens",
               "got {} after a prompt of {}; need at most {}", forced, prompt,
               setup_.max_seq_len - prompt);
  sampler::validate(request.sampling, vocab);
  const bool single = request.trace_filter || request.generation_logits || forced > 0;
  FOVEAL_CHECK(request.sampling.n == 1 || !single, ErrorKind::kInvalidArgument, "n",
               "got {} with a trace, generation_logits or forced_tokens; need 1",
               request.sampling.n);
  check_kept_logits(request, vocab);
}

std::vector<std::shared_ptr<TokenStream>> Engine::Loop::submit(EngineRequest request) {
  check(request);
  const auto prompt = static_cast<int64_t>(request.prompt.size());
  request.sampling.max_tokens =
      std::min<int64_t>(request.sampling.max_tokens, setup_.max_seq_len - prompt);
  const PhaseValue factors = request.sparse_attention
                                 ? setup_.attention->request_factors(*request.sparse_attention)
                                 : PhaseValue{};
  const int64_t count = request.sampling.n;
  const std::optional<uint64_t> seed = request.sampling.seed;
  const int32_t vocab = model_->config().vocab_size;
  std::vector<std::shared_ptr<TokenStream>> streams;
  std::vector<std::unique_ptr<Running>> group;
  for (int64_t idx = 0; idx < count; ++idx) {
    streams.push_back(std::make_shared<TokenStream>());
    EngineRequest own = request;
    if (seed) own.sampling.seed = *seed + static_cast<uint64_t>(idx);
    if (own.constraint && count > 1) {  // each its own state
      own.constraint = std::make_shared<tokenizer::Constraint>(own.constraint->fork());
    }
    if (idx > 0) {  // what is asked of the prompt is asked of it once
      own.logits_from.reset();
      own.sampling.prompt_logprobs.reset();
    }
    group.push_back(std::make_unique<Running>(0, std::move(own), vocab, streams.back()));
    group.back()->set_factors(factors);
  }
  const std::lock_guard lock(mutex_);
  FOVEAL_CHECK(!stopping_, ErrorKind::kCancelled, "engine", "got a request; need a running engine");
  const RequestId leader = next_id_;
  for (std::unique_ptr<Running>& running : group) {
    running->set_id(next_id_++);
    if (running->id() != leader) running->follow(leader);
    inbox_.push_back(std::move(running));
  }
  wake_.notify_all();
  return streams;
}

bool Engine::Loop::wait_for_work() {
  std::unique_lock lock(mutex_);
  wake_.wait(lock, [this] {
    return stopping_ || !inbox_.empty() || !running_.empty() || !followers_.empty() ||
           flying_ != nullptr;
  });
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
    const auto leader = running_.find(next->leader());
    if (leader != running_.end() && !leader->second->prompt_computed()) {
      followers_[next->leader()].push_back(std::move(next));
    } else {
      admit(std::move(next));
    }
  }
}

void Engine::Loop::take_followers() {
  for (auto group = followers_.begin(); group != followers_.end();) {
    const auto leader = running_.find(group->first);
    if (leader != running_.end() && !leader->second->prompt_computed()) {
      ++group;
      continue;
    }
    std::vector<std::unique_ptr<Running>> ready = std::move(group->second);
    group = followers_.erase(group);
    for (std::unique_ptr<Running>& running : ready) admit(std::move(running));
  }
}

void Engine::Loop::admit(std::unique_ptr<Running> running) {
  const bool whole = running->needs_whole_prompt();
  const auto prompt_len = static_cast<int32_t>(running->prompt_len());
  const auto max_new = static_cast<int32_t>(running->request().sampling.max_tokens);
  const std::string root =
      fmt::format("{}|{}|{}", setup_.prefix_settings, running->request().cache_salt,
                  setup_.attention->prefix_key(running->prompt_len(), running->factors()));
  scheduler::NewRequest request{.id = running->id(),
                                .prompt = running->request().prompt,
                                .max_new_tokens = max_new,
                                .prefix_root = kv::PrefixIndex::root(root),
                                .reuse_prefix = !whole};
  // The first token comes from the prompt's last row: only those after it read what was kept.
  if (max_new > 1) {
    request.kept = setup_.attention->kept_tokens(prompt_len);
    request.tail = setup_.attention->own_tokens(prompt_len);
  }
  scheduler::AddResult result{};
  try {
    result = scheduler_.add(std::move(request));
  } catch (const Error& error) {
    running->finish(FinishReason::kError, 0, setup_.attention->name(), error);
    return;
  }
  if (result == scheduler::AddResult::kQueued) {
    if (running->trace() != nullptr) traced_ = running->id();
    if (device_step_) running->hold_events();
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
  // Those that wait for a prompt first: whoever hears of the leader's end finds none in the counts.
  for (auto& [leader, group] : followers_) {
    std::erase_if(group, [this](std::unique_ptr<Running>& running) {
      if (!running->stream().cancelled()) return false;
      running->finish(FinishReason::kCancelled, 0, setup_.attention->name());
      return true;
    });
  }
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
      take_followers();
      drop_cancelled();
      if (running_.empty()) step_ended_.reset();
      if (!running_.empty() || flying_ != nullptr) step();
      // Beside a device that works this is done while it works.
      if (!device_step_ || running_.empty()) note_stats();
    }
  } catch (const std::exception& error) {
    // Nothing may leave a thread. Consumers learn why, and later requests are refused.
    broken = Error(ErrorKind::kInternal, std::string("[engine] got a failed step (") +
                                             error.what() + "); need a restart");
  }
  wait_for_device();
  const FinishReason reason = broken ? FinishReason::kError : FinishReason::kCancelled;
  const std::string method = setup_.attention->name();
  for (auto& [id, running] : running_) running->finish(reason, 0, method, broken);
  running_.clear();
  for (auto& [id, group] : followers_) {
    for (auto& running : group) running->finish(reason, 0, method, broken);
  }
  followers_.clear();
  const std::lock_guard lock(mutex_);
  stats_.failed = broken.has_value();
  stopping_ = true;
  for (auto& waiting : inbox_) waiting->finish(reason, 0, method, broken);
  inbox_.clear();
}

// What a step under way writes is freed after this.
void Engine::Loop::wait_for_device() {
  try {
    stream_.synchronize();
  } catch (const Error& error) {
    log_error("{}", error.what());
  }
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
  const std::unique_ptr<Running> running = std::move(found->second);
  running_.erase(found);
  running->add_work(counted_.sparsity);
  // Whoever waits for the last one's end finds it in the counts.
  if (running_.empty()) note_stats();
  running->finish(reason, storage_.bytes_per_page(), setup_.attention->name(), error);
}

// Pages that only the index holds are counted by walking it: not at every step.
void Engine::Loop::note_stats() {
  constexpr auto kInterval = std::chrono::milliseconds(100);
  const Clock::time_point now = Clock::now();
  if (!running_.empty() && now - stats_time_ < kInterval) return;
  stats_time_ = now;
  counted_.running = scheduler_.num_running();
  counted_.waiting = scheduler_.num_waiting();
  for (const auto& [leader, group] : followers_) counted_.waiting += std::ssize(group);
  counted_.kv_pages_total = allocator_.num_pages();
  counted_.kv_pages_cached = prefix_ ? prefix_->num_evictable() : 0;
  counted_.kv_pages_used =
      counted_.kv_pages_total - allocator_.num_free() - counted_.kv_pages_cached;
  counted_.page_size = setup_.geometry.page_size;
  counted_.sparsity.method = setup_.attention->name();
  const std::lock_guard lock(mutex_);
  stats_ = counted_;
}

EngineStats Engine::Loop::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

Engine::Engine(const LlmConfig& config, const model::Checkpoint& checkpoint)
    : loop_(std::make_unique<Loop>(config, checkpoint)) {}
Engine::~Engine() = default;

std::vector<std::shared_ptr<TokenStream>> Engine::submit(EngineRequest request) {
  return loop_->submit(std::move(request));
}
EngineStats Engine::stats() const { return loop_->stats(); }
const EngineInfo& Engine::info() const { return loop_->info(); }
void Engine::on_prefill(PrefillCallback callback) { loop_->on_prefill(std::move(callback)); }

}  // namespace foveal::engine
