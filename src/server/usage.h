#pragma once

#include <boost/json/object.hpp>
#include <vector>

#include "foveal/llm.h"

namespace foveal::server {

struct Usage {
  int64_t prompt_tokens = 0;
  int64_t completion_tokens = 0;
  int64_t cached_tokens = 0;
  SparsityReport sparsity;
};

Usage usage_of(const std::vector<RequestOutput>& outputs);
/// {"prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details":
/// {"cached_tokens"}, "sparsity": {"method", "prefill", "decode"}}; the last two are shares of
/// dense attention's work.
boost::json::object usage_json(const Usage& usage);
/// The same with the names of the responses route.
boost::json::object response_usage_json(const Usage& usage);

}  // namespace foveal::server
