#pragma once

#include <boost/json/object.hpp>
#include <chrono>
#include <string>
#include <vector>

#include "foveal/llm.h"
#include "server/settings.h"
#include "server/tool_calls.h"

namespace foveal::server {

/// A request to generate, read and checked, whatever its route.
struct Call {
  std::string id;
  std::string model;
  std::vector<std::vector<int32_t>> prompts;
  std::vector<std::string> prompt_texts;  ///< for echo; one a prompt
  SamplingParams sampling;
  RequestOptions options;
  bool stream = false;
  bool include_usage = false;
  bool echo = false;
  ToolForm tool_form = ToolForm::kNone;  ///< of calls to look for in a chat's answer
  int64_t created = 0;                   ///< seconds since 1970
  std::chrono::steady_clock::time_point arrival = std::chrono::steady_clock::now();

  size_t num_choices() const { return prompts.size() * static_cast<size_t>(sampling.n); }
};

/// What readers of requests look at. Borrowed.
struct ReadContext {
  const LLM& llm;
  const ServerSettings& settings;
  const std::vector<std::string>& model_names;
};

/// One a route. They tokenise too: for worker threads. Throw Error for what a client got wrong.
Call read_completion(const boost::json::object& body, const ReadContext& context);
Call read_chat(const boost::json::object& body, const ReadContext& context);
Call read_response(const boost::json::object& body, const ReadContext& context);

}  // namespace foveal::server
