#include "attention/skip_softmax/glob.h"

#include <cstddef>

namespace foveal::attention::skip_softmax {
namespace {

constexpr size_t kNone = std::string_view::npos;

/// Where the set that opens at `open` ends (its ']'), or kNone when '[' is an ordinary character. A
/// ']' directly after '[' or '[!' is a member.
size_t set_end(std::string_view pattern, size_t open) {
  size_t begin = open + 1;
  if (begin < pattern.size() && pattern[begin] == '!') ++begin;
  return pattern.find(']', begin + 1);
}

/// `members` is what stands between '[' or '[!' and ']'. A range that runs backwards is empty.
bool set_contains(std::string_view members, char c) {
  const auto byte = static_cast<unsigned char>(c);
  for (size_t at = 0; at < members.size();) {
    const auto first = static_cast<unsigned char>(members[at]);
    if (at + 2 < members.size() && members[at + 1] == '-') {
      const auto last = static_cast<unsigned char>(members[at + 2]);
      if (first <= byte && byte <= last) return true;
      at += 3;
    } else {
      if (first == byte) return true;
      ++at;
    }
  }
  return false;
}

/// Matches the one-character item of `pattern` at `at` (not '*') against `c`; on success returns
/// where the next item begins, else kNone.
size_t match_item(std::string_view pattern, size_t at, char c) {
  if (pattern[at] == '?') return at + 1;
  const size_t end = pattern[at] == '[' ? set_end(pattern, at) : kNone;
  if (end == kNone) return pattern[at] == c ? at + 1 : kNone;
  const bool negated = pattern[at + 1] == '!';
  const size_t begin = at + (negated ? 2 : 1);
  const bool hit = set_contains(pattern.substr(begin, end - begin), c);
  return hit != negated ? end + 1 : kNone;
}

}  // namespace

bool glob_match(std::string_view pattern, std::string_view name) {
  size_t p = 0;
  size_t n = 0;
  // Only the last star ever needs another try: what came before it matched as early as it could.
  size_t after_star = kNone;
  size_t retry = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      after_star = ++p;
      retry = n;
      continue;
    }
    const size_t next = p < pattern.size() ? match_item(pattern, p, name[n]) : kNone;
    if (next != kNone) {
      p = next;
      ++n;
    } else if (after_star != kNone) {
      p = after_star;
      n = ++retry;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

}  // namespace foveal::attention::skip_softmax
