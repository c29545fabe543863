#include "server/errors.h"

#include <fmt/format.h>

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <random>

#include "base/log.h"
#include "foveal/error.h"
#include "tokenizer/utf8.h"

namespace foveal::server {
namespace json = boost::json;
namespace {

/// The field that a message `[field] got X; need Y` is about.
std::string param_of(std::string_view message) {
  if (!message.starts_with('[')) return {};
  const size_t end = message.find(']');
  if (end == std::string_view::npos) return {};
  std::string_view param = message.substr(1, end - 1);
  constexpr std::string_view kPrefix = "sampling.";
  if (param.starts_with(kPrefix)) param.remove_prefix(kPrefix.size());
  return std::string(param == "body" ? "" : param);
}

ApiError internal(const char* what, std::string_view context) {
  const std::string id = new_id("err-");
  log_error("{} {}: {}", context, id, what);
  return {.status = 500,
          .message = fmt::format("internal error {}; the server's log explains it", id)};
}

ApiError for_client(int status, const Error& error, std::string code = {}) {
  return {.status = status,
          .message = error.what(),
          .param = param_of(error.what()),
          .code = std::move(code)};
}

ApiError describe(const Error& error, std::string_view context) {
  switch (error.kind()) {
    case ErrorKind::kInvalidArgument:
      return for_client(400, error);
    case ErrorKind::kUnsupported:
      return for_client(400, error, "unsupported");
    case ErrorKind::kContextLength:
      return for_client(400, error, "context_length_exceeded");
    case ErrorKind::kNotFound:
      return for_client(404, error);
    case ErrorKind::kOutOfMemory:
      log_warn("{}: {}", context, error.what());
      return {.status = 429,
              .message = "the server has no memory for this request now; try again later",
              .code = "overloaded"};
    case ErrorKind::kCancelled:
      return {.status = 503, .message = "the request was cancelled", .code = "cancelled"};
    case ErrorKind::kCorruptFile:
    case ErrorKind::kIo:
    case ErrorKind::kInternal:
      break;
  }
  return internal(error.what(), context);
}

std::string_view type_of(int status) {
  if (status == 401) return "authentication_error";
  if (status == 404) return "not_found_error";
  if (status == 429) return "rate_limit_error";
  if (status == 503) return "service_unavailable_error";
  return status < 500 ? "invalid_request_error" : "server_error";
}

json::value text_or_null(const std::string& text) {
  return text.empty() ? json::value(nullptr) : json::value(text);
}

}  // namespace

ApiError describe_error(const std::exception& error, std::string_view context) {
  if (const auto* known = dynamic_cast<const Error*>(&error)) return describe(*known, context);
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) {
    return describe(Error(ErrorKind::kOutOfMemory, "[server] got no memory; need more"), context);
  }
  return internal(error.what(), context);
}

std::string error_json(const ApiError& error) {
  const json::object inner{
      {"message", tokenizer::to_utf8(error.message)},
      {"type", error.type.empty() ? std::string(type_of(error.status)) : error.type},
      {"param", text_or_null(error.param)},
      {"code", text_or_null(error.code)}};
  return json::serialize(json::object{{"error", inner}});
}

HttpResponse error_response(const ApiError& error) {
  HttpResponse out{.status = error.status, .body = error_json(error)};
  if (error.status == 401) out.headers.emplace_back("WWW-Authenticate", "Bearer");
  if (error.status == 429) out.headers.emplace_back("Retry-After", "1");
  if (error.status == 503) out.headers.emplace_back("Retry-After", "5");
  return out;
}

std::string new_id(std::string_view prefix) {
  thread_local std::mt19937_64 random{[] {
    std::random_device device;
    return (uint64_t{device()} << 32) | device();
  }()};
  return fmt::format("{}{:016x}{:08x}", prefix, random(), static_cast<uint32_t>(random()));
}

}  // namespace foveal::server
