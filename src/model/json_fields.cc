#include "model/json_fields.h"

#include <boost/json/serialize.hpp>
#include <cmath>
#include <limits>

#include "base/check.h"

namespace foveal::model {
namespace json = boost::json;
namespace {

constexpr size_t kShown = 80;  // characters of a wrong value that an error repeats

std::optional<int64_t> whole(const json::value& value) {
  if (const auto* number = value.if_int64()) return *number;
  const auto* number = value.if_double();
  if (number == nullptr || std::trunc(*number) != *number || std::abs(*number) > 0x1p53) {
    return std::nullopt;
  }
  return static_cast<int64_t>(*number);
}

std::optional<double> finite(const json::value& value) {
  if (const auto* number = value.if_int64()) return static_cast<double>(*number);
  if (const auto* number = value.if_uint64()) return static_cast<double>(*number);
  const auto* number = value.if_double();
  if (number == nullptr || !std::isfinite(*number)) return std::nullopt;
  return *number;
}

}  // namespace

bool JsonFields::has(std::string_view name) const {
  const json::string_view key(name.data(), name.size());
  return object_->contains(key) || (fallback_ != nullptr && fallback_->contains(key));
}

const json::value* JsonFields::find(std::string_view name) const {
  const json::string_view key(name.data(), name.size());
  const json::value* value = object_->if_contains(key);
  if (value == nullptr && fallback_ != nullptr) value = fallback_->if_contains(key);
  return value == nullptr || value->is_null() ? nullptr : value;
}

void JsonFields::wrong(std::string_view name, const json::value& value,
                       std::string_view need) const {
  std::string shown = json::serialize(value);
  if (shown.size() > kShown) shown = shown.substr(0, kShown) + "...";
  fail(ErrorKind::kCorruptFile, source_, "got {} {}; need {}", name, shown, need);
}

std::optional<int64_t> JsonFields::integer(std::string_view name, int64_t least,
                                           int64_t most) const {
  const json::value* value = find(name);
  if (value == nullptr) return std::nullopt;
  const auto number = whole(*value);
  if (!number || *number < least || *number > most) {
    wrong(name, *value, fmt::format("a whole number from {} to {}", least, most));
  }
  return number;
}

std::optional<double> JsonFields::number(std::string_view name, double least, double most) const {
  const json::value* value = find(name);
  if (value == nullptr) return std::nullopt;
  const auto number = finite(*value);
  if (!number || !(*number >= least && *number <= most)) {
    wrong(name, *value, fmt::format("a number from {} to {}", least, most));
  }
  return number;
}

std::optional<bool> JsonFields::boolean(std::string_view name) const {
  const json::value* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_bool()) wrong(name, *value, "true or false");
  return value->get_bool();
}

std::optional<std::string> JsonFields::text(std::string_view name) const {
  const json::value* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) wrong(name, *value, "a string");
  return std::string(value->get_string().data(), value->get_string().size());
}

std::optional<JsonFields> JsonFields::object(std::string_view name) const {
  const json::value* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_object()) wrong(name, *value, "an object");
  return JsonFields(value->get_object(), source_);
}

const json::array* JsonFields::list(std::string_view name) const {
  const json::value* value = find(name);
  if (value == nullptr) return nullptr;
  if (!value->is_array()) wrong(name, *value, "a list");
  return &value->get_array();
}

std::optional<std::vector<double>> JsonFields::numbers(std::string_view name) const {
  const json::array* items = list(name);
  if (items == nullptr) return std::nullopt;
  std::vector<double> out;
  out.reserve(items->size());
  for (const json::value& item : *items) {
    const auto number = finite(item);
    if (!number) wrong(name, item, "finite numbers in the list");
    out.push_back(*number);
  }
  return out;
}

std::vector<int32_t> JsonFields::token_ids(std::string_view name) const {
  std::vector<int32_t> out;
  const json::value* value = find(name);
  if (value == nullptr) return out;
  const auto add = [&](const json::value& item) {
    const auto id = whole(item);
    if (!id || *id < 0 || *id > std::numeric_limits<int32_t>::max()) {
      wrong(name, item, "token ids");
    }
    out.push_back(static_cast<int32_t>(*id));
  };
  if (const auto* items = value->if_array()) {
    for (const json::value& item : *items) add(item);
  } else {
    add(*value);
  }
  return out;
}

std::optional<std::vector<std::string>> JsonFields::texts(std::string_view name) const {
  const json::array* items = list(name);
  if (items == nullptr) return std::nullopt;
  std::vector<std::string> out;
  out.reserve(items->size());
  for (const json::value& item : *items) {
    if (!item.is_string()) wrong(name, item, "strings in the list");
    out.emplace_back(item.get_string().data(), item.get_string().size());
  }
  return out;
}

int32_t JsonFields::size(std::string_view name, int32_t most) const {
  const auto value = integer(name, 1, most);
  FOVEAL_CHECK(value, ErrorKind::kCorruptFile, source_, "got no {}; need it", name);
  return static_cast<int32_t>(*value);
}

}  // namespace foveal::model
