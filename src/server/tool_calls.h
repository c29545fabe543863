#pragma once

#include <boost/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "foveal/request.h"

namespace foveal::server {

/// How a family of models writes that it calls a tool.
enum class ToolForm {
  kNone,
  kHermes,   ///< <tool_call>{"name": ..., "arguments": {...}}</tool_call>, anywhere and repeated
  kLlama,    ///< the whole text is {"name": ..., "parameters": {...}}; <|python_tag|> may precede
  kMistral,  ///< [TOOL_CALLS] [{"name": ..., "arguments": {...}}, ...] at the end
};

/// By what the model's chat template mentions.
ToolForm tool_form(std::string_view chat_template);

struct ToolCall {
  std::string name;
  std::string arguments;  ///< a JSON object as text
};

/// Tells calls from other text while the text grows. Text that may begin a call is held back; what
/// turns out not to be one becomes content. Markers that are special tokens may be missing from the
/// text, as decoding leaves them out.
class ToolCallStream {
 public:
  explicit ToolCallStream(ToolForm form) : form_(form) {}
  struct Piece {
    std::string content;
    std::vector<ToolCall> calls;
  };
  Piece push(std::string_view text);
  /// The text has ended.
  Piece finish();

 private:
  void scan_hermes(Piece& out);
  void scan_whole(Piece& out);

  ToolForm form_;
  std::string held_;
  bool called_ = false;   ///< there was a call
  bool decided_ = false;  ///< the whole text is content, or (whole_) may be a call
  bool whole_ = false;
};

/// The same for a text that has ended.
ToolCallStream::Piece parse_tool_calls(ToolForm form, std::string_view text);

/// What makes a text one call of one of `tools` (OpenAI's list of {"type": "function", "function":
/// {"name", "parameters"}}) in the model's form; of `name` when given. Throws kInvalidArgument for
/// a tool without a name, or when `name` is none of them.
GuidedDecoding guided_tool_call(ToolForm form, const boost::json::array& tools,
                                const std::optional<std::string>& name);

}  // namespace foveal::server
