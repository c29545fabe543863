#include "eval/windows.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "measure/documents.h"

namespace foveal::eval {

constexpr int64_t kDecodeTokens = 64;

struct Windows::Document {
  std::string id;
  std::vector<int32_t> ids;
  std::optional<std::string> error;
};

OptionGroup Windows::options() {
  return {
      .fields = {{.name = "file",
                  .target = &file_,
                  .help = "the text; or .jsonl: a document a line, {\"text\"} or {\"input_ids\"}",
                  .required = true},
                 {.name = "length",
                  .target = &length_,
                  .help = "tokens of a window, the begin token included",
                  .range = {.min = 2}},
                 {.name = "decode_tokens",
                  .target = &decode_tokens_,
                  .help = "how many at a window's end go through decode one by one (teacher "
                          "forcing); the others are its prompt. Absent: 64 where two settings "
                          "are compared, else 0",
                  .range = {.min = 0}},
                 {.name = "skip_first",
                  .target = &skip_first_,
                  .help = "predictions are scored only after so many tokens of a window",
                  .range = {.min = 0}}},
      .check = [this]() -> std::optional<Complaint> {
        if (skip_first_ + 1 < length_) return std::nullopt;
        return Complaint{"skip_first", fmt::format("got {}; need less than length - 1 ({})",
                                                   skip_first_, length_ - 1)};
      }};
}

measure::Settings Windows::contents() const { return {{"file", measure::content_hash(file_)}}; }

std::vector<Windows::Document> Windows::documents(const LLM& llm) const {
  std::vector<Document> out;
  for (measure::Document& from : measure::read_documents(file_)) {
    Document& document = out.emplace_back(Document{.id = from.id, .error = from.error});
    if (document.error) continue;
    try {
      document.ids = from.ids ? *from.ids : llm.encode(from.text);
      FOVEAL_CHECK(!document.ids.empty(), ErrorKind::kInvalidArgument, document.id,
                   "got no tokens; need a text");
    } catch (const Error& error) {
      document.error = error.what();
    }
  }
  return out;
}

void Windows::cut(const Document& document, const std::vector<int32_t>& begin) {
  const auto add = [&](std::string id, std::vector<int32_t> ids, std::optional<std::string> error) {
    records_.push_back({.id = std::move(id),
                        .error = std::move(error),
                        .prompt_tokens = static_cast<int64_t>(ids.size())});
    ids_.push_back(std::move(ids));
  };
  if (document.error) return add(document.id, {}, document.error);
  const auto room = static_cast<size_t>(length_) - begin.size();
  for (size_t at = 0; at < document.ids.size(); at += room) {
    const size_t end = std::min(at + room, document.ids.size());
    std::vector<int32_t> ids = begin;
    ids.insert(ids.end(), document.ids.begin() + static_cast<std::ptrdiff_t>(at),
               document.ids.begin() + static_cast<std::ptrdiff_t>(end));
    std::optional<std::string> error;
    const std::string id = fmt::format("{}@{}", document.id, at);
    const auto tokens = static_cast<int64_t>(ids.size());
    if (tokens > max_seq_len_) {
      error = fmt::format("[{}] got {} tokens; need at most {}, {}", id, tokens, max_seq_len_,
                          kLongestIs);
    } else if (tokens < skip_first_ + 2) {
      // The tail of a document may leave nothing to predict; only a whole one is worth a word.
      if (at > 0) continue;
      error = fmt::format("[{}] got {} tokens; need at least {}", id, tokens, skip_first_ + 2);
    }
    add(id, std::move(ids), std::move(error));
  }
}

void Windows::prepare(const LLM& llm, const Common& common) {
  default_decode_ = common.paired ? kDecodeTokens : 0;
  max_seq_len_ = common.max_seq_len;
  const std::vector<int32_t> begin =
      llm.has_tokenizer() ? llm.prompt_token_ids("") : std::vector<int32_t>{};
  for (const Document& document : documents(llm)) {
    cut(document, begin);
    const auto enough = static_cast<size_t>(common.num_samples);
    if (enough == 0 || records_.size() < enough) continue;
    records_.resize(enough);
    ids_.resize(enough);
    return;
  }
}

int64_t Windows::decode_tokens(size_t idx) const {
  const auto most = static_cast<int64_t>(ids(idx).size()) - 1;
  return std::min(decode_tokens_.value_or(default_decode_), most);
}

std::vector<measure::Unit> in_blocks(std::span<const double> values) {
  constexpr size_t kBlock = 64;
  std::vector<measure::Unit> out;
  for (size_t at = 0; at < values.size(); ++at) {
    if (at % kBlock == 0) out.emplace_back();
    out.back().sum += values[at];
    out.back().count += 1;
  }
  return out;
}

}  // namespace foveal::eval
