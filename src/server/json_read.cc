#include "server/json_read.h"

#include <algorithm>
#include <boost/json/serialize.hpp>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "base/options_node.h"

namespace foveal::server {
namespace json = boost::json;
namespace {

/// The value as an integer, also when written 5.0 or 5e0. Nothing when it is none.
std::optional<int64_t> as_integer(const json::value& value) {
  if (const int64_t* number = value.if_int64()) return *number;
  if (const double* number = value.if_double()) {
    // Both bounds are exact doubles; NaN fails.
    if (*number >= -9007199254740992.0 && *number <= 9007199254740992.0 &&
        *number == std::floor(*number)) {
      return static_cast<int64_t>(*number);
    }
  }
  return std::nullopt;
}

std::optional<double> as_number(const json::value& value) {
  if (const int64_t* number = value.if_int64()) return static_cast<double>(*number);
  if (const uint64_t* number = value.if_uint64()) return static_cast<double>(*number);
  if (const double* number = value.if_double()) {
    if (std::isfinite(*number)) return *number;
  }
  return std::nullopt;
}

std::string range_text(std::string_view kind, double min, double max) {
  if (max >= 1e300) return fmt::format("{} >= {}", kind, min);
  return fmt::format("{} from {} to {}", kind, min, max);
}

}  // namespace

std::string shown(const json::value& value) {
  switch (value.kind()) {
    case json::kind::object:
      return "an object";
    case json::kind::array:
      return "a list";
    case json::kind::string: {
      const json::string& text = value.get_string();
      return fmt::format("'{}'", printable({text.data(), text.size()}, 60));
    }
    default:
      return json::serialize(value);
  }
}

int32_t token_id(const json::value& value, const std::string& path) {
  const std::optional<int64_t> id = as_integer(value);
  FOVEAL_CHECK(id && *id >= 0 && *id <= std::numeric_limits<int32_t>::max(),
               ErrorKind::kInvalidArgument, path, "got {}; need a token id", shown(value));
  return static_cast<int32_t>(*id);
}

std::string JsonReader::path(std::string_view name) const {
  return path_.empty() ? std::string(name) : fmt::format("{}.{}", path_, name);
}

void JsonReader::wrong(std::string_view name, std::string_view need) const {
  fail(ErrorKind::kInvalidArgument, path(name), "got {}; need {}",
       object_->contains({name.data(), name.size()})
           ? shown(object_->at({name.data(), name.size()}))
           : "nothing",
       need);
}

const json::value* JsonReader::find(std::string_view name) {
  read_.emplace(name);
  const json::value* value = object_->if_contains({name.data(), name.size()});
  return value == nullptr || value->is_null() ? nullptr : value;
}

std::optional<bool> JsonReader::flag(std::string_view name) {
  const json::value* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_bool()) wrong(name, "true or false");
  return value->get_bool();
}

std::optional<int64_t> JsonReader::integer(std::string_view name, int64_t min, int64_t max) {
  const json::value* value = find(name);
  if (value == nullptr) return std::nullopt;
  const std::optional<int64_t> number = as_integer(*value);
  if (!number || *number < min || *number > max) {
    wrong(name, fmt::format("an integer from {} to {}", min, max));
  }
  return number;
}

std::optional<uint64_t> JsonReader::seed(std::string_view name) {
  const json::value* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (const uint64_t* number = value->if_uint64()) return *number;
  const std::optional<int64_t> number = as_integer(*value);
  if (!number) wrong(name, "a 64-bit integer");
  return static_cast<uint64_t>(*number);
}

std::optional<double> JsonReader::number(std::string_view name, double min, double max) {
  const json::value* value = find(name);
  if (value == nullptr) return std::nullopt;
  const std::optional<double> number = as_number(*value);
  if (!number || !(*number >= min && *number <= max)) wrong(name, range_text("a number", min, max));
  return number;
}

std::optional<std::string> JsonReader::text(std::string_view name) {
  const json::value* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) wrong(name, "a string");
  return std::string(value->get_string());
}

std::string JsonReader::need_text(std::string_view name) {
  auto value = text(name);
  if (!value) wrong(name, "a string");
  return *std::move(value);
}

const json::object* JsonReader::object(std::string_view name) {
  const json::value* value = find(name);
  if (value == nullptr) return nullptr;
  if (!value->is_object()) wrong(name, "an object");
  return &value->get_object();
}

const json::array* JsonReader::list(std::string_view name, size_t max_items) {
  const json::value* value = find(name);
  if (value == nullptr) return nullptr;
  if (!value->is_array()) wrong(name, "a list");
  FOVEAL_CHECK(value->get_array().size() <= max_items, ErrorKind::kInvalidArgument, path(name),
               "got {} items; need at most {}", value->get_array().size(), max_items);
  return &value->get_array();
}

std::vector<std::string> JsonReader::texts(std::string_view name, size_t max_items) {
  const json::value* value = find(name);
  if (value == nullptr) return {};
  if (value->is_string()) return {std::string(value->get_string())};
  if (!value->is_array()) wrong(name, "a string or a list of strings");
  std::vector<std::string> out;
  for (const json::value& item : *list(name, max_items)) {
    if (!item.is_string()) wrong(name, "a string or a list of strings");
    out.emplace_back(item.get_string());
  }
  return out;
}

std::vector<int32_t> JsonReader::ids(std::string_view name, size_t max_items) {
  const json::array* items = list(name, max_items);
  std::vector<int32_t> out;
  if (items == nullptr) return out;
  out.reserve(items->size());
  for (const json::value& item : *items) out.push_back(token_id(item, path(name)));
  return out;
}

void JsonReader::ignore(std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names) read_.emplace(name);
}

void JsonReader::only_flag(std::string_view name, bool value, std::string_view why) {
  if (flag(name).value_or(value) != value) wrong(name, fmt::format("{} ({})", value, why));
}

void JsonReader::finish() const {
  for (const auto& entry : *object_) {
    const std::string_view key(entry.key().data(), entry.key().size());
    if (read_.contains(key)) continue;
    fail(ErrorKind::kInvalidArgument, path(printable(key, 60)),
         "got unknown field; need a field of this route (see docs/serving.md)");
  }
}

}  // namespace foveal::server
