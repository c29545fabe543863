// Input: a letter for the form (h, l, m, n), then a model's text; or t, then a JSON list of tools.
// However a text is cut into pieces, the same content and calls must come out.
#include <cstdint>
#include <string>
#include <string_view>

#include "foveal/error.h"
#include "server/tool_calls.h"

namespace json = boost::json;
using foveal::server::ToolCallStream;
using foveal::server::ToolForm;

namespace {

void add(ToolCallStream::Piece& to, ToolCallStream::Piece piece) {
  to.content += piece.content;
  for (auto& call : piece.calls) to.calls.push_back(std::move(call));
}

ToolCallStream::Piece in_pieces(ToolForm form, std::string_view text, size_t longest) {
  ToolCallStream stream(form);
  ToolCallStream::Piece out;
  uint32_t state = static_cast<uint32_t>(text.size());
  while (!text.empty()) {
    state = state * 1664525 + 1013904223;
    const size_t length = std::min(text.size(), 1 + (state >> 16) % longest);
    add(out, stream.push(text.substr(0, length)));
    text.remove_prefix(length);
  }
  add(out, stream.finish());
  return out;
}

void read_text(ToolForm form, std::string_view text) {
  const ToolCallStream::Piece whole = foveal::server::parse_tool_calls(form, text);
  for (const size_t longest : {size_t{1}, size_t{7}}) {
    const ToolCallStream::Piece cut = in_pieces(form, text, longest);
    if (cut.content != whole.content || cut.calls.size() != whole.calls.size()) __builtin_trap();
    for (size_t at = 0; at < cut.calls.size(); ++at) {
      if (cut.calls[at].name != whole.calls[at].name ||
          cut.calls[at].arguments != whole.calls[at].arguments) {
        __builtin_trap();
      }
    }
  }
}

void read_tools(std::string_view text) {
  json::error_code code;
  const json::value tools = json::parse({text.data(), text.size()}, code);
  if (code || !tools.is_array()) return;
  for (const ToolForm form : {ToolForm::kHermes, ToolForm::kLlama, ToolForm::kMistral}) {
    try {
      foveal::server::guided_tool_call(form, tools.get_array(), std::nullopt);
    } catch (const foveal::Error& error) {
      if (error.kind() != foveal::ErrorKind::kInvalidArgument) __builtin_trap();
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0 || size > 8 << 10) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0]) {
    case 'h':
      read_text(ToolForm::kHermes, text);
      break;
    case 'l':
      read_text(ToolForm::kLlama, text);
      break;
    case 'm':
      read_text(ToolForm::kMistral, text);
      break;
    case 't':
      read_tools(text);
      break;
    default:
      read_text(ToolForm::kNone, text);
      foveal::server::tool_form(text);
  }
  return 0;
}
