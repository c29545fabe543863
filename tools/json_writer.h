#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace foveal::tools {

/// Writes one JSON value piece by piece, keys in the order given, numbers in plain notation.
class JsonWriter {
 public:
  JsonWriter& begin_object() { return open('{'); }
  JsonWriter& end_object() { return close('}'); }
  JsonWriter& begin_array() { return open('['); }
  JsonWriter& end_array() { return close(']'); }
  JsonWriter& key(std::string_view name);
  /// What is no UTF-8 in it, such as bytes of a file's name, becomes U+FFFD.
  JsonWriter& value(std::string_view text);
  JsonWriter& value(const char* text) { return value(std::string_view(text)); }
  JsonWriter& value(int64_t number);
  JsonWriter& value(int32_t number) { return value(int64_t{number}); }
  /// Shortest form that reads back the same; null where JSON has no word for it (infinite, NaN).
  JsonWriter& value(double number);
  JsonWriter& value(bool flag);

  template <class T>
  JsonWriter& field(std::string_view name, const T& what) {
    return key(name).value(what);
  }
  const std::string& text() const { return text_; }

 private:
  JsonWriter& open(char bracket);
  JsonWriter& close(char bracket);
  void separate();

  std::string text_;
  bool first_ = true;
};

}  // namespace foveal::tools
