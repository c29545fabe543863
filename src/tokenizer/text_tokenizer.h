#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/bridge.h"
#include "tokenizer/tokenizer.h"

namespace foveal::tokenizer {

/// The tokenizer of the crate text/. Ids become bytes on this side, from one table.
class TextTokenizer final : public Tokenizer {
 public:
  explicit TextTokenizer(rust::Box<text::TextTokenizer> inner);

  std::vector<int32_t> encode(std::string_view text, bool parse_special) const override;
  std::string decode(std::span<const int32_t> ids, bool skip_special) const override;
  std::string token_bytes(int32_t id) const override;
  int32_t vocab_size() const override { return static_cast<int32_t>(spans_.size()); }
  bool is_special(int32_t id) const override;
  std::optional<int32_t> token_id(std::string_view token) const override;
  std::optional<int32_t> bos() const override { return bos_; }
  bool adds_bos() const override { return adds_bos_; }
  bool strips_leading_space() const override { return strip_space_; }
  const std::vector<int32_t>& end_tokens() const override { return end_; }
  const std::string& chat_template() const override { return chat_template_; }
  std::string describe() const override { return description_; }
  Constraint make_constraint(const GuidedDecoding& guided,
                             std::span<const int32_t> end_tokens) const override;

  const text::TextTokenizer& inner() const { return *inner_; }
  /// The most bytes of memory that encoding takes for each byte of a text.
  uint64_t encode_cost() const { return encode_cost_; }

 private:
  struct Span {
    uint64_t begin = 0;
    uint32_t length = 0;
    bool known = false;  ///< vocabularies may have holes
    bool special = false;
  };
  const Span& span_of(int32_t id) const;

  rust::Box<text::TextTokenizer> inner_;
  std::string bytes_;
  std::vector<Span> spans_;
  bool strip_space_ = false;
  std::optional<int32_t> bos_;
  bool adds_bos_ = false;
  std::vector<int32_t> end_;
  std::string chat_template_;
  std::string description_;
  uint64_t encode_cost_ = 0;
};

}  // namespace foveal::tokenizer
