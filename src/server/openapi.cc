// What /openapi.json says. Fields that several routes share are written once.
#include <array>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "foveal/version.h"
#include "server/routes.h"

namespace foveal::server {
namespace json = boost::json;
namespace {

constexpr const char* kShared = R"({
  "model": {"type": "string"},
  "temperature": {"type": "number", "minimum": 0, "maximum": 100, "default": 1},
  "top_p": {"type": "number", "exclusiveMinimum": 0, "maximum": 1, "default": 1},
  "top_k": {"type": "integer", "minimum": -1, "description": "0 and -1: off"},
  "min_p": {"type": "number", "minimum": 0, "maximum": 1},
  "repetition_penalty": {"type": "number", "exclusiveMinimum": 0},
  "presence_penalty": {"type": "number", "minimum": -2, "maximum": 2},
  "frequency_penalty": {"type": "number", "minimum": -2, "maximum": 2},
  "seed": {"type": "integer"},
  "n": {"type": "integer", "minimum": 1},
  "stop": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
  "bad": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
  "stop_token_ids": {"type": "array", "items": {"type": "integer", "minimum": 0}},
  "include_stop_str_in_output": {"type": "boolean"},
  "ignore_eos": {"type": "boolean"},
  "min_tokens": {"type": "integer", "minimum": 0},
  "logit_bias": {"type": "object",
                 "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100}},
  "stream": {"type": "boolean"},
  "stream_options": {"type": "object", "properties": {"include_usage": {"type": "boolean"}}},
  "response_format": {"type": "object", "required": ["type"], "properties": {
    "type": {"enum": ["text", "json_object", "json_schema"]}, "json_schema": {"type": "object"}}},
  "guided_json": {"description": "a JSON schema, as an object or as text"},
  "guided_regex": {"type": "string"},
  "guided_choice": {"type": "array", "items": {"type": "string"}},
  "guided_grammar": {"type": "string", "description": "in Lark's notation"},
  "cache_salt": {"type": "string",
                 "description": "cached prompt pages are shared only with the same salt"},
  "sparse_attention": {"type": "object", "additionalProperties": false, "properties": {
    "off": {"type": "boolean"},
    "threshold_scale_factor": {"anyOf": [{"type": "number", "minimum": 0}, {"type": "object",
      "additionalProperties": false, "properties": {
        "prefill": {"type": "number", "minimum": 0}, "decode": {"type": "number", "minimum": 0}}}]}}},
  "user": {"type": "string"},
  "metadata": {"type": "object"},
  "store": {"type": "boolean"}
})";

struct Body {
  const char* path;
  const char* summary;
  bool generates;
  const char* required;
  const char* properties;
};

constexpr std::array kBodies{
    Body{"/v1/completions", "Complete prompts", true, "prompt", R"({
  "prompt": {"anyOf": [{"type": "string"}, {"type": "array", "minItems": 1, "items": {"anyOf": [
    {"type": "string"}, {"type": "integer", "minimum": 0},
    {"type": "array", "items": {"type": "integer", "minimum": 0}}]}}]},
  "max_tokens": {"type": "integer", "minimum": 0, "default": 16},
  "echo": {"type": "boolean"},
  "logprobs": {"type": "integer", "minimum": 0, "maximum": 20},
  "best_of": {"type": "integer", "description": "none, or n"}})"},
    Body{"/v1/chat/completions", "Answer a conversation", true, "messages", R"({
  "messages": {"type": "array", "minItems": 1, "items": {"type": "object", "required": ["role"],
    "properties": {"role": {"enum": ["system", "developer", "user", "assistant", "tool"]},
      "content": {"anyOf": [{"type": "string"}, {"type": "null"}, {"type": "array",
        "items": {"type": "object", "required": ["type", "text"],
          "properties": {"type": {"const": "text"}, "text": {"type": "string"}}}}]}}}},
  "max_tokens": {"type": "integer", "minimum": 1},
  "max_completion_tokens": {"type": "integer", "minimum": 1},
  "logprobs": {"type": "boolean"},
  "top_logprobs": {"type": "integer", "minimum": 0, "maximum": 20},
  "tools": {"type": "array", "items": {"type": "object"}},
  "tool_choice": {"enum": ["auto", "none"]},
  "add_generation_prompt": {"type": "boolean", "default": true},
  "chat_template_kwargs": {"type": "object"}})"},
    Body{"/v1/responses", "Answer, in the form of the responses API; nothing is kept", true,
         "input", R"({
  "input": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]},
  "instructions": {"type": "string"},
  "max_output_tokens": {"type": "integer", "minimum": 1},
  "text": {"type": "object", "properties": {"format": {"type": "object"}}}})"},
    Body{"/tokenize", "Token ids of a text or a conversation", false, "", R"({
  "model": {"type": "string"}, "prompt": {"type": "string"},
  "messages": {"type": "array", "items": {"type": "object"}},
  "add_special_tokens": {"type": "boolean", "default": true},
  "add_generation_prompt": {"type": "boolean", "default": true}})"},
    Body{"/detokenize", "The text of token ids", false, "tokens", R"({
  "model": {"type": "string"}, "tokens": {"type": "array", "items": {"type": "integer", "minimum": 0}},
  "skip_special_tokens": {"type": "boolean", "default": false}})"},
};

json::object responses_json(bool generates, bool has_body) {
  json::object out{{"200", json::object{{"description", "the answer"}}},
                   {"401", json::object{{"description", "no valid API key"}}}};
  if (has_body) {
    out["400"] = json::object{{"description", "a field that is unknown, missing or out of range"}};
    out["413"] = json::object{{"description", "the body is too large"}};
    out["415"] = json::object{{"description", "not application/json"}};
  }
  if (generates) {
    out["404"] = json::object{{"description", "another model"}};
    out["429"] = json::object{{"description", "too many requests are waiting"}};
    out["503"] = json::object{{"description", "shutting down"}};
  }
  return out;
}

json::object post_json(const Body& body) {
  const json::value own = json::parse(body.properties);
  json::object properties = own.get_object();
  if (body.generates) {
    const json::value shared = json::parse(kShared);
    for (const auto& entry : shared.get_object()) properties.emplace(entry.key(), entry.value());
  }
  json::object schema{
      {"type", "object"}, {"additionalProperties", false}, {"properties", std::move(properties)}};
  if (*body.required != 0) schema["required"] = json::array{body.required};
  const json::object content{{"application/json", json::object{{"schema", std::move(schema)}}}};
  return {{"summary", body.summary},
          {"requestBody", json::object{{"required", true}, {"content", content}}},
          {"responses", responses_json(body.generates, /*has_body=*/true)}};
}

json::object document() {
  json::object paths;
  for (const char* path : {"/health", "/ready", "/version", "/metrics", "/v1/models"}) {
    const json::object get{{"summary", path},
                           {"responses", responses_json(/*generates=*/false, /*has_body=*/false)}};
    paths[path] = json::object{{"get", get}};
  }
  for (const Body& body : kBodies) paths[body.path] = json::object{{"post", post_json(body)}};
  const json::object key{{"type", "http"}, {"scheme", "bearer"}};
  return {{"openapi", "3.1.0"},
          {"info", json::object{{"title", "Foveal"}, {"version", kVersion}}},
          {"paths", std::move(paths)},
          {"components", json::object{{"securitySchemes", json::object{{"key", key}}}}},
          {"security", json::array{json::object{{"key", json::array()}}, json::object()}}};
}

}  // namespace

HttpResponse answer_openapi(Service&, const HttpRequest&) {
  return {.body = json::serialize(document())};
}

}  // namespace foveal::server
