#include "server/sampling_read.h"

#include <algorithm>
#include <charconv>
#include <ctime>
#include <limits>

#include "base/check.h"
#include "base/options_node.h"
#include "server/errors.h"

namespace foveal::server {
namespace json = boost::json;
namespace {

constexpr double kHuge = std::numeric_limits<double>::max();
constexpr int64_t kMaxTokens = std::numeric_limits<int32_t>::max();
constexpr size_t kMaxBias = 1024;
constexpr size_t kMaxStopBytes = 4096;
constexpr size_t kMaxSaltBytes = 256;

void read_choice(JsonReader& reader, SamplingParams& sampling) {
  sampling.temperature = reader.number("temperature", 0, 100).value_or(1.0);
  sampling.top_p = reader.number("top_p", 0, 1).value_or(1.0);
  if (sampling.top_p == 0) reader.wrong("top_p", "a number above 0, at most 1");
  sampling.top_k = std::max<int64_t>(0, reader.integer("top_k", -1, kMaxTokens).value_or(0));
  sampling.min_p = reader.number("min_p", 0, 1).value_or(0);
  sampling.repetition_penalty = reader.number("repetition_penalty", 0, kHuge).value_or(1.0);
  if (sampling.repetition_penalty == 0) reader.wrong("repetition_penalty", "a number above 0");
  sampling.presence_penalty = reader.number("presence_penalty", -2, 2).value_or(0);
  sampling.frequency_penalty = reader.number("frequency_penalty", -2, 2).value_or(0);
  sampling.seed = reader.seed("seed");
}

void check_texts(const std::vector<std::string>& texts, const std::string& path) {
  for (const std::string& text : texts) {
    FOVEAL_CHECK(!text.empty() && text.size() <= kMaxStopBytes, ErrorKind::kInvalidArgument, path,
                 "got a string of {} bytes; need 1 to {}", text.size(), kMaxStopBytes);
  }
}

void read_ends(JsonReader& reader, const ServerSettings& settings, SamplingParams& sampling) {
  const auto max = static_cast<size_t>(settings.max_stop);
  sampling.stop = reader.texts("stop", max);
  check_texts(sampling.stop, reader.path("stop"));
  sampling.bad = reader.texts("bad", max);
  check_texts(sampling.bad, reader.path("bad"));
  sampling.stop_token_ids = reader.ids("stop_token_ids", max);
  sampling.include_stop_str_in_output = reader.flag("include_stop_str_in_output").value_or(false);
  sampling.ignore_eos = reader.flag("ignore_eos").value_or(false);
  sampling.min_tokens = reader.integer("min_tokens", 0, kMaxTokens).value_or(0);
}

void read_bias(JsonReader& reader, SamplingParams& sampling) {
  const json::object* bias = reader.object("logit_bias");
  if (bias == nullptr) return;
  FOVEAL_CHECK(bias->size() <= kMaxBias, ErrorKind::kInvalidArgument, reader.path("logit_bias"),
               "got {} entries; need at most {}", bias->size(), kMaxBias);
  JsonReader entries(*bias, reader.path("logit_bias"));
  for (const auto& entry : *bias) {
    const std::string_view key(entry.key().data(), entry.key().size());
    int32_t id = -1;
    const auto [end, code] = std::from_chars(key.data(), key.data() + key.size(), id);
    FOVEAL_CHECK(code == std::errc{} && end == key.data() + key.size() && id >= 0,
                 ErrorKind::kInvalidArgument, reader.path("logit_bias"),
                 "got key '{}'; need token ids", printable(key, 40));
    sampling.logit_bias[id] = entries.number(key, -100, 100).value_or(0);
  }
}

void read_sparse(JsonReader& reader, RequestOptions& options) {
  const json::object* object = reader.object("sparse_attention");
  if (object == nullptr) return;
  JsonReader fields(*object, reader.path("sparse_attention"));
  SparseOverride out;
  out.off = fields.flag("off").value_or(false);
  if (const json::value* factor = fields.find("threshold_scale_factor")) {
    PhaseValue phases;
    if (factor->is_object()) {
      JsonReader each(factor->get_object(), fields.path("threshold_scale_factor"));
      phases.prefill = each.number("prefill", 0, kHuge);
      phases.decode = each.number("decode", 0, kHuge);
      each.finish();
    } else {
      phases.prefill = phases.decode = fields.number("threshold_scale_factor", 0, kHuge);
    }
    out.threshold_scale_factor = phases;
  }
  fields.finish();
  FOVEAL_CHECK(!out.off || !out.threshold_scale_factor, ErrorKind::kInvalidArgument,
               reader.path("sparse_attention"), "got off and a factor; need one of them");
  if (out.off || out.threshold_scale_factor) options.sparse_attention = out;
}

void read_model(JsonReader& reader, const ReadContext& context, Call& call) {
  call.model = reader.text("model").value_or(context.model_names.front());
  const auto& names = context.model_names;
  FOVEAL_CHECK(std::find(names.begin(), names.end(), call.model) != names.end(),
               ErrorKind::kNotFound, "model", "got '{}'; need '{}'", printable(call.model),
               names.front());
}

}  // namespace

void read_sampling(JsonReader& reader, const ReadContext& context, Call& call) {
  call.created = std::time(nullptr);
  read_model(reader, context, call);
  read_choice(reader, call.sampling);
  read_ends(reader, context.settings, call.sampling);
  read_bias(reader, call.sampling);
  read_sparse(reader, call.options);
  read_guided(reader, call);
  call.sampling.n = reader.integer("n", 1, context.settings.max_n).value_or(1);
  call.options.cache_salt = reader.text("cache_salt").value_or("");
  FOVEAL_CHECK(call.options.cache_salt.size() <= kMaxSaltBytes, ErrorKind::kInvalidArgument,
               "cache_salt", "got {} bytes; need at most {}", call.options.cache_salt.size(),
               kMaxSaltBytes);
  reader.ignore({"user", "metadata", "store", "safety_identifier", "service_tier",
                 "prompt_cache_key", "prompt_cache_retention"});
}

void read_stream(JsonReader& reader, Call& call) {
  call.stream = reader.flag("stream").value_or(false);
  const json::object* options = reader.object("stream_options");
  if (options == nullptr) return;
  FOVEAL_CHECK(call.stream, ErrorKind::kInvalidArgument, "stream_options",
               "got it without stream; need both");
  JsonReader fields(*options, "stream_options");
  call.include_usage = fields.flag("include_usage").value_or(false);
  fields.ignore({"include_obfuscation"});
  fields.finish();
}

int64_t room_after(const Call& call, const LLM& llm) {
  size_t longest = 0;
  for (const auto& prompt : call.prompts) longest = std::max(longest, prompt.size());
  // A prompt that does not fit at all is refused by the engine, with numbers.
  return std::max<int64_t>(1, llm.max_seq_len() - static_cast<int64_t>(longest));
}

}  // namespace foveal::server
