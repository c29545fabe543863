#pragma once

#include <string>
#include <vector>

#include "eval/answer.h"
#include "eval/haystack.h"

namespace foveal::eval {

/// What is hidden in a context: magic numbers, each under a key of its own.
struct Needle {
  std::string key;
  std::string value;
  double depth = 0;  ///< share of the context before it
};

std::vector<Needle> random_needles(measure::Random& random, size_t count);

std::string needle_sentence(const Needle& needle);
/// The question about one, behind the context or in a later turn.
std::string needle_question(const Needle& needle);
/// How the answer begins.
std::string needle_prefix(const Needle& needle);

/// The needles in as many sentences as fit: `tokens(context)` counts what a request with that
/// context needs and must not pass `length`. Throws kInvalidArgument where the needles alone do.
std::string bury(const Haystack& haystack, measure::Random& random,
                 const std::vector<Needle>& needles, int64_t length,
                 const std::function<int64_t(const std::string&)>& tokens);

/// 1 where `reference` is in the answer, whatever the case; control characters count as blanks.
double found(const std::string& answer, const std::string& reference);

}  // namespace foveal::eval
