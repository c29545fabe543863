#pragma once

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "foveal/llm.h"

namespace foveal::server {

/// `data: {...}` and a blank line.
void append_event(std::string& out, const boost::json::object& data);
/// The same under a name, as the responses route wants it.
void append_event(std::string& out, std::string_view name, const boost::json::object& data);
inline constexpr std::string_view kDone = "data: [DONE]\n\n";

/// null, `stop` or `length`.
boost::json::value finish_name(FinishReason reason);

/// JSON has no infinities.
double finite(float logprob);
/// A token's text; one that is no whole character as OpenAI writes it, `bytes:\xe2\x80`;
/// `token_id:5` where there is no tokenizer.
std::string token_name(const LLM& llm, int32_t token);
/// Characters, not bytes.
size_t text_length(std::string_view utf8);

/// Tokens with their alternatives, in parallel lists; the first of a prompt has none.
struct LogprobRow {
  int32_t token = 0;
  std::optional<float> logprob;
  const std::vector<TokenLogprob>* top = nullptr;
};
/// {"tokens", "token_logprobs", "top_logprobs", "text_offset"}; `offset` goes on from call to call.
boost::json::object classic_logprobs(const LLM& llm, const std::vector<LogprobRow>& rows,
                                     int64_t top, size_t& offset);
/// {"content": [{"token", "logprob", "bytes", "top_logprobs"}]}
boost::json::object chat_logprobs(const LLM& llm, const std::vector<LogprobRow>& rows, int64_t top);

std::vector<LogprobRow> rows_of(const std::vector<TokenLogprob>& own,
                                const std::vector<std::vector<TokenLogprob>>& top);

}  // namespace foveal::server
