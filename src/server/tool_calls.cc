#include "server/tool_calls.h"

#include <algorithm>

namespace foveal::server {
namespace {

namespace json = boost::json;

constexpr std::string_view kOpen = "<tool_call>";
constexpr std::string_view kClose = "</tool_call>";
constexpr std::string_view kPython = "<|python_tag|>";
constexpr std::string_view kCalls = "[TOOL_CALLS]";
constexpr std::string_view kBlanks = " \t\r\n";

std::string_view skip_blanks(std::string_view text, std::string_view blanks = kBlanks) {
  const size_t first = text.find_first_not_of(blanks);
  return first == std::string_view::npos ? std::string_view() : text.substr(first);
}

std::optional<ToolCall> to_call(const json::value& value) {
  const json::object* object = value.if_object();
  if (object == nullptr) return std::nullopt;
  const json::value* name = object->if_contains("name");
  if (name == nullptr || !name->is_string() || name->get_string().empty()) return std::nullopt;
  const json::value* arguments = object->if_contains("arguments");
  if (arguments == nullptr) arguments = object->if_contains("parameters");
  ToolCall call{.name = std::string(name->get_string()), .arguments = "{}"};
  if (arguments == nullptr) return call;
  if (arguments->is_object()) {
    call.arguments = json::serialize(*arguments);
    return call;
  }
  if (!arguments->is_string()) return std::nullopt;
  // Some models write the arguments as the text that clients receive.
  boost::system::error_code error;
  const json::value inner = json::parse(arguments->get_string(), error);
  if (error || !inner.is_object()) return std::nullopt;
  call.arguments = json::serialize(inner);
  return call;
}

/// Objects or lists of them, one after another; empty when anything else is there.
std::vector<ToolCall> read_calls(std::string_view text) {
  std::vector<ToolCall> calls;
  json::stream_parser parser({}, {.max_depth = 128});
  for (text = skip_blanks(text); !text.empty(); text = skip_blanks(text, " \t\r\n;")) {
    boost::system::error_code error;
    parser.reset();
    text.remove_prefix(parser.write_some(text.data(), text.size(), error));
    if (error || !parser.done()) return {};
    const json::value value = parser.release();
    const auto add = [&calls](const json::value& item) {
      std::optional<ToolCall> call = to_call(item);
      if (call) calls.push_back(*std::move(call));
      return call.has_value();
    };
    const json::array* list = value.if_array();
    if (list == nullptr ? !add(value) : !std::all_of(list->begin(), list->end(), add)) return {};
  }
  return calls;
}

/// Where text begins that could become `marker`, blanks in front included; its size if nowhere.
size_t may_begin(std::string_view text, std::string_view marker) {
  size_t at = text.size();
  for (size_t length = std::min(marker.size() - 1, text.size()); length > 0; --length) {
    if (text.substr(text.size() - length) == marker.substr(0, length)) {
      at = text.size() - length;
      break;
    }
  }
  while (at > 0 && kBlanks.find(text[at - 1]) != std::string_view::npos) --at;
  return at;
}

void move_content(std::string& held, size_t count, std::string& content) {
  content.append(held, 0, count);
  held.erase(0, count);
}

}  // namespace

ToolForm tool_form(std::string_view chat_template) {
  const auto mentions = [&](std::string_view text) {
    return chat_template.find(text) != std::string_view::npos;
  };
  if (mentions(kOpen)) return ToolForm::kHermes;
  if (mentions(kCalls)) return ToolForm::kMistral;
  if (mentions(kPython)) return ToolForm::kLlama;
  const bool llama = mentions("<|start_header_id|>") && mentions("tools");
  return llama ? ToolForm::kLlama : ToolForm::kNone;
}

void ToolCallStream::scan_hermes(Piece& out) {
  while (true) {
    const size_t open = held_.find(kOpen);
    if (open == std::string::npos) {
      move_content(held_, may_begin(held_, kOpen), out.content);
      return;
    }
    const size_t close = held_.find(kClose, open);
    const std::string_view before = std::string_view(held_).substr(0, open);
    if (close == std::string::npos) {
      move_content(held_, before.find_last_not_of(kBlanks) + 1, out.content);
      return;
    }
    const size_t begin = open + kOpen.size();
    std::vector<ToolCall> calls = read_calls(std::string_view(held_).substr(begin, close - begin));
    const size_t end = close + kClose.size();
    if (calls.empty()) {
      move_content(held_, end, out.content);
      continue;
    }
    out.content.append(held_, 0, before.find_last_not_of(kBlanks) + 1);
    held_.erase(0, end);
    called_ = true;
    std::move(calls.begin(), calls.end(), std::back_inserter(out.calls));
  }
}

void ToolCallStream::scan_whole(Piece& out) {
  const std::string_view marker = form_ == ToolForm::kLlama ? kPython : kCalls;
  if (!decided_) {
    const std::string_view text = skip_blanks(held_);
    if (text.empty()) return;
    decided_ = true;
    whole_ = text.front() == (form_ == ToolForm::kLlama ? '{' : '[');
  }
  if (whole_ && held_.find(marker) == std::string::npos) return;
  const size_t at = held_.find(marker);
  if (at == std::string::npos) {
    move_content(held_, may_begin(held_, marker), out.content);
    return;
  }
  const std::string_view before = std::string_view(held_).substr(0, at);
  move_content(held_, before.find_last_not_of(kBlanks) + 1, out.content);
  whole_ = true;
}

ToolCallStream::Piece ToolCallStream::push(std::string_view text) {
  Piece out;
  if (form_ == ToolForm::kNone) {
    out.content = text;
    return out;
  }
  held_ += text;
  if (form_ == ToolForm::kHermes) {
    scan_hermes(out);
  } else {
    scan_whole(out);
  }
  return out;
}

ToolCallStream::Piece ToolCallStream::finish() {
  Piece out;
  std::string_view text = held_;
  if (form_ == ToolForm::kHermes) {
    // The end marker may be what ended the text.
    const std::string_view call = skip_blanks(text);
    if (call.starts_with(kOpen)) out.calls = read_calls(call.substr(kOpen.size()));
  } else if (whole_) {
    text = skip_blanks(text);
    for (const std::string_view marker : {kPython, kCalls}) {
      if (text.starts_with(marker)) text.remove_prefix(marker.size());
    }
    out.calls = read_calls(text);
  }
  const bool blank = skip_blanks(held_).empty();
  if (out.calls.empty() && !(called_ && blank)) out.content = held_;
  held_.clear();
  return out;
}

ToolCallStream::Piece parse_tool_calls(ToolForm form, std::string_view text) {
  ToolCallStream stream(form);
  ToolCallStream::Piece out = stream.push(text);
  ToolCallStream::Piece rest = stream.finish();
  out.content += rest.content;
  std::move(rest.calls.begin(), rest.calls.end(), std::back_inserter(out.calls));
  return out;
}

}  // namespace foveal::server
