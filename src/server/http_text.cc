#include "server/http_text.h"

#include <fmt/format.h>

#include <array>
#include <ctime>
#include <iterator>

namespace foveal::server {
namespace {

std::string_view reason(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 204:
      return "No Content";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 413:
      return "Content Too Large";
    case 415:
      return "Unsupported Media Type";
    case 417:
      return "Expectation Failed";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 499:
      return "Client Closed Request";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return status < 500 ? "Error" : "Internal Server Error";
  }
}

std::string http_date() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  constexpr std::array<const char*, 7> kDays{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  constexpr std::array<const char*, 12> kMonths{"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  return fmt::format("{}, {:02} {} {} {:02}:{:02}:{:02} GMT",
                     kDays.at(static_cast<size_t>(parts.tm_wday)), parts.tm_mday,
                     kMonths.at(static_cast<size_t>(parts.tm_mon)), parts.tm_year + 1900,
                     parts.tm_hour, parts.tm_min, parts.tm_sec);
}

std::string common_head(int status, const ResponseForm& form) {
  std::string out = fmt::format("HTTP/1.1 {} {}\r\nServer: foveal\r\nDate: {}\r\n", status,
                                reason(status), http_date());
  if (!form.keep_alive) {
    out += "Connection: close\r\n";
  } else if (form.minor == 0) {
    out += "Connection: keep-alive\r\n";
  }
  if (form.headers != nullptr) {
    for (const auto& [name, value] : *form.headers) out += fmt::format("{}: {}\r\n", name, value);
  }
  return out + "X-Content-Type-Options: nosniff\r\n";
}

}  // namespace

std::string response_head(const HttpResponse& response, const ResponseForm& form) {
  std::string out = common_head(response.status, form);
  if (response.status != 204) {
    out += fmt::format("Content-Type: {}\r\nContent-Length: {}\r\n", response.content_type,
                       response.body.size());
  }
  for (const auto& [name, value] : response.headers) out += fmt::format("{}: {}\r\n", name, value);
  return out + "\r\n";
}

std::string stream_head(const ResponseForm& form) {
  std::string out = common_head(200, form);
  out += "Content-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-store\r\n";
  if (form.minor == 1) out += "Transfer-Encoding: chunked\r\n";
  return out + "\r\n";
}

void append_chunk(std::string& out, std::string_view bytes, bool chunked) {
  if (!chunked) {
    out += bytes;
    return;
  }
  fmt::format_to(std::back_inserter(out), "{:x}\r\n", bytes.size());
  out.append(bytes).append("\r\n");
}

}  // namespace foveal::server
