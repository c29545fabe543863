#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "measure/random.h"

namespace foveal::eval {

/// Sentences to hide something among: of a text that the user gives, or generated ones, which are
/// nobody's and which no model has read.
class Haystack {
 public:
  /// Generated sentences.
  Haystack() = default;
  /// Those of a text or .jsonl file (measure/documents.h). Throws kInvalidArgument for a file with
  /// none.
  explicit Haystack(const std::string& path);

  /// `count` sentences: of a file, neighbours from a random place on, again from its start where
  /// it ends.
  std::vector<std::string> take(measure::Random& random, size_t count) const;

 private:
  std::vector<std::string> sentences_;  ///< empty: generated
};

/// An adjective and a noun with a hyphen, none of `taken`.
std::string random_key(measure::Random& random, const std::vector<std::string>& taken);
/// A number of seven digits.
std::string random_number(measure::Random& random);

/// The largest count up to `most` whose `size` is within `limit`, where size never falls as the
/// count grows; 0 where not even one fits. Looks where a straight line says, since measuring a
/// text's size means to tokenize it.
size_t largest(size_t most, int64_t limit, const std::function<int64_t(size_t)>& size);

/// Sentences as paragraphs of eight.
std::string join(const std::vector<std::string>& sentences);

/// "512, 4096": positive integers.
/// Named `flag` in errors.
std::vector<int64_t> parse_lengths(const std::string& text, std::string_view flag = "--lengths");

}  // namespace foveal::eval
