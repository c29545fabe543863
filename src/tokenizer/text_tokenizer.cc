#include "tokenizer/text_tokenizer.h"

#include "tokenizer/constraint_inner.h"
#include "tokenizer/utf8.h"

namespace foveal::tokenizer {

TextTokenizer::TextTokenizer(rust::Box<text::TextTokenizer> inner) : inner_(std::move(inner)) {
  const text::Table table = bridged("tokenizer", [&] { return text::table(*inner_); });
  FOVEAL_INVARIANT(!table.ids.empty() && table.ids.size() == table.ends.size());
  bytes_.assign(reinterpret_cast<const char*>(table.bytes.data()), table.bytes.size());
  spans_.resize(static_cast<size_t>(table.ids.back()) + 1);
  uint64_t begin = 0;
  for (size_t i = 0; i < table.ids.size(); ++i) {
    const uint64_t end = table.ends[i];
    Span& span = spans_.at(static_cast<size_t>(table.ids[i]));
    span = {begin, static_cast<uint32_t>(end - begin), true, false};
    begin = end;
  }
  for (const int32_t id : table.special) spans_.at(static_cast<size_t>(id)).special = true;
  strip_space_ = table.strip_space;

  const text::About about = bridged("tokenizer", [&] { return text::about(*inner_); });
  bos_ = optional_id(about.bos);
  adds_bos_ = about.adds_bos;
  end_.assign(about.end.begin(), about.end.end());
  chat_template_ = std::string(about.chat_template);
  description_ = std::string(about.description);
  encode_cost_ = about.encode_cost;
}

std::vector<int32_t> TextTokenizer::encode(std::string_view text, bool parse_special) const {
  check_memory(text.size(), encode_cost_, "tokenizer", "a text");
  const rust::Vec<int32_t> ids =
      bridged("tokenizer", [&] { return text::encode(*inner_, bytes_of(text), parse_special); });
  return {ids.begin(), ids.end()};
}

const TextTokenizer::Span& TextTokenizer::span_of(int32_t id) const {
  FOVEAL_CHECK(id >= 0 && static_cast<size_t>(id) < spans_.size() && spans_[id].known,
               ErrorKind::kInvalidArgument, "tokenizer",
               "got token id {}; need an id of this vocabulary, below {}", id, spans_.size());
  return spans_[id];
}

std::string TextTokenizer::token_bytes(int32_t id) const {
  const Span& span = span_of(id);
  return bytes_.substr(span.begin, span.length);
}

std::string TextTokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  std::string bytes;
  for (const int32_t id : ids) {
    const Span& span = span_of(id);
    if (skip_special && span.special) continue;
    bytes.append(bytes_, span.begin, span.length);
  }
  std::string_view view = bytes;
  if (strip_space_ && view.starts_with(' ')) view.remove_prefix(1);
  return to_utf8(view);
}

bool TextTokenizer::is_special(int32_t id) const {
  return id >= 0 && static_cast<size_t>(id) < spans_.size() && spans_[id].special;
}

std::optional<int32_t> TextTokenizer::token_id(std::string_view token) const {
  return optional_id(
      bridged("tokenizer", [&] { return text::token_id(*inner_, bytes_of(token)); }));
}

Constraint TextTokenizer::make_constraint(const GuidedDecoding& guided,
                                          std::span<const int32_t> end_tokens) const {
  std::string choices;
  std::vector<uint64_t> ends;
  for (const std::string& choice : guided.choices) {
    choices += choice;
    ends.push_back(choices.size());
  }
  for (const int32_t token : end_tokens) {
    // A mask has a bit for each; models pad their vocabularies, though not without end.
    FOVEAL_CHECK(token >= 0 && token / 8 <= vocab_size() + 65536, ErrorKind::kInvalidArgument,
                 "guided", "got end token {}; need one of the model's", token);
  }
  const text::GuidedFields fields{
      .kind = static_cast<uint8_t>(guided.kind),
      .text = bytes_of(guided.text),
      .choices = {.bytes = bytes_of(choices), .ends = {ends.data(), ends.size()}}};
  auto inner = std::make_unique<Constraint::Inner>(Constraint::Inner{
      bridged("guided", [&] { return text::guided(*inner_, fields); }), vocab_size()});
  return Constraint(std::move(inner), {end_tokens.begin(), end_tokens.end()});
}

}  // namespace foveal::tokenizer
