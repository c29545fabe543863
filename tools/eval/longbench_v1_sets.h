#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace foveal::eval {

/// One of LongBench's 21 data sets (arXiv 2308.14508).
struct LongBenchSet {
  std::string_view name;
  std::string_view group;
  /// In [0, 1], of an answer and one reference. Null: its published score needs words of a language
  /// that are not separated by blanks, which Foveal cannot cut.
  double (*score)(const std::string& answer, const std::string& reference,
                  const std::vector<std::string>& classes);
  int64_t max_tokens;       ///< of an answer, as published
  bool chat;                ///< few-shot and code prompts are gone on with instead
  bool first_line;          ///< only the answer's first line is scored
  std::string_view prompt;  ///< {context} and {input}; of the published structure, in our words
};

std::span<const LongBenchSet> longbench_sets();

}  // namespace foveal::eval
