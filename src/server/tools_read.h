#pragma once

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <string_view>

#include "server/call.h"
#include "server/json_read.h"

namespace foveal::server {

/// The tools a chat request puts before the model.
struct OfferedTools {
  const boost::json::array* tools = nullptr;  ///< null: none
  bool in_template = false;  ///< the model's chat template knows what to do with them
};

/// Reads `tools`, `tool_choice` and `parallel_tool_calls`. Sets the form of calls to look for, and
/// for `required` or a named function a guide that makes the answer one call.
OfferedTools read_tools(JsonReader& reader, std::string_view chat_template, Call& call);

/// Hands the tools to the template; for one that does not know them, to the system message, in the
/// Hermes form.
void offer_tools(const OfferedTools& offered, boost::json::array& messages,
                 boost::json::object& extra);

}  // namespace foveal::server
