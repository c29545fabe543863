#include "server/guard.h"

#include <algorithm>
#include <charconv>

namespace foveal::server {
namespace {

constexpr size_t kMaxFields = 100;

bool is_token_char(char c) {
  if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) return true;
  return c != 0 && std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
}

bool is_token(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), is_token_char);
}

bool is_value_char(char c) {
  return c == '\t' || (static_cast<unsigned char>(c) >= 32 && c != 127);
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

using Complaint = std::optional<GuardError>;

Complaint bad(const char* message) { return GuardError{400, message}; }

Complaint read_request_line(std::string_view line, RequestHead& head) {
  const size_t first = line.find(' ');
  const size_t last = line.rfind(' ');
  if (first == std::string_view::npos || first == last) return bad("malformed request line");
  const std::string_view method = line.substr(0, first);
  const std::string_view target = line.substr(first + 1, last - first - 1);
  const std::string_view version = line.substr(last + 1);
  if (!is_token(method)) return bad("malformed method");
  if (version != "HTTP/1.1" && version != "HTTP/1.0") {
    return GuardError{505, "need HTTP/1.1 or HTTP/1.0"};
  }
  const bool visible = std::all_of(target.begin(), target.end(), [](char c) {
    return c > 32 && static_cast<unsigned char>(c) < 127;
  });
  const bool whole_server = target == "*" && method == "OPTIONS";
  if (!visible || (!target.starts_with('/') && !whole_server)) {
    return bad("malformed target; need a path");
  }
  head.method = method;
  const size_t question = target.find('?');
  head.path = target.substr(0, question);
  if (question != std::string_view::npos) head.query = target.substr(question + 1);
  head.minor = version.back() - '0';
  return std::nullopt;
}

Complaint read_field(std::string_view line, RequestHead& head) {
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos || !is_token(line.substr(0, colon))) {
    return bad("malformed header field (folded lines and spaces before the colon are refused)");
  }
  const std::string_view value = trim(line.substr(colon + 1));
  if (!std::all_of(value.begin(), value.end(), is_value_char)) {
    return bad("control character in a header field");
  }
  if (head.fields.size() == kMaxFields) return GuardError{431, "more than 100 header fields"};
  head.fields.emplace_back(lower(line.substr(0, colon)), std::string(value));
  return std::nullopt;
}

size_t count(const RequestHead& head, std::string_view name) {
  return static_cast<size_t>(std::count_if(head.fields.begin(), head.fields.end(),
                                           [&](const auto& field) { return field.first == name; }));
}

Complaint read_host(const RequestHead& head) {
  const size_t hosts = count(head, "host");
  if (hosts > 1) return bad("more than one Host");
  if (hosts == 0) {
    return head.minor == 0 ? std::nullopt : bad("no Host");
  }
  const std::string_view host = *head.field("host");
  const bool good = !host.empty() && std::all_of(host.begin(), host.end(), [](char c) {
    return (c != 0 && std::string_view(".-_:[]%~").find(c) != std::string_view::npos) ||
           (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  });
  return good ? std::nullopt : bad("malformed Host");
}

Complaint read_length(std::string_view text, RequestHead& head) {
  uint64_t length = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), length);
  // 18 digits fit whatever they are.
  if (text.empty() || text.size() > 18 || code != std::errc{} || end != text.data() + text.size()) {
    return bad("malformed Content-Length");
  }
  head.content_length = length;
  return std::nullopt;
}

Complaint read_framing(RequestHead& head) {
  const size_t lengths = count(head, "content-length");
  const size_t encodings = count(head, "transfer-encoding");
  if (lengths > 1) return bad("more than one Content-Length");
  if (encodings > 1) return bad("more than one Transfer-Encoding");
  if (lengths == 1 && encodings == 1) return bad("both Content-Length and Transfer-Encoding");
  if (encodings == 1) {
    if (head.minor == 0) return bad("Transfer-Encoding before HTTP/1.1");
    if (lower(*head.field("transfer-encoding")) != "chunked") {
      return GuardError{501, "need 'chunked' as the only Transfer-Encoding"};
    }
    head.chunked = true;
  }
  if (lengths == 1) return read_length(*head.field("content-length"), head);
  return std::nullopt;
}

bool lists(std::string_view value, std::string_view word) {
  while (!value.empty()) {
    const size_t comma = std::min(value.find(','), value.size());
    if (lower(trim(value.substr(0, comma))) == word) return true;
    value.remove_prefix(std::min(comma + 1, value.size()));
  }
  return false;
}

Complaint read_options(RequestHead& head) {
  if (const auto expect = head.field("expect")) {
    if (lower(*expect) != "100-continue" || count(head, "expect") > 1) {
      return GuardError{417, "need 'Expect: 100-continue' or none"};
    }
    head.expects_continue = head.minor == 1;
  }
  if (head.field("upgrade") && lists(head.field("connection").value_or(""), "upgrade") &&
      head.has_body()) {
    return bad("Upgrade with a body");
  }
  const std::string_view connection = head.field("connection").value_or("");
  head.keep_alive = head.minor == 1 ? !lists(connection, "close") : lists(connection, "keep-alive");
  return std::nullopt;
}

}  // namespace

std::optional<std::string_view> RequestHead::field(std::string_view name) const {
  for (const auto& [key, value] : fields) {
    if (key == name) return value;
  }
  return std::nullopt;
}

std::variant<RequestHead, GuardError> read_head(std::string_view bytes) {
  RequestHead head;
  bool first = true;
  while (true) {
    const size_t end = bytes.find("\r\n");
    if (end == std::string_view::npos) return GuardError{400, "malformed line end"};
    const std::string_view line = bytes.substr(0, end);
    bytes.remove_prefix(end + 2);
    if (line.find_first_of(std::string_view("\r\n\0", 3)) != std::string_view::npos) {
      return GuardError{400, "malformed line end"};
    }
    if (!first && line.empty()) break;
    if (auto error = first ? read_request_line(line, head) : read_field(line, head)) return *error;
    first = false;
  }
  for (const auto step :
       {+[](RequestHead& it) { return read_host(it); }, +read_framing, +read_options}) {
    if (auto error = step(head)) return *error;
  }
  return head;
}

}  // namespace foveal::server
