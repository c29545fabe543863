#include "tokenizer/utf8.h"

#include <cstdint>

namespace foveal::tokenizer {
namespace {

struct Sequence {
  size_t length = 0;   ///< bytes taken: a character, or a maximal ill-formed part
  bool valid = false;  ///< a whole character
  bool cut = false;    ///< well formed so far, but the text ends
};

/// How many bytes follow `lead`, and the bounds of the first of them. 0xff where it cannot lead.
struct Lead {
  uint8_t following, low, high;
};

Lead lead_of(uint8_t lead) {
  if (lead < 0x80) return {0, 0, 0};
  if (lead >= 0xc2 && lead <= 0xdf) return {1, 0x80, 0xbf};
  if (lead == 0xe0) return {2, 0xa0, 0xbf};
  if (lead == 0xed) return {2, 0x80, 0x9f};  // no surrogates
  if (lead >= 0xe1 && lead <= 0xef) return {2, 0x80, 0xbf};
  if (lead == 0xf0) return {3, 0x90, 0xbf};
  if (lead >= 0xf1 && lead <= 0xf3) return {3, 0x80, 0xbf};
  if (lead == 0xf4) return {3, 0x80, 0x8f};  // nothing beyond U+10FFFF
  return {0xff, 0, 0};
}

Sequence next_sequence(std::string_view bytes, size_t at) {
  const Lead lead = lead_of(static_cast<uint8_t>(bytes[at]));
  if (lead.following == 0xff) return {1, false, false};
  size_t length = 1;
  for (; length <= lead.following; ++length) {
    if (at + length == bytes.size()) return {length, false, true};
    const uint8_t byte = static_cast<uint8_t>(bytes[at + length]);
    const uint8_t low = length == 1 ? lead.low : 0x80;
    const uint8_t high = length == 1 ? lead.high : 0xbf;
    if (byte < low || byte > high) return {length, false, false};
  }
  return {length, true, false};
}

}  // namespace

std::string to_utf8(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  for (size_t at = 0; at < bytes.size();) {
    const Sequence sequence = next_sequence(bytes, at);
    if (sequence.valid) {
      text.append(bytes, at, sequence.length);
    } else {
      text.append("\xef\xbf\xbd");
    }
    at += sequence.length;
  }
  return text;
}

size_t incomplete_suffix(std::string_view bytes) {
  for (size_t back = 1; back <= 3 && back <= bytes.size(); ++back) {
    const size_t at = bytes.size() - back;
    const bool continues = (static_cast<uint8_t>(bytes[at]) & 0xc0) == 0x80;
    if (continues) continue;
    return next_sequence(bytes, at).cut ? back : 0;
  }
  return 0;
}

}  // namespace foveal::tokenizer
