#pragma once

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace foveal::server {

/// Parses a request's body: an object, at most 32 levels deep, no key twice, UTF-8 throughout.
/// Throws kInvalidArgument, `[body] ...`.
boost::json::object parse_body(std::string_view text);

/// Typed reading of one object. Every method throws kInvalidArgument, `[path.name] got X; need Y`;
/// absent and null are the same. What `finish` finds unread is refused.
class JsonReader {
 public:
  explicit JsonReader(const boost::json::object& object, std::string path = {})
      : object_(&object), path_(std::move(path)) {}

  const boost::json::value* find(std::string_view name);
  std::optional<bool> flag(std::string_view name);
  std::optional<int64_t> integer(std::string_view name, int64_t min, int64_t max);
  std::optional<uint64_t> seed(std::string_view name);  ///< any 64-bit integer
  std::optional<double> number(std::string_view name, double min, double max);
  std::optional<std::string> text(std::string_view name);
  std::string need_text(std::string_view name);
  const boost::json::object* object(std::string_view name);
  const boost::json::array* list(std::string_view name, size_t max_items);
  /// A string or a list of strings.
  std::vector<std::string> texts(std::string_view name, size_t max_items);
  std::vector<int32_t> ids(std::string_view name, size_t max_items);

  /// Fields that change no result and are not looked at.
  void ignore(std::initializer_list<std::string_view> names);
  /// A field that Foveal has only one setting of: that, or refused with the reason.
  void only_flag(std::string_view name, bool value, std::string_view why);
  void finish() const;

  std::string path(std::string_view name) const;
  [[noreturn]] void wrong(std::string_view name, std::string_view need) const;

 private:
  const boost::json::object* object_;
  std::string path_;
  std::set<std::string, std::less<>> read_;
};

/// What an error says it got: a scalar, shortened, or the kind.
std::string shown(const boost::json::value& value);
/// A whole number from 0 to 2^31 - 1 in a list at `path`.
int32_t token_id(const boost::json::value& value, const std::string& path);

}  // namespace foveal::server
