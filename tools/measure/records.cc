#include "measure/records.h"

#include <boost/json/array.hpp>
#include <boost/json/value_to.hpp>

#include "base/check.h"
#include "json_writer.h"
#include "measure/json.h"

namespace foveal::measure {
namespace json = boost::json;
namespace {

using tools::JsonWriter;

void write_texts(JsonWriter& out, std::string_view key, const std::vector<std::string>& texts) {
  out.key(key).begin_array();
  for (const std::string& text : texts) out.value(std::string_view(text));
  out.end_array();
}

void write_arm(JsonWriter& out, const ArmResult& arm) {
  out.begin_object().key("values").begin_object();
  for (const auto& [name, units] : arm.values) {
    out.key(name).begin_array();
    for (const Unit& unit : units) {
      out.begin_array().value(unit.sum).value(unit.count).end_array();
    }
    out.end_array();
  }
  out.end_object();
  if (!arm.answers.empty()) write_texts(out, "answers", arm.answers);
  out.field("kv_bytes", arm.kv_bytes).field("kv_peak_bytes", arm.kv_peak_bytes);
  out.field("method", std::string_view(arm.sparsity.method));
  out.key("layer_pairs").begin_array();  // prefill: all, used; decode: all, used
  for (const LayerSparsity& layer : arm.sparsity.layers) {
    out.begin_array();
    for (const uint64_t count : {layer.prefill.pairs, layer.prefill.pairs_used, layer.decode.pairs,
                                 layer.decode.pairs_used}) {
      out.value(static_cast<int64_t>(count));
    }
    out.end_array();
  }
  out.end_array().end_object();
}

std::vector<std::string> read_texts(const json::object& from, std::string_view key) {
  std::vector<std::string> out;
  if (const json::value* list = from.if_contains(key)) {
    for (const json::value& text : list->as_array()) out.emplace_back(text.as_string());
  }
  return out;
}

ArmResult read_arm(const json::object& from) {
  ArmResult arm;
  for (const auto& [name, units] : from.at("values").as_object()) {
    std::vector<Unit>& into = arm.values[std::string(name)];
    for (const json::value& unit : units.as_array()) {
      into.push_back({unit.at(0).to_number<double>(), unit.at(1).to_number<double>()});
    }
  }
  arm.answers = read_texts(from, "answers");
  arm.kv_bytes = from.at("kv_bytes").to_number<int64_t>();
  arm.kv_peak_bytes = from.at("kv_peak_bytes").to_number<int64_t>();
  arm.sparsity.method = from.at("method").as_string();
  for (const json::value& layer : from.at("layer_pairs").as_array()) {
    const auto count = [&](size_t at) { return layer.at(at).to_number<uint64_t>(); };
    arm.sparsity.layers.push_back({.prefill = {.pairs = count(0), .pairs_used = count(1)},
                                   .decode = {.pairs = count(2), .pairs_used = count(3)}});
  }
  return arm;
}

Record read(const json::object& from) {
  Record record;
  record.id = from.at("id").as_string();
  for (const auto& [name, value] : from.at("tags").as_object()) {
    record.tags[std::string(name)] = value.as_string();
  }
  if (const json::value* error = from.if_contains("error")) record.error = error->as_string();
  record.prompt_tokens = from.at("prompt_tokens").to_number<int64_t>();
  record.references = read_texts(from, "references");
  for (const auto& [name, arm] : from.at("arms").as_object()) {
    record.arms[std::string(name)] = read_arm(arm.as_object());
  }
  return record;
}

}  // namespace

std::string to_json(const Record& record) {
  JsonWriter out;
  out.begin_object().field("id", std::string_view(record.id));
  out.key("tags").begin_object();
  for (const auto& [name, value] : record.tags) out.field(name, std::string_view(value));
  out.end_object();
  if (record.error) out.field("error", std::string_view(*record.error));
  out.field("prompt_tokens", record.prompt_tokens);
  if (!record.references.empty()) write_texts(out, "references", record.references);
  out.key("arms").begin_object();
  for (const auto& [name, arm] : record.arms) {
    out.key(name);
    write_arm(out, arm);
  }
  out.end_object().end_object();
  return out.text();
}

Record record_from_json(std::string_view line, std::string_view where) {
  const json::object object = parse_object(line, where);
  try {
    return read(object);
  } catch (const std::exception& error) {
    fail(ErrorKind::kInvalidArgument, where, "got {}; need a line that foveal eval wrote",
         error.what());
  }
}

}  // namespace foveal::measure
