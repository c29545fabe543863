#pragma once

#include <optional>
#include <string>
#include <vector>

#include "eval/task.h"

namespace foveal::eval {

/// Text cut into windows that each fit a request: what perplexity and KL read.
class Windows {
 public:
  OptionGroup options();
  int64_t longest() const { return length_; }
  measure::Settings contents() const;
  void prepare(const LLM& llm, const Common& common);

  std::span<const measure::Record> samples() const { return records_; }
  /// Begin tokens first where the model wants them.
  const std::vector<int32_t>& ids(size_t idx) const { return ids_.at(idx); }
  /// How many tokens at the window's end go through decode, one by one; the others are its prompt.
  int64_t decode_tokens(size_t idx) const;
  int64_t skip_first() const { return skip_first_; }

 private:
  struct Document;
  std::vector<Document> documents(const LLM& llm) const;
  void cut(const Document& document, const std::vector<int32_t>& begin);

  std::string file_;
  int64_t length_ = 2048;
  std::optional<int64_t> decode_tokens_;
  int64_t skip_first_ = 0;
  int64_t default_decode_ = 0;
  int64_t max_seq_len_ = 0;
  std::vector<measure::Record> records_;
  std::vector<std::vector<int32_t>> ids_;
};

/// Sums over blocks of 64 neighbours: they depend on each other, so that single predictions would
/// make intervals too narrow.
std::vector<measure::Unit> in_blocks(std::span<const double> values);

}  // namespace foveal::eval
