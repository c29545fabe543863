// Bytes as the head of a request. What the guard lets through, Beast must frame in the same way:
// where they disagree about a body's length, a second request could hide in the first.
#include <boost/asio/buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <cstdint>
#include <string_view>

#include "server/guard.h"

namespace http = boost::beast::http;
using foveal::server::RequestHead;

namespace {

void check_framing(const RequestHead& head, std::string_view bytes) {
  http::request_parser<http::string_body> parser;
  parser.header_limit(64 << 10);
  parser.body_limit(boost::none);
  boost::system::error_code code;
  const size_t used = parser.put(boost::asio::buffer(bytes), code);
  if ((code && code != http::error::need_more) || !parser.is_header_done()) return;  // answered 400
  const auto& message = parser.get();
  const auto length = parser.content_length();
  const bool same = parser.chunked() == head.chunked &&
                    (head.chunked || length.value_or(0) == head.content_length.value_or(0)) &&
                    message.method_string() == head.method &&
                    message.version() == static_cast<unsigned>(10 + head.minor) && used != 0;
  if (!same) __builtin_trap();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 16 << 10) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto result = foveal::server::read_head(bytes);
  if (const auto* error = std::get_if<foveal::server::GuardError>(&result)) {
    if (error->status < 400 || error->status > 599 || error->message.empty()) __builtin_trap();
    return 0;
  }
  const RequestHead& head = std::get<RequestHead>(result);
  if (head.chunked && head.content_length) __builtin_trap();
  // A connection hands over the head up to its first blank line, and nothing more.
  const size_t end = bytes.find("\r\n\r\n");
  if (end != std::string_view::npos) check_framing(head, bytes.substr(0, end + 4));
  return 0;
}
