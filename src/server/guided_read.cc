#include <boost/json/serialize.hpp>

#include "base/check.h"
#include "server/sampling_read.h"

namespace foveal::server {
namespace json = boost::json;
namespace {

constexpr size_t kMaxChoices = 1024;

using Kind = GuidedDecoding::Kind;

/// Of all the ways to ask, one may be used.
void set(Call& call, GuidedDecoding guided, const std::string& path) {
  FOVEAL_CHECK(!call.sampling.guided, ErrorKind::kInvalidArgument, path,
               "got a second form to follow; need one of response_format and the guided_ fields");
  call.sampling.guided = std::move(guided);
}

void read_schema(JsonReader& reader, Call& call) {
  const json::value* schema = reader.find("guided_json");
  if (schema == nullptr) return;
  std::string text;
  if (schema->is_string()) {
    text = std::string(schema->get_string());
  } else if (schema->is_object()) {
    text = json::serialize(*schema);
  } else {
    reader.wrong("guided_json", "a JSON schema, as an object or as text");
  }
  set(call, {.kind = Kind::kJsonSchema, .text = std::move(text)}, "guided_json");
}

void read_choices(JsonReader& reader, Call& call) {
  if (reader.find("guided_choice") == nullptr) return;
  GuidedDecoding guided{.kind = Kind::kChoice,
                        .choices = reader.texts("guided_choice", kMaxChoices)};
  FOVEAL_CHECK(!guided.choices.empty(), ErrorKind::kInvalidArgument, "guided_choice",
               "got no choices; need at least one");
  set(call, std::move(guided), "guided_choice");
}

}  // namespace

std::optional<GuidedDecoding> read_format(const json::object& format, const std::string& path) {
  JsonReader reader(format, path);
  const std::string type = reader.need_text("type");
  std::optional<GuidedDecoding> out;
  if (type == "json_object") {
    out = GuidedDecoding{.kind = Kind::kJsonObject};
  } else if (type == "json_schema") {
    // Chat nests the schema, responses does not.
    const json::object* nested = reader.object("json_schema");
    JsonReader inner(nested == nullptr ? format : *nested,
                     nested == nullptr ? path : path + ".json_schema");
    inner.ignore({"name", "description", "strict"});
    if (nested == nullptr) inner.ignore({"type", "json_schema"});
    const json::object* schema = inner.object("schema");
    if (schema == nullptr) inner.wrong("schema", "a JSON schema");
    inner.finish();
    if (nested == nullptr) reader.ignore({"name", "description", "strict", "schema"});
    out = GuidedDecoding{.kind = Kind::kJsonSchema, .text = json::serialize(*schema)};
  } else if (type != "text") {
    reader.wrong("type", "one of text, json_object, json_schema");
  }
  reader.finish();
  return out;
}

void read_guided(JsonReader& reader, Call& call) {
  read_schema(reader, call);
  read_choices(reader, call);
  if (auto text = reader.text("guided_regex")) {
    set(call, {.kind = Kind::kRegex, .text = *std::move(text)}, "guided_regex");
  }
  if (auto text = reader.text("guided_grammar")) {
    set(call, {.kind = Kind::kGrammar, .text = *std::move(text)}, "guided_grammar");
  }
  if (const json::object* format = reader.object("response_format")) {
    if (auto guided = read_format(*format, reader.path("response_format"))) {
      set(call, *std::move(guided), "response_format");
    }
  }
}

}  // namespace foveal::server
