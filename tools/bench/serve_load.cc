#include "bench/serve_load.h"

#include <algorithm>
#include <boost/json/array.hpp>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <new>
#include <thread>

#include "base/check.h"
#include "tokenizer/tokenizer.h"

namespace foveal::bench {
namespace json = boost::json;
namespace {

using Clock = std::chrono::steady_clock;

json::object body_of(const ServeLoad& load, const BenchRequest& request) {
  json::object out{{"max_tokens", request.output_tokens}, {"temperature", 0}};
  if (load.ignore_eos) out["ignore_eos"] = true;
  const auto& ids = request.prompt.token_ids;
  if (ids && !load.chat) {
    out["prompt"] = json::array(ids->begin(), ids->end());
    return out;
  }
  FOVEAL_CHECK(!ids || load.tokenizer != nullptr, ErrorKind::kInvalidArgument, request.task_id,
               "got input_ids for a chat; need a prompt, or --tokenizer-model to make texts with");
  const std::string text =
      ids ? load.tokenizer->decode(*ids, /*skip_special=*/true) : request.prompt.text;
  if (load.chat) {
    out["messages"] = json::array{json::object{{"role", "user"}, {"content", text}}};
  } else {
    out["prompt"] = text;
  }
  return out;
}

Measured measured_of(const BenchRequest& request, client::Streamed&& got) {
  const auto rest = static_cast<double>(got.output_tokens - 1);
  return {.task_id = request.task_id,
          .input_tokens = got.prompt_tokens,
          .output_tokens = got.output_tokens,
          .cached_tokens = got.cached_tokens,
          .ttft_ms = got.ttft_ms,
          .latency_ms = got.latency_ms,
          .tpot_ms = rest > 0 ? (got.latency_ms - got.ttft_ms) / rest : 0,
          .gaps_ms = std::move(got.gaps_ms)};
}

/// Clients are threads with a connection each, as many as are needed at once: one that waits for a
/// server costs nothing, and its clock is read as soon as bytes are there.
class Clients {
 public:
  Clients(const ServeLoad& load, std::span<const BenchRequest> requests,
          const std::function<void(int64_t)>& done)
      : load_(load),
        requests_(requests),
        done_(done),
        measured_(requests.size()),
        errors_(requests.size()) {}

  LoadResult run() {
    FOVEAL_INVARIANT(load_.starts.size() == requests_.size());
    const Clock::time_point start = Clock::now();
    {
      std::vector<std::jthread> threads;
      for (size_t idx = 0; idx < requests_.size(); ++idx) {
        std::this_thread::sleep_until(start +
                                      std::chrono::duration_cast<Clock::duration>(
                                          std::chrono::duration<double>(load_.starts[idx])));
        const std::lock_guard lock(mutex_);
        due_ = idx + 1;
        if (std::ssize(threads) < most() && idle_ < static_cast<int64_t>(due_ - next_)) {
          threads.emplace_back([this] { work(); });
        }
        changed_.notify_all();
      }
      const std::lock_guard lock(mutex_);
      all_due_ = true;
      changed_.notify_all();
    }
    return result(std::chrono::duration<double, std::milli>(Clock::now() - start).count());
  }

 private:
  int64_t most() const { return load_.concurrency > 0 ? load_.concurrency : kMostClients; }

  std::optional<size_t> take() {
    std::unique_lock lock(mutex_);
    ++idle_;
    changed_.wait(lock, [this] { return next_ < due_ || all_due_; });
    --idle_;
    if (next_ == due_) return std::nullopt;
    return next_++;
  }

  void work() {
    std::optional<client::OpenAi> server;
    while (const std::optional<size_t> idx = take()) {
      const BenchRequest& request = requests_[*idx];
      try {
        if (!server) server.emplace(load_.server);
        measured_[*idx] =
            measured_of(request, server->stream(load_.chat ? "/chat/completions" : "/completions",
                                                body_of(load_, request)));
      } catch (const std::exception& error) {
        errors_[*idx] = failure_words(error, request.task_id);
      }
      const std::lock_guard lock(mutex_);
      done_(++ended_);
    }
  }

  LoadResult result(double total_ms) {
    return load_result(requests_, std::move(measured_), std::move(errors_), total_ms,
                       load_.ignore_eos ? ": a larger context, or --no-ignore-eos" : "");
  }

  const ServeLoad& load_;
  std::span<const BenchRequest> requests_;
  const std::function<void(int64_t)>& done_;
  std::vector<Measured> measured_;
  std::vector<std::string> errors_;
  std::mutex mutex_;  ///< guards what follows, and calls of done_
  std::condition_variable changed_;
  size_t next_ = 0;  ///< not taken yet
  size_t due_ = 0;
  int64_t idle_ = 0;
  int64_t ended_ = 0;
  bool all_due_ = false;
};

}  // namespace

std::string failure_words(const std::exception& error, std::string_view id) {
  if (dynamic_cast<const std::bad_alloc*>(&error) == nullptr) return error.what();
  return fmt::format("[{}] got no more memory; need more, or a lower --concurrency", id);
}

LoadResult run_serve(const ServeLoad& load, std::span<const BenchRequest> requests,
                     const std::function<void(int64_t)>& done) {
  return Clients(load, requests, done).run();
}

}  // namespace foveal::bench
