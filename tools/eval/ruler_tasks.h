#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "eval/haystack.h"
#include "measure/random.h"

namespace foveal::eval {

/// A question about documents, of a file or made up.
struct Question {
  std::string text;
  std::vector<std::string> answers;    ///< any of them is right
  std::vector<std::string> documents;  ///< that the answer needs
};

/// What tasks are made from.
struct Materials {
  Haystack haystack;
  std::vector<Question> questions;  ///< of the user's file; empty: made up
};

/// One sample before it is cut to a length.
struct Draft {
  std::string user;    ///< context and question
  std::string prefix;  ///< how the answer begins
  std::vector<std::string> references;
};

/// One of RULER's 13 tasks (arXiv 2404.06654), generated from its description.
struct RulerTask {
  std::string_view name;
  int64_t max_tokens;  ///< of an answer
  bool any_reference;  ///< one of the references is enough; else each counts
  /// A sample with so many units of haystack. The same `random` with more units is the same
  /// question.
  Draft (*build)(const Materials& materials, measure::Random random, size_t units);
};

std::span<const RulerTask> ruler_tasks();

/// The share of references that are in the answer, or whether any is.
double ruler_score(const std::string& answer, const std::vector<std::string>& references,
                   bool any_reference);

/// {"question", "answers" (a text or a list), "documents" or "context"} a line. Throws
/// kInvalidArgument.
std::vector<Question> read_questions(const std::string& path);

// The builders, in ruler_needles.cc, ruler_counts.cc and ruler_questions.cc.
Draft niah_single_1(const Materials& materials, measure::Random random, size_t units);
Draft niah_single_2(const Materials& materials, measure::Random random, size_t units);
Draft niah_single_3(const Materials& materials, measure::Random random, size_t units);
Draft niah_multikey_1(const Materials& materials, measure::Random random, size_t units);
Draft niah_multikey_2(const Materials& materials, measure::Random random, size_t units);
Draft niah_multikey_3(const Materials& materials, measure::Random random, size_t units);
Draft niah_multivalue(const Materials& materials, measure::Random random, size_t units);
Draft niah_multiquery(const Materials& materials, measure::Random random, size_t units);
Draft variable_tracking(const Materials& materials, measure::Random random, size_t units);
Draft common_words(const Materials& materials, measure::Random random, size_t units);
Draft frequent_words(const Materials& materials, measure::Random random, size_t units);
Draft single_hop(const Materials& materials, measure::Random random, size_t units);
Draft two_hops(const Materials& materials, measure::Random random, size_t units);

/// Invented words of two or three syllables, all different and none of `taken`.
std::vector<std::string> random_words(measure::Random& random, size_t count);
/// The five sentences that say nothing, over and over.
std::string filler(size_t idx);
/// "a", "a and b", "a, b, and c".
std::string listed(const std::vector<std::string>& items);

}  // namespace foveal::eval
