#include <algorithm>

#include "base/check.h"
#include "server/errors.h"
#include "server/sampling_read.h"

namespace foveal::server {
namespace json = boost::json;
namespace {

constexpr size_t kMaxIds = 16 << 20;  // of the request; its bytes are limited anyway

void add_text(Call& call, const LLM& llm, const json::string& text) {
  call.prompt_texts.emplace_back(text.data(), text.size());
  call.prompts.push_back(llm.prompt_token_ids(call.prompt_texts.back()));
}

void add_ids(Call& call, const LLM& llm, const json::array& items, const std::string& path) {
  FOVEAL_CHECK(items.size() <= kMaxIds, ErrorKind::kInvalidArgument, path,
               "got {} ids; need at most {}", items.size(), kMaxIds);
  std::vector<int32_t> ids;
  ids.reserve(items.size());
  const auto vocab = static_cast<int32_t>(llm.info().vocab_size);
  for (const json::value& item : items) {
    ids.push_back(token_id(item, path));
    FOVEAL_CHECK(ids.back() < vocab, ErrorKind::kInvalidArgument, path, "got id {}; need 0 to {}",
                 ids.back(), vocab - 1);
  }
  call.prompt_texts.push_back(
      call.echo && llm.has_tokenizer() ? llm.decode(ids, /*skip_special=*/true) : std::string());
  call.prompts.push_back(std::move(ids));
}

/// A string, a list of strings, a list of ids or a list of lists of ids.
void read_prompts(JsonReader& reader, const ReadContext& context, Call& call) {
  const json::value* prompt = reader.find("prompt");
  constexpr const char* kNeed = "a string, token ids, or a list of either";
  if (prompt == nullptr) reader.wrong("prompt", kNeed);
  if (prompt->is_string()) return add_text(call, context.llm, prompt->get_string());
  if (!prompt->is_array() || prompt->get_array().empty()) reader.wrong("prompt", kNeed);
  const json::array& items = prompt->get_array();
  if (items.front().is_number()) return add_ids(call, context.llm, items, "prompt");
  FOVEAL_CHECK(items.size() <= static_cast<size_t>(context.settings.max_prompts),
               ErrorKind::kInvalidArgument, "prompt", "got {} prompts; need at most {}",
               items.size(), context.settings.max_prompts);
  for (const json::value& item : items) {
    if (item.is_string()) {
      add_text(call, context.llm, item.get_string());
    } else if (item.is_array()) {
      add_ids(call, context.llm, item.get_array(), "prompt");
    } else {
      reader.wrong("prompt", kNeed);
    }
  }
}

void read_logprobs(JsonReader& reader, const ReadContext& context, Call& call) {
  call.sampling.logprobs = reader.integer("logprobs", 0, context.settings.max_logprobs);
  if (!call.sampling.logprobs) return;
  if (!call.echo) return;
  call.sampling.prompt_logprobs = call.sampling.logprobs;
  FOVEAL_CHECK(!call.stream, ErrorKind::kUnsupported, "logprobs",
               "got it with echo and stream; need echo without one of them (the prompt's are known "
               "when the request has ended)");
}

}  // namespace

Call read_completion(const json::object& body, const ReadContext& context) {
  JsonReader reader(body);
  Call call;
  call.id = new_id("cmpl-");
  read_sampling(reader, context, call);
  read_stream(reader, call);
  call.echo = reader.flag("echo").value_or(false);
  read_logprobs(reader, context, call);
  call.sampling.max_tokens = reader.integer("max_tokens", 0, INT32_MAX).value_or(16);
  if (!reader.text("suffix").value_or("").empty()) {
    reader.wrong("suffix", "none (this model completes, it does not fill in)");
  }
  const int64_t n = call.sampling.n;
  if (reader.integer("best_of", 0, INT32_MAX).value_or(n) != n) {
    reader.wrong("best_of", fmt::format("none, or n ({})", n));
  }
  reader.find("prompt");
  reader.finish();
  read_prompts(reader, context, call);
  return call;
}

}  // namespace foveal::server
