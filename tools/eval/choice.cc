#include "eval/choice.h"

#include <algorithm>
#include <cctype>
#include <string_view>

namespace foveal::eval {
namespace {

bool is_choice(char c) { return c >= 'A' && c <= 'D'; }

bool is_word(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}

}  // namespace

std::string chosen_letter(std::string answer) {
  constexpr std::string_view kThought = "</think>";
  if (const size_t at = answer.rfind(kThought); at != std::string::npos) {
    answer.erase(0, at + kThought.size());
  }
  std::erase(answer, '*');
  constexpr std::string_view kSaid = "The correct answer is ";
  for (const bool brackets : {true, false}) {
    for (size_t at = answer.find(kSaid); at != std::string::npos; at = answer.find(kSaid, at + 1)) {
      const std::string_view rest = std::string_view(answer).substr(at + kSaid.size());
      const size_t letter = brackets ? 1 : 0;
      const bool opened = !brackets || rest.starts_with('(');
      if (opened && rest.size() > letter && is_choice(rest[letter]) &&
          (!brackets || rest.substr(2).starts_with(')'))) {
        return std::string(1, rest[letter]);
      }
    }
  }
  for (size_t at = 0; at < answer.size(); ++at) {
    const bool alone = (at == 0 || !is_word(answer[at - 1])) &&
                       (at + 1 == answer.size() || !is_word(answer[at + 1]));
    if (is_choice(answer[at]) && alone) return std::string(1, answer[at]);
  }
  return "";
}

}  // namespace foveal::eval
