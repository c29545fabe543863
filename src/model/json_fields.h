#pragma once

#include <boost/json/object.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace foveal::model {

/// Typed reading of a configuration object. A field that is absent or null gives nothing; one of
/// the wrong type or out of bounds is kCorruptFile naming the field. Whole numbers may be spelled
/// as doubles. Does not own the objects.
class JsonFields {
 public:
  /// Fields missing in `object` are looked up in `fallback` if given.
  JsonFields(const boost::json::object& object, std::string source,
             const boost::json::object* fallback = nullptr)
      : object_(&object), fallback_(fallback), source_(std::move(source)) {}

  const std::string& source() const { return source_; }
  /// Present, even if null.
  bool has(std::string_view name) const;
  /// Null when absent or null.
  const boost::json::value* find(std::string_view name) const;

  std::optional<int64_t> integer(std::string_view name, int64_t least, int64_t most) const;
  /// Finite numbers only.
  std::optional<double> number(std::string_view name, double least, double most) const;
  std::optional<bool> boolean(std::string_view name) const;
  std::optional<std::string> text(std::string_view name) const;
  std::optional<JsonFields> object(std::string_view name) const;
  std::optional<std::vector<double>> numbers(std::string_view name) const;
  /// A whole number or a list of them.
  std::vector<int32_t> token_ids(std::string_view name) const;
  std::optional<std::vector<std::string>> texts(std::string_view name) const;

  /// A size that must be there, in [1, most].
  int32_t size(std::string_view name, int32_t most) const;

 private:
  [[noreturn]] void wrong(std::string_view name, const boost::json::value& value,
                          std::string_view need) const;
  const boost::json::array* list(std::string_view name) const;

  const boost::json::object* object_;
  const boost::json::object* fallback_;
  std::string source_;
};

}  // namespace foveal::model
