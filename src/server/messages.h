#pragma once

#include <boost/json/array.hpp>
#include <string>

namespace foveal::server {

/// Checks a list of chat messages and brings it into the form that chat templates read: contents
/// are strings (text parts joined), arguments of tool calls are objects. Throws kInvalidArgument
/// with the item's path, kUnsupported for images and sounds.
boost::json::array read_messages(const boost::json::array& messages, const std::string& path);

/// A string, or a list of {"type": "text" (input_text, output_text), "text"}.
std::string read_content(const boost::json::value& content, const std::string& path);

}  // namespace foveal::server
