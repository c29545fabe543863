#include "eval/longbench.h"

#include <algorithm>
#include <boost/json/array.hpp>

#include "base/check.h"
#include "eval/answer.h"

namespace foveal::eval {
namespace json = boost::json;

std::string text_field(const json::object& line, std::string_view key, const std::string& where) {
  const json::value* found = line.if_contains(key);
  FOVEAL_CHECK(found != nullptr && found->is_string(), ErrorKind::kInvalidArgument, where,
               "got {} {}; need a text", found == nullptr ? "no" : "another kind of", key);
  return std::string(found->get_string());
}

std::vector<std::string> texts_field(const json::object& line, std::string_view key,
                                     const std::string& where) {
  const json::value* found = line.if_contains(key);
  const json::array* list = found == nullptr ? nullptr : found->if_array();
  std::vector<std::string> out;
  for (const json::value& item : list == nullptr ? json::array() : *list) {
    if (item.is_string()) out.emplace_back(item.get_string());
  }
  FOVEAL_CHECK(list != nullptr && !out.empty() && out.size() == list->size(),
               ErrorKind::kInvalidArgument, where, "got {} {}; need a list of texts",
               found == nullptr ? "no" : "another kind of", key);
  return out;
}

std::string filled(std::string_view text,
                   const std::vector<std::pair<std::string_view, std::string_view>>& values) {
  std::string out;
  while (!text.empty()) {
    const auto found = std::find_if(values.begin(), values.end(), [&](const auto& value) {
      return text.starts_with(value.first);
    });
    out += found == values.end() ? text.substr(0, 1) : found->second;
    text.remove_prefix(found == values.end() ? 1 : found->first.size());
  }
  return out;
}

std::vector<int32_t> cut_prompt(const Speaker& speaker, const std::string& text,
                                const PromptLimits& limits, const std::string& where) {
  const auto whole = [&](const std::string& part) {
    return prompt_ids(speaker, {{"user", part}}, "", limits.chat);
  };
  const std::vector<int32_t> ids = speaker.encode(text);
  const int64_t around = std::ssize(whole("")) + limits.max_output;
  int64_t room = std::min(limits.max_input, limits.max_seq_len - around);
  if (std::ssize(ids) <= room) {
    std::vector<int32_t> out = whole(text);
    if (std::ssize(out) + limits.max_output <= limits.max_seq_len) return out;
  }
  room = std::min(room, std::ssize(ids));
  // Text made of tokens may have a few more of them than it was made of.
  for (; room >= 2; room -= 8) {
    const auto half = static_cast<std::ptrdiff_t>(room / 2);
    std::vector<int32_t> out = whole(speaker.decode({ids.begin(), ids.begin() + half}) +
                                     speaker.decode({ids.end() - half, ids.end()}));
    if (std::ssize(out) + limits.max_output <= limits.max_seq_len) return out;
  }
  fail(ErrorKind::kContextLength, where, "got a context of {} tokens; need room for {} and a text",
       limits.max_seq_len, around);
}

}  // namespace foveal::eval
