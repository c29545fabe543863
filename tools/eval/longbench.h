#pragma once

#include <boost/json/object.hpp>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "eval/speaker.h"

// What both LongBench tasks share: fields of lines, templates and prompts cut in their middle.
namespace foveal::eval {

/// A field that must be a text. Throws kInvalidArgument, naming `where`.
std::string text_field(const boost::json::object& line, std::string_view key,
                       const std::string& where);
/// A field that must be a list of texts with at least one.
std::vector<std::string> texts_field(const boost::json::object& line, std::string_view key,
                                     const std::string& where);

/// `text` with each name replaced by its value; what a value spells is not replaced again.
std::string filled(std::string_view text,
                   const std::vector<std::pair<std::string_view, std::string_view>>& values);

/// How long a prompt may be.
struct PromptLimits {
  int64_t max_input = 0;    ///< tokens of the prompt's text
  int64_t max_output = 0;   ///< of the answer ...
  int64_t max_seq_len = 0;  ///< ... and of both together: Common::max_seq_len
  bool chat = true;
};

/// Ids of a question; of a text beyond the limits the first and the last half are kept, as
/// LongBench does. Throws kContextLength where not even that leaves room.
std::vector<int32_t> cut_prompt(const Speaker& speaker, const std::string& text,
                                const PromptLimits& limits, const std::string& where);

}  // namespace foveal::eval
