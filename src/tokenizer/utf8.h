#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace foveal::tokenizer {

/// The bytes as text: each maximal ill-formed part becomes one U+FFFD (Unicode 15, section 3.9).
std::string to_utf8(std::string_view bytes);

/// How many trailing bytes may still become a character (0 to 3).
size_t incomplete_suffix(std::string_view bytes);

}  // namespace foveal::tokenizer
