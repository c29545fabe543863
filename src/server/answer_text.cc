#include "server/answer_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json/serialize.hpp>

#include "server/answer.h"
#include "tokenizer/utf8.h"

namespace foveal::server {
namespace json = boost::json;
namespace {

std::string bytes_of(const LLM& llm, int32_t token) {
  std::string bytes = llm.token_bytes(token);
  return bytes.empty() ? llm.decode({token}, /*skip_special=*/false) : bytes;
}

json::object chat_entry(const LLM& llm, int32_t token, float logprob) {
  const std::string bytes = bytes_of(llm, token);
  json::array numbers;
  numbers.reserve(bytes.size());
  for (const char c : bytes) numbers.push_back(static_cast<unsigned char>(c));
  return {{"token", tokenizer::to_utf8(bytes)},
          {"logprob", finite(logprob)},
          {"bytes", std::move(numbers)}};
}

size_t wanted(const LogprobRow& row, int64_t top) {
  return row.top == nullptr ? 0 : std::min(row.top->size(), static_cast<size_t>(top));
}

}  // namespace

void Answer::failed(const ApiError& error, std::string& out) {
  out.append("data: ").append(error_json(error)).append("\n\n");
}

void append_event(std::string& out, const json::object& data) {
  out.append("data: ").append(json::serialize(data)).append("\n\n");
}

void append_event(std::string& out, std::string_view name, const json::object& data) {
  out.append("event: ").append(name).append("\n");
  append_event(out, data);
}

json::value finish_name(FinishReason reason) {
  if (reason == FinishReason::kStop) return "stop";
  if (reason == FinishReason::kLength) return "length";
  return nullptr;
}

double finite(float logprob) {
  // NaN fails the comparison; OpenAI's own stand-in for impossible tokens is -9999.
  return logprob > -9999.0F ? double{logprob} : -9999.0;
}

std::string token_name(const LLM& llm, int32_t token) {
  if (!llm.has_tokenizer()) return fmt::format("token_id:{}", token);
  const std::string bytes = bytes_of(llm, token);
  if (tokenizer::to_utf8(bytes) == bytes) return bytes;
  std::string out = "bytes:";
  for (const char c : bytes) out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
  return out;
}

size_t text_length(std::string_view utf8) {
  return static_cast<size_t>(std::count_if(utf8.begin(), utf8.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

std::vector<LogprobRow> rows_of(const std::vector<TokenLogprob>& own,
                                const std::vector<std::vector<TokenLogprob>>& top) {
  std::vector<LogprobRow> rows;
  rows.reserve(own.size());
  for (size_t idx = 0; idx < own.size(); ++idx) {
    rows.push_back({.token = own[idx].token,
                    .logprob = own[idx].logprob,
                    .top = idx < top.size() ? &top[idx] : nullptr});
  }
  return rows;
}

json::object classic_logprobs(const LLM& llm, const std::vector<LogprobRow>& rows, int64_t top,
                              size_t& offset) {
  json::array tokens;
  json::array logprobs;
  json::array tops;
  json::array offsets;
  for (const LogprobRow& row : rows) {
    const std::string name = token_name(llm, row.token);
    tokens.emplace_back(name);
    offsets.emplace_back(offset);
    if (llm.has_tokenizer()) offset += text_length(llm.token_bytes(row.token));
    if (!row.logprob) {
      logprobs.emplace_back(nullptr);
      tops.emplace_back(nullptr);
      continue;
    }
    logprobs.emplace_back(finite(*row.logprob));
    json::object each;
    for (size_t idx = 0; idx < wanted(row, top); ++idx) {
      const TokenLogprob& other = (*row.top)[idx];
      each.emplace(token_name(llm, other.token), finite(other.logprob));  // the first of a name
    }
    each.emplace(name, finite(*row.logprob));
    tops.push_back(std::move(each));
  }
  return {{"tokens", std::move(tokens)},
          {"token_logprobs", std::move(logprobs)},
          {"top_logprobs", top > 0 ? json::value(std::move(tops)) : json::value(nullptr)},
          {"text_offset", std::move(offsets)}};
}

json::object chat_logprobs(const LLM& llm, const std::vector<LogprobRow>& rows, int64_t top) {
  json::array content;
  for (const LogprobRow& row : rows) {
    json::object entry = chat_entry(llm, row.token, row.logprob.value_or(-9999.0F));
    json::array tops;
    for (size_t idx = 0; idx < wanted(row, top); ++idx) {
      const TokenLogprob& other = (*row.top)[idx];
      tops.push_back(chat_entry(llm, other.token, other.logprob));
    }
    entry["top_logprobs"] = std::move(tops);
    content.push_back(std::move(entry));
  }
  return {{"content", std::move(content)}, {"refusal", nullptr}};
}

}  // namespace foveal::server
