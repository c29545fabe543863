#include "eval/text_scores.h"

#include <algorithm>
#include <clocale>
#include <cmath>
#include <cwctype>
#include <map>
#include <numeric>
#include <set>
#include <span>

#include "base/check.h"

namespace foveal::eval {
namespace {

using Words = std::vector<std::string>;
using Text = std::u32string;

// Classes of characters whatever locale the process runs in.
locale_t utf8_locale() {
  static const locale_t locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
  FOVEAL_CHECK(locale != nullptr, ErrorKind::kUnsupported, "scores",
               "got no locale C.UTF-8; need it to tell letters from other characters");
  return locale;
}

bool is_space(char32_t c) {
  // Python's, which also splits at the separators of ASCII and at spaces that do not break.
  return (c >= 0x1c && c <= 0x1f) || c == 0x85 || c == 0xa0 || c == 0x2007 || c == 0x202f ||
         iswspace_l(static_cast<wint_t>(c), utf8_locale()) != 0;
}
bool is_word(char32_t c) {
  return c == U'_' || iswalnum_l(static_cast<wint_t>(c), utf8_locale()) != 0;
}
bool is_ascii_punctuation(char32_t c) {
  return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') ||
         (c >= '{' && c <= '~');
}

// Bytes that are no UTF-8 stand for themselves.
Text decoded(std::string_view text) {
  Text out;
  for (size_t at = 0; at < text.size();) {
    const auto lead = static_cast<unsigned char>(text[at]);
    const size_t more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : lead >= 0xc0 ? 1 : 0;
    char32_t code = more == 0 ? lead : lead & (0x3fU >> more);
    size_t taken = 1;
    for (; taken <= more && at + taken < text.size(); ++taken) {
      code = (code << 6U) | (static_cast<unsigned char>(text[at + taken]) & 0x3fU);
    }
    out += code;
    at += taken;
  }
  return out;
}

std::string encoded(std::u32string_view text) {
  std::string out;
  const auto add = [&](char32_t code) { out += static_cast<char>(code); };
  for (const char32_t c : text) {
    if (c < 0x80) {
      add(c);
    } else if (c < 0x800) {
      add(0xc0U | (c >> 6U));
      add(0x80U | (c & 0x3fU));
    } else if (c < 0x10000) {
      add(0xe0U | (c >> 12U));
      add(0x80U | ((c >> 6U) & 0x3fU));
      add(0x80U | (c & 0x3fU));
    } else {
      add(0xf0U | (c >> 18U));
      add(0x80U | ((c >> 12U) & 0x3fU));
      add(0x80U | ((c >> 6U) & 0x3fU));
      add(0x80U | (c & 0x3fU));
    }
  }
  return out;
}

Words split(std::u32string_view text) {
  Words out;
  size_t begin = 0;
  for (size_t at = 0; at <= text.size(); ++at) {
    if (at < text.size() && !is_space(text[at])) continue;
    if (at > begin) out.push_back(encoded(text.substr(begin, at - begin)));
    begin = at + 1;
  }
  return out;
}

// An article is one where no letter, digit or underscore is next to it.
Words without_articles(const std::string& answer) {
  Text text;
  for (const char32_t c : decoded(answer)) {
    if (is_ascii_punctuation(c)) continue;
    text += static_cast<char32_t>(towlower_l(static_cast<wint_t>(c), utf8_locale()));
  }
  Text out;
  for (size_t at = 0; at < text.size();) {
    if (!is_word(text[at])) {
      out += text[at++];
      continue;
    }
    size_t end = at;
    while (end < text.size() && is_word(text[end])) ++end;
    const std::u32string_view word = std::u32string_view(text).substr(at, end - at);
    if (word == U"a" || word == U"an" || word == U"the") {
      out += U' ';
    } else {
      out += word;
    }
    at = end;
  }
  return split(out);
}

// A sentence without words has one, which is empty: that is the package's way, and its scores are
// what is published.
std::vector<Words> sentences(const std::string& text) {
  std::vector<Words> out;
  size_t begin = 0;
  for (size_t at = 0; at <= text.size(); ++at) {
    if (at < text.size() && text[at] != '.') continue;
    if (at > begin) {
      out.push_back(split(decoded(std::string_view(text).substr(begin, at - begin))));
      if (out.back().empty()) out.back().emplace_back();
    }
    begin = at + 1;
  }
  return out;
}

// Words of one longest common subsequence; of several the one that a walk back from both ends
// finds, leaving out b's word where either could be.
void add_common(const Words& a, const Words& b, std::set<std::string>& into) {
  const size_t width = b.size() + 1;
  std::vector<uint32_t> table((a.size() + 1) * width, 0);
  for (size_t i = 1; i <= a.size(); ++i) {
    for (size_t j = 1; j <= b.size(); ++j) {
      table[i * width + j] = a[i - 1] == b[j - 1]
                                 ? table[(i - 1) * width + j - 1] + 1
                                 : std::max(table[(i - 1) * width + j], table[i * width + j - 1]);
    }
  }
  size_t i = a.size();
  size_t j = b.size();
  while (i > 0 && j > 0) {
    if (a[i - 1] == b[j - 1]) {
      into.insert(a[i - 1]);
      --i, --j;
    } else if (table[(i - 1) * width + j] > table[i * width + j - 1]) {
      --i;
    } else {
      --j;
    }
  }
}

size_t distinct(const std::vector<Words>& all) {
  std::set<std::string> words;
  for (const Words& one : all) words.insert(one.begin(), one.end());
  return words.size();
}

std::vector<std::string> numbers(const std::string& text) {
  std::vector<std::string> out;
  bool inside = false;
  for (const char c : text) {
    const bool digit = c >= '0' && c <= '9';
    if (digit && !inside) out.emplace_back();
    if (digit) out.back() += c;
    inside = digit;
  }
  return out;
}

double share(const std::vector<std::string>& all, const std::string& wanted) {
  if (all.empty()) return 0;
  return static_cast<double>(std::count(all.begin(), all.end(), wanted)) /
         static_cast<double>(all.size());
}

// Length of the longest common subsequence of characters.
size_t common_length(const Text& a, const Text& b) {
  std::vector<uint32_t> row(b.size() + 1, 0);
  for (const char32_t c : a) {
    uint32_t diagonal = 0;
    for (size_t j = 1; j <= b.size(); ++j) {
      const uint32_t above = row[j];
      row[j] = c == b[j - 1] ? diagonal + 1 : std::max(above, row[j - 1]);
      diagonal = above;
    }
  }
  return row.back();
}

std::vector<std::string> lines_of(const std::string& answer) {
  std::vector<std::string> out;
  size_t begin = std::min(answer.find_first_not_of('\n'), answer.size());
  while (begin <= answer.size()) {
    const size_t end = std::min(answer.find('\n', begin), answer.size());
    out.push_back(answer.substr(begin, end - begin));
    begin = end + 1;
  }
  return out;
}

}  // namespace

double qa_f1(const std::string& answer, const std::string& reference) {
  const Words got = without_articles(answer);
  const Words want = without_articles(reference);
  std::map<std::string, int64_t> left;
  for (const std::string& word : want) ++left[word];
  double same = 0;
  for (const std::string& word : got) {
    const auto found = left.find(word);
    if (found == left.end() || found->second == 0) continue;
    --found->second;
    ++same;
  }
  if (same == 0) return 0;
  const double precision = same / static_cast<double>(got.size());
  const double recall = same / static_cast<double>(want.size());
  return 2 * precision * recall / (precision + recall);
}

double rouge_l(const std::string& answer, const std::string& reference) {
  const std::vector<Words> got = sentences(answer);
  const std::vector<Words> want = sentences(reference);
  if (got.empty() || want.empty()) return 0;
  std::set<std::string> common;
  for (const Words& reference_words : want) {
    for (const Words& words : got) add_common(reference_words, words, common);
  }
  const auto size = static_cast<double>(common.size());
  const double recall = size / static_cast<double>(distinct(want));
  const double precision = size / static_cast<double>(distinct(got));
  return 2 * precision * recall / (precision + recall + 1e-8);
}

double classification(const std::string& answer, const std::string& reference,
                      const std::vector<std::string>& classes) {
  std::vector<std::string> named;
  for (const std::string& name : classes) {
    if (answer.find(name) != std::string::npos) named.push_back(name);
  }
  // As published: after one that is dropped the next is not looked at.
  for (size_t idx = 0; idx < named.size(); ++idx) {
    const std::string& name = named[idx];
    if (reference.find(name) == std::string::npos || name == reference) continue;
    named.erase(named.begin() + static_cast<std::ptrdiff_t>(idx));
  }
  return share(named, reference) > 0 ? 1 / static_cast<double>(named.size()) : 0;
}

double retrieval(const std::string& answer, const std::string& reference, std::string_view before) {
  const size_t at = reference.find(before);
  FOVEAL_CHECK(at != std::string::npos, ErrorKind::kInvalidArgument, "retrieval",
               "got the reference '{}'; need '{}' and a number", reference, before);
  const std::vector<std::string> wanted = numbers(reference.substr(at + before.size()));
  FOVEAL_CHECK(!wanted.empty(), ErrorKind::kInvalidArgument, "retrieval",
               "got the reference '{}'; need '{}' and a number", reference, before);
  return share(numbers(answer), wanted.front());
}

double counting(const std::string& answer, const std::string& reference) {
  return share(numbers(answer), reference);
}

double code_similarity(const std::string& answer, const std::string& reference) {
  std::string line;
  for (const std::string& one : lines_of(answer)) {
    if (one.find('`') != std::string::npos || one.find('#') != std::string::npos ||
        one.find("//") != std::string::npos) {
      continue;
    }
    line = one;
    break;
  }
  const Text got = decoded(line);
  const Text want = decoded(reference);
  const auto length = static_cast<double>(got.size() + want.size());
  if (got.empty() || want.empty()) return 0;
  return std::nearbyint(200 * static_cast<double>(common_length(got, want)) / length) / 100;
}

std::string first_line(const std::string& answer) { return lines_of(answer).front(); }

}  // namespace foveal::eval
