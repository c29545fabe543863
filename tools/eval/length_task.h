#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "eval/haystack.h"
#include "eval/task.h"

namespace foveal::eval {

/// A task whose samples are made to lengths, around sentences that hide something.
class LengthTask : public Task {
 public:
  int64_t longest() const override;
  measure::Settings contents() const override;

 protected:
  explicit LengthTask(std::string lengths) : lengths_(std::move(lengths)) {}
  Haystack make_haystack() const;

  /// The fields that such tasks have; `help` says what of.
  OptionField lengths_field(std::string_view help);
  OptionField haystack_field(std::string_view help);
  static OptionField max_tokens_field(int64_t& max_tokens);

  std::string lengths_;   ///< tokens of whole requests (parse_lengths)
  std::string haystack_;  ///< a file; empty: generated sentences
};

}  // namespace foveal::eval
