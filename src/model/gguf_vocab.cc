#include "base/check.h"
#include "model/gguf_config.h"
#include "model/gguf_fields.h"

namespace foveal::model {
namespace {

template <class T>
void check_length(const std::vector<T>& list, std::string_view key, size_t tokens,
                  const std::string& source) {
  FOVEAL_CHECK(list.empty() || list.size() == tokens, ErrorKind::kCorruptFile, source,
               "got {} entries in tokenizer.ggml.{}; need {}, one a token", list.size(), key,
               tokens);
}

std::vector<std::string_view> string_list(const GgufFields& fields, std::string_view key) {
  const GgufValue* value = fields.find(key);
  if (value == nullptr) return {};
  auto list = value->as_strings();
  FOVEAL_CHECK(list, ErrorKind::kCorruptFile, fields.source(),
               "got a {} in tokenizer.ggml.{}; need an array of strings",
               gguf_type_name(value->type), key);
  return std::move(*list);
}

void read_scores(tokenizer::GgufVocab& vocab, const GgufFields& fields) {
  if (const GgufValue* value = fields.find("scores")) {
    const auto list = value->as_doubles();
    FOVEAL_CHECK(list, ErrorKind::kCorruptFile, fields.source(),
                 "got tokenizer.ggml.scores of another type; need numbers");
    vocab.scores.assign(list->begin(), list->end());
  }
  if (const GgufValue* value = fields.find("token_type")) {
    const auto list = value->as_ints();
    FOVEAL_CHECK(list, ErrorKind::kCorruptFile, fields.source(),
                 "got tokenizer.ggml.token_type of another type; need whole numbers");
    vocab.types.reserve(list->size());
    for (const int64_t type : *list) {
      FOVEAL_CHECK(type >= 0 && type <= 255, ErrorKind::kCorruptFile, fields.source(),
                   "got token type {}; need 0 to 255", type);
      vocab.types.push_back(static_cast<int32_t>(type));
    }
  }
}

std::optional<int32_t> special(const GgufFields& fields, std::string_view key, size_t tokens) {
  const auto id = fields.integer(key, 0, INT32_MAX);
  if (!id) return std::nullopt;
  FOVEAL_CHECK(static_cast<size_t>(*id) < tokens, ErrorKind::kCorruptFile, fields.source(),
               "got tokenizer.ggml.{} {}; need one of {} tokens", key, *id, tokens);
  return static_cast<int32_t>(*id);
}

}  // namespace

tokenizer::GgufVocab read_gguf_vocab(const GgufFile& file, const std::string& source) {
  const GgufFields fields(file, "tokenizer.ggml.", source);
  tokenizer::GgufVocab vocab;
  vocab.model = fields.text("model").value_or("");
  vocab.pre = fields.text("pre").value_or("");
  vocab.tokens = string_list(fields, "tokens");
  vocab.merges = string_list(fields, "merges");
  read_scores(vocab, fields);
  const size_t count = vocab.tokens.size();
  check_length(vocab.scores, "scores", count, source);
  check_length(vocab.types, "token_type", count, source);
  vocab.bos = special(fields, "bos_token_id", count);
  vocab.eos = special(fields, "eos_token_id", count);
  vocab.eot = special(fields, "eot_token_id", count);
  vocab.unk = special(fields, "unknown_token_id", count);
  vocab.pad = special(fields, "padding_token_id", count);
  // SentencePiece files that do not say so begin texts with bos; BPE files do not.
  vocab.add_bos = fields.boolean("add_bos_token").value_or(vocab.model == "llama");
  vocab.add_space_prefix = fields.boolean("add_space_prefix").value_or(true);
  vocab.chat_template = GgufFields(file, "tokenizer.", source).text("chat_template").value_or("");
  return vocab;
}

}  // namespace foveal::model
