#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace foveal::server {

/// The request line and fields of a request, checked.
struct RequestHead {
  std::string method;
  std::string path;                                         ///< percent signs are left as they came
  std::string query;                                        ///< after '?'
  int minor = 1;                                            ///< HTTP/1.minor
  std::vector<std::pair<std::string, std::string>> fields;  ///< names in lower case
  std::optional<uint64_t> content_length;
  bool chunked = false;
  bool expects_continue = false;
  bool keep_alive = true;

  /// The first field of that (lower-case) name.
  std::optional<std::string_view> field(std::string_view name) const;
  bool has_body() const { return chunked || content_length.value_or(0) > 0; }
};

struct GuardError {
  int status;
  std::string message;  ///< no byte of the request in it
};

/// Reads a request's head, blank line included. Strict where Beast 1.81 is lax, so that no proxy in
/// front can see other requests than we do: one Host; Content-Length or `Transfer-Encoding:
/// chunked`, never both, never twice, no chunks before HTTP/1.1; no folded lines, no space before a
/// colon, no bare line ends, no control characters.
std::variant<RequestHead, GuardError> read_head(std::string_view bytes);

}  // namespace foveal::server
