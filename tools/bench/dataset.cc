#include "bench/dataset.h"

#include <algorithm>
#include <boost/json/object.hpp>

#include "base/check.h"
#include "json_writer.h"
#include "measure/documents.h"
#include "measure/json.h"
#include "model/checkpoint.h"

namespace foveal::bench {
namespace json = boost::json;
namespace {

constexpr int64_t kMostTokens = int64_t{1} << 31;

BenchRequest read_request(const measure::Document& document) {
  const json::object& object = document.object;
  BenchRequest out{.task_id = document.id};
  if (document.ids) {
    out.prompt.token_ids = document.ids;
  } else {
    out.prompt.text = document.text;
  }
  const json::value* tokens = object.if_contains("output_tokens");
  const int64_t* count = tokens != nullptr ? tokens->if_int64() : nullptr;
  FOVEAL_CHECK(count != nullptr && *count >= 1 && *count < kMostTokens, ErrorKind::kInvalidArgument,
               document.id, "got {}; need output_tokens, an integer from 1",
               tokens == nullptr ? "no output_tokens" : "output_tokens of another kind");
  out.output_tokens = *count;
  if (const json::value* id = object.if_contains("task_id")) {
    if (const int64_t* number = id->if_int64()) out.task_id = fmt::format("{}", *number);
    if (id->is_string()) out.task_id = id->get_string();
  }
  return out;
}

}  // namespace

Dataset read_dataset(const std::string& path) {
  Dataset out;
  for (const measure::Document& document : measure::read_lines(path, "dataset")) {
    try {
      check_document(document);
      out.requests.push_back(read_request(document));
    } catch (const Error& error) {
      out.failures.push_back({document.id, error.what()});
    }
  }
  FOVEAL_CHECK(!out.requests.empty(), ErrorKind::kInvalidArgument, "dataset",
               "got '{}', where the first of {} bad lines is: {}; need a request a line", path,
               out.failures.size(), out.failures.front().error);
  return out;
}

std::span<const BenchRequest> first(std::span<const BenchRequest> requests, int64_t count) {
  if (count <= 0) return requests;
  return requests.first(std::min(requests.size(), static_cast<size_t>(count)));
}

std::string dataset_line(int64_t task_id, const std::vector<int32_t>& ids, int64_t output_tokens) {
  tools::JsonWriter out;
  out.begin_object().field("task_id", task_id).key("input_ids").begin_array();
  for (const int32_t id : ids) out.value(id);
  out.end_array().field("output_tokens", output_tokens).end_object();
  return out.text() + "\n";
}

std::vector<int32_t> plain_ids(const tools::TokenizerSource& source) {
  const auto checkpoint = model::Checkpoint::open(source.model);
  std::vector<int32_t> out;
  const auto tokenizer = tools::load_if_any(source);
  const int32_t vocab = checkpoint->config().vocab_size;
  const int32_t count = tokenizer ? std::min(tokenizer->vocab_size(), vocab) : vocab;
  for (int32_t id = 0; id < count; ++id) {
    if (!tokenizer || !tokenizer->is_special(id)) out.push_back(id);
  }
  FOVEAL_CHECK(!out.empty(), ErrorKind::kUnsupported, "model",
               "got a vocabulary of special tokens only; need another model");
  return out;
}

}  // namespace foveal::bench
