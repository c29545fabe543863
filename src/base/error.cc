#include "base/error.h"

#include <algorithm>
#include <string>

namespace foveal {
namespace {

constexpr size_t kMaxMessage = 2000;  // a hostile file must not be able to flood a log
constexpr size_t kMaxWhere = 400;     // names of files and flags
constexpr size_t kMaxWord = 200;      // of a message: what a file calls something
constexpr size_t kTail = 300;         // of a text that is cut: what is needed stands at its end

bool continues_character(char c) { return (static_cast<unsigned char>(c) & 0xc0U) == 0x80U; }

std::string cut_middle(std::string_view text, size_t most) {
  if (text.size() <= most) return std::string(text);
  const size_t tail_len = std::min(kTail, most / 4);
  std::string_view head = text.substr(0, most - tail_len);
  std::string_view tail = text.substr(text.size() - tail_len);
  while (!head.empty() && continues_character(text[head.size()])) head.remove_suffix(1);
  while (!tail.empty() && continues_character(tail.front())) tail.remove_prefix(1);
  return fmt::format("{}...{}", head, tail);
}

// A name of a hundred thousand characters leaves room for the rest of the sentence.
std::string cut_words(std::string_view text) {
  std::string out;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(' ', begin), text.size());
    out += cut_middle(text.substr(begin, end - begin), kMaxWord);
    if (end < text.size()) out += ' ';
    begin = end + 1;
  }
  return out;
}

std::string one_line(std::string_view text, size_t most) {
  std::string out;
  for (const char c : cut_middle(text, most)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
  return cut_middle(out, most);  // escapes are longer than what they stand for
}

}  // namespace

void throw_error(ErrorKind kind, std::string_view where, std::string_view message) {
  throw Error(kind, fmt::format("[{}] {}", one_line(where, kMaxWhere),
                                one_line(cut_words(message), kMaxMessage)));
}

}  // namespace foveal
