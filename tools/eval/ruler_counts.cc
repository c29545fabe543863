// RULER's tasks that need all of the text: variable tracking, common words, frequent words.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "eval/ruler_tasks.h"

namespace foveal::eval {
namespace {

using measure::Random;

std::string random_name(Random& random, int letters) {
  std::string out;
  for (int idx = 0; idx < letters; ++idx) out += static_cast<char>('A' + random.below(26));
  return out;
}

/// A chain of assignments among filler lines; a solved one goes in front of the one asked about.
struct Chain {
  std::string text, value;
  std::vector<std::string> names;
};

Chain chain(Random& random, int letters, size_t units) {
  constexpr size_t kHops = 4;
  Chain out{.value = fmt::format("{}", random.between(10000, 99999))};
  while (out.names.size() <= kHops) {
    std::string name = random_name(random, letters);
    if (std::find(out.names.begin(), out.names.end(), name) == out.names.end()) {
      out.names.push_back(std::move(name));
    }
  }
  // Places in order, so that a variable is set before it is copied.
  std::vector<double> places;
  for (size_t idx = 0; idx < out.names.size(); ++idx) places.push_back(random.uniform());
  std::sort(places.begin(), places.end());
  size_t next = 0;
  for (size_t unit = 0; unit <= units; ++unit) {
    while (next < places.size() && (unit == units || places[next] * static_cast<double>(units) <
                                                         static_cast<double>(unit))) {
      out.text += fmt::format("VAR {} = {}\n", out.names[next],
                              next == 0 ? out.value : "VAR " + out.names[next - 1]);
      ++next;
    }
    if (unit < units) out.text += filler(unit) + "\n";
  }
  return out;
}

std::string chain_prompt(const Chain& of) {
  return fmt::format(
      "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n{}\n"
      "Question: Find all variables that are assigned the value {} in the text above.",
      of.text, of.value);
}

std::string chain_prefix(const Chain& of) {
  return fmt::format(
      "Answer: According to the chain(s) of variable assignment in the text above, {} variables "
      "are "
      "assigned the value {}, they are:",
      of.names.size(), of.value);
}

std::string numbered(const std::vector<std::string>& words) {
  std::string out;
  for (size_t idx = 0; idx < words.size(); ++idx) {
    out += fmt::format("{}{}. {}", idx == 0 ? "" : " ", idx + 1, words[idx]);
  }
  return out;
}

/// Ten common words among others, as a numbered list.
struct WordList {
  std::string text;
  std::vector<std::string> common;
};

WordList word_list(Random& random, size_t others, size_t common_times, size_t other_times) {
  constexpr size_t kCommon = 10;
  const std::vector<std::string> words = random_words(random, kCommon + others);
  std::vector<std::string> all;
  for (size_t idx = 0; idx < words.size(); ++idx) {
    all.insert(all.end(), idx < kCommon ? common_times : other_times, words[idx]);
  }
  random.shuffle(all);
  return {.text = numbered(all), .common = {words.begin(), words.begin() + kCommon}};
}

std::string words_prompt(const WordList& list) {
  return fmt::format(
      "Below is a numbered list of words. In these words, some appear more often than others. "
      "Memorize the ones that appear most often.\n{}\nQuestion: What are the 10 most common words "
      "in the above list?",
      list.text);
}

constexpr const char* kWordsPrefix =
    "Answer: The top 10 words that appear most often in the list are:";

}  // namespace

Draft variable_tracking(const Materials& /*materials*/, Random random, size_t units) {
  constexpr size_t kExampleLines = 40;  // about 500 tokens in RULER, less here: short lengths exist
  const Chain example = chain(random, 3, kExampleLines);
  const Chain asked = chain(random, 5, units);
  return {.user = fmt::format("{}\n{} {}\n\n{}", chain_prompt(example), chain_prefix(example),
                              fmt::join(example.names, " "), chain_prompt(asked)),
          .prefix = chain_prefix(asked),
          .references = asked.names};
}

Draft common_words(const Materials& /*materials*/, Random random, size_t units) {
  // A unit is about one entry of the list. Short texts, up to some 4,000 tokens, have no room for
  // words that often.
  constexpr size_t kLongText = 600;
  const bool is_long = units >= kLongText;
  const WordList asked =
      is_long ? word_list(random, units / 3, 30, 3) : word_list(random, units, 6, 1);
  const WordList example = is_long ? word_list(random, 30, 10, 3) : word_list(random, 10, 3, 1);
  return {.user = fmt::format("{}\n{} {}\n\n{}", words_prompt(example), kWordsPrefix,
                              numbered(example.common), words_prompt(asked)),
          .prefix = kWordsPrefix,
          .references = asked.common};
}

Draft frequent_words(const Materials& /*materials*/, Random random, size_t units) {
  // Zipf's law with exponent 2; the most frequent word is dots, which do not count.
  const size_t vocabulary = std::max<size_t>(4, units / 10);
  std::vector<std::string> words = random_words(random, vocabulary);
  words[0] = "....";
  double total = 0;
  for (size_t rank = 1; rank <= vocabulary; ++rank) total += 1.0 / static_cast<double>(rank * rank);
  std::vector<std::string> all;
  size_t fourth = 0;
  for (size_t rank = 1; rank <= vocabulary; ++rank) {
    const double share = 1.0 / static_cast<double>(rank * rank) / total;
    auto count = static_cast<size_t>(std::llround(share * static_cast<double>(units)));
    // Few units round neighbours to the same count; what is asked for must stand out.
    count = rank <= 4 ? std::max(count, 6 - rank) : std::clamp<size_t>(count, 1, fourth - 1);
    if (rank == 4) fourth = count;
    all.insert(all.end(), count, words[rank - 1]);
  }
  random.shuffle(all);
  return {.user = fmt::format(
              "Read the following coded text and track the frequency of each coded word. Find the "
              "three most frequently appeared coded words. {}\nQuestion: Do not provide any "
              "explanation. Please ignore the dots '....'. What are the three most frequently "
              "appeared words in the above coded text?",
              fmt::join(all, " ")),
          .prefix =
              "Answer: According to the coded text above, the three most frequently appeared "
              "words are:",
          .references = {words.begin() + 1, words.begin() + 4}};
}

}  // namespace foveal::eval
