#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace foveal::tools {

/// A whole file, or standard input for "-". Throws kNotFound, kIo, or kInvalidArgument beyond
/// 256 MiB, naming `flag`, which the path came from.
std::string read_input(const std::string& path, std::string_view flag = "file");

/// What commas separate, blanks about each item dropped. Items may be empty: "a,,b" has three, and
/// nothing at all has one.
std::vector<std::string_view> split_list(std::string_view text);

/// "1,2,3", or a JSON list of integers ("[1, 2, 3]"); from a file when it begins with '@'.
std::vector<int32_t> parse_token_ids(const std::string& text);

/// True for no ids at all: blanks, or a JSON list with nothing in it.
bool is_empty_list(std::string_view text);

/// `text` as a JSON string, quotes included.
std::string json_string(std::string_view text);

}  // namespace foveal::tools
