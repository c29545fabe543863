#pragma once

#include <exception>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "bench/load.h"
#include "client/openai.h"

namespace foveal::tokenizer {
class Tokenizer;
}

namespace foveal::bench {

struct ServeLoad {
  client::Server server;
  bool chat = false;
  int64_t concurrency = 0;     ///< requests in flight at most; 0: kMostClients
  std::vector<double> starts;  ///< seconds, one a request (arrivals.h)
  bool ignore_eos = true;      ///< asked of the server; answers of another length are failures then
  /// Makes texts of ids where only texts can be sent; may be null.
  const tokenizer::Tokenizer* tokenizer = nullptr;
};

/// Threads, and so connections, of one run.
inline constexpr int64_t kMostClients = 4096;

/// What a report says of a request named `id` that ended in `error`.
std::string failure_words(const std::exception& error, std::string_view id);

/// Sends the requests when they are due and waits for all. A request that is due while as many as
/// allowed are in flight waits; its times begin when it is sent. `done` as in run_load.
LoadResult run_serve(const ServeLoad& load, std::span<const BenchRequest> requests,
                     const std::function<void(int64_t)>& done);

}  // namespace foveal::bench
