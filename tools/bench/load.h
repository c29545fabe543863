#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bench/dataset.h"

namespace foveal::bench {

/// What became of one request. Times are the engine's own, which do not depend on how fast a client
/// reads; against a server the client's.
struct Measured {
  std::string task_id;
  int64_t input_tokens = 0;
  int64_t output_tokens = 0;
  int64_t cached_tokens = 0;
  double ttft_ms = 0;
  double latency_ms = 0;  ///< submitted to last token
  double tpot_ms = 0;     ///< from the second token on; 0 with one token
  /// Between neighbouring pieces of a server's stream; empty for an engine.
  std::vector<double> gaps_ms{};
  SparsityReport sparsity;
  RequestMemory memory;
  std::vector<int32_t> token_ids;
};

struct LoadOptions {
  int64_t concurrency = 0;        ///< requests in flight; 0: all at once
  std::optional<int32_t> end_id;  ///< a token that ends an answer; absent: none does
  std::string cache_salt;
};

struct LoadResult {
  std::vector<Measured> requests;  ///< in the order of the data set
  std::vector<Failure> failures;
  double total_ms = 0;   ///< first submission to last end
  double in_flight = 0;  ///< average number of requests
};

/// What requests gave, in two lists in their order: `errors` is empty where one was answered. One
/// that has other than as many tokens as it asked for has failed, and its error ends in `remedy`;
/// without remedy that is not looked at.
LoadResult load_result(std::span<const BenchRequest> requests, std::vector<Measured> measured,
                       std::vector<std::string> errors, double total_ms, std::string_view remedy);

/// Sends the requests and waits for all. `done(n)`: called now and then with how many have ended.
LoadResult run_load(LLM& llm, std::span<const BenchRequest> requests, const LoadOptions& options,
                    const std::function<void(int64_t)>& done);

}  // namespace foveal::bench
