#include "bench/load.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>

#include "base/check.h"

namespace foveal::bench {
namespace {

using Clock = std::chrono::steady_clock;

Measured measure(const BenchRequest& request, const RequestOutput& output) {
  const CompletionOutput& completion = output.outputs.at(0);
  const auto tokens = static_cast<int64_t>(completion.token_ids.size());
  const Timings& timings = output.timings;
  return {.task_id = request.task_id,
          .input_tokens = static_cast<int64_t>(output.prompt_token_ids.size()),
          .output_tokens = tokens,
          .cached_tokens = output.cached_tokens,
          .ttft_ms = timings.ttft_ms,
          .latency_ms = timings.ttft_ms + timings.decode_ms,
          .tpot_ms = tokens > 1 ? timings.decode_ms / static_cast<double>(tokens - 1) : 0,
          .sparsity = output.sparsity,
          .memory = output.memory,
          .token_ids = completion.token_ids};
}

class Load {
 public:
  Load(LLM& llm, std::span<const BenchRequest> requests, const LoadOptions& options,
       const std::function<void(int64_t)>& done)
      : llm_(llm),
        requests_(requests),
        options_(options),
        done_(done),
        measured_(requests.size()),
        errors_(requests.size()) {}

  LoadResult run() {
    const auto count = static_cast<int64_t>(requests_.size());
    const Clock::time_point start = Clock::now();
    if (options_.concurrency <= 0 || options_.concurrency >= count) {
      all_at_once();
    } else {
      std::vector<std::jthread> clients;
      for (int64_t idx = 0; idx < options_.concurrency; ++idx) {
        clients.emplace_back([this] { client(); });
      }
    }
    return result(std::chrono::duration<double, std::milli>(Clock::now() - start).count());
  }

 private:
  Generation submit(size_t idx) {
    const BenchRequest& request = requests_[idx];
    SamplingParams sampling;
    sampling.max_tokens = request.output_tokens;
    sampling.ignore_eos = true;
    if (options_.end_id) sampling.stop_token_ids = {*options_.end_id};
    return llm_.submit(request.prompt, sampling, {.cache_salt = options_.cache_salt});
  }

  template <class Call>
  void guarded(size_t idx, const Call& call) {
    try {
      call();
    } catch (const Error& error) {
      errors_[idx].assign(error.what());
    }
  }

  void finish(size_t idx, Generation& generation) {
    guarded(idx, [&] { measured_[idx] = measure(requests_[idx], generation.result()); });
    const std::lock_guard lock(mutex_);
    done_(++ended_);
  }

  void all_at_once() {
    std::vector<std::optional<Generation>> running(requests_.size());
    for (size_t idx = 0; idx < requests_.size(); ++idx) {
      guarded(idx, [&] { running[idx] = submit(idx); });
    }
    for (size_t idx = 0; idx < requests_.size(); ++idx) {
      if (running[idx]) finish(idx, *running[idx]);
    }
  }

  void client() {
    for (size_t idx = next_++; idx < requests_.size(); idx = next_++) {
      guarded(idx, [&] {
        Generation generation = submit(idx);
        finish(idx, generation);
      });
    }
  }

  LoadResult result(double total_ms) {
    return load_result(requests_, std::move(measured_), std::move(errors_), total_ms,
                       options_.end_id ? "" : ", which the context has no room for");
  }

  LLM& llm_;
  std::span<const BenchRequest> requests_;
  const LoadOptions& options_;
  const std::function<void(int64_t)>& done_;
  std::vector<Measured> measured_;
  std::vector<std::string> errors_;
  std::atomic<size_t> next_{0};
  std::mutex mutex_;  ///< guards ended_ and calls of done_
  int64_t ended_ = 0;
};

}  // namespace

LoadResult load_result(std::span<const BenchRequest> requests, std::vector<Measured> measured,
                       std::vector<std::string> errors, double total_ms, std::string_view remedy) {
  LoadResult out{.total_ms = total_ms};
  double busy_ms = 0;
  for (size_t idx = 0; idx < requests.size(); ++idx) {
    const BenchRequest& request = requests[idx];
    const int64_t tokens = measured[idx].output_tokens;
    if (errors[idx].empty() && !remedy.empty() && tokens != request.output_tokens) {
      errors[idx] = fmt::format("[{}] got {} tokens; need {}{}", request.task_id, tokens,
                                request.output_tokens, remedy);
    }
    if (!errors[idx].empty()) {
      out.failures.push_back({request.task_id, std::move(errors[idx])});
      continue;
    }
    busy_ms += measured[idx].latency_ms;
    out.requests.push_back(std::move(measured[idx]));
  }
  out.in_flight = total_ms > 0 ? busy_ms / total_ms : 0;
  return out;
}

LoadResult run_load(LLM& llm, std::span<const BenchRequest> requests, const LoadOptions& options,
                    const std::function<void(int64_t)>& done) {
  return Load(llm, requests, options, done).run();
}

}  // namespace foveal::bench
