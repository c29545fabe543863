#include "server/service.h"

#include <fmt/format.h>

#include "base/log.h"
#include "server/json_read.h"

namespace foveal::server {
namespace {

std::vector<std::string> all_keys(const ServerSettings& settings) {
  std::vector<std::string> keys = settings.api_key;
  if (!settings.api_key_file.empty()) {
    for (std::string& key : read_key_file(settings.api_key_file)) keys.push_back(std::move(key));
  }
  return keys;
}

std::string allowed(const Route& route) {
  return route.method == "GET" ? "GET, HEAD, OPTIONS" : "POST, OPTIONS";
}

bool takes(const Route& route, std::string_view method) {
  return method == route.method || (method == "HEAD" && route.method == "GET");
}

bool is_json(std::string_view type) {
  constexpr std::string_view kJson = "application/json";
  return type.starts_with(kJson) &&
         (type.size() == kJson.size() || type[kJson.size()] == ';' || type[kJson.size()] == ' ');
}

}  // namespace

Service::Service(LLM& llm, const ServerSettings& settings)
    : llm_(llm),
      settings_(settings),
      auth_(all_keys(settings)),
      model_names_(settings.served_model_name),
      admission_(settings.max_concurrent.value_or(64) + settings.max_queue) {
  if (model_names_.empty()) model_names_.push_back(llm.info().name);
}

void Service::clear() {
  tasks_.cancel_all();
  tasks_.clear();
}

/// Browsers ask this without a key.
std::optional<HttpResponse> Service::preflight(const RequestHead& head) const {
  if (settings_.cors_origin.empty() || head.method != "OPTIONS" || !head.field("origin") ||
      !head.field("access-control-request-method")) {
    return std::nullopt;
  }
  return HttpResponse{.status = 204,
                      .headers = {{"Access-Control-Allow-Methods", "GET, POST, OPTIONS"},
                                  {"Access-Control-Allow-Headers", "authorization, content-type"},
                                  {"Access-Control-Max-Age", "600"}}};
}

std::optional<ApiError> Service::refuse(const RequestHead& head, const Route* route) const {
  if (auth_.required() && head.path != "/health" && !auth_.check(head.field("authorization"))) {
    return ApiError{.status = 401,
                    .message = "got no valid API key; need 'Authorization: Bearer KEY'",
                    .code = "invalid_api_key"};
  }
  if (route == nullptr) {
    return ApiError{.status = 404, .message = "got an unknown path; see /openapi.json"};
  }
  if (!takes(*route, head.method) && head.method != "OPTIONS") {
    return ApiError{.status = 405,
                    .message = fmt::format("got another method; need one of {}", allowed(*route))};
  }
  if (head.method == "POST" && !is_json(head.field("content-type").value_or("application/json"))) {
    return ApiError{.status = 415, .message = "got another Content-Type; need application/json"};
  }
  if (draining_.load() && route->generates) {
    return ApiError{.status = 503, .message = "the server is shutting down", .code = "draining"};
  }
  return std::nullopt;
}

std::optional<HttpResponse> Service::admit(const RequestHead& head) {
  const Route* route = find_route(head.path);
  if (auto answer = preflight(head)) return answer;
  if (const auto error = refuse(head, route)) {
    metrics_.request(route == nullptr ? "other" : route->path, error->status);
    HttpResponse out = error_response(*error);
    if (error->status == 405) out.headers.emplace_back("Allow", allowed(*route));
    return out;
  }
  if (head.method == "OPTIONS") {
    return HttpResponse{.status = 204, .headers = {{"Allow", allowed(*route)}}};
  }
  if (route->instant) {
    HttpResponse out = route->answer(*this, {});
    metrics_.request(route->path, out.status);
    return out;
  }
  return std::nullopt;
}

HttpResponse Service::malformed(int status, const std::string& message) {
  metrics_.request("other", status);
  return error_response({.status = status, .message = message});
}

void Service::handle(HttpRequest request, std::shared_ptr<Exchange> exchange) {
  const Route* route = find_route(request.head.path);
  try {
    if (route->read != nullptr) return generate(*route, request, exchange);
    HttpResponse response = route->answer(*this, request);
    metrics_.request(route->path, response.status);
    exchange->respond(std::move(response));
  } catch (const std::exception& error) {
    const ApiError described = describe_error(error, route->path);
    metrics_.request(route->path, described.status);
    exchange->respond(error_response(described));
  }
}

/// Tenants are told apart by their keys: what one has in the prefix cache, another can neither use
/// nor find out by timing.
void Service::add_tenant(const RequestHead& head, RequestOptions& options) const {
  if (const auto key = auth_.check(head.field("authorization"))) {
    options.cache_salt = fmt::format("key {}: {}", *key, options.cache_salt);
  }
}

void Service::generate(const Route& route, const HttpRequest& request,
                       std::shared_ptr<Exchange> exchange) {
  const ApiError full{.status = 429,
                      .message = "too many requests are waiting; try again later",
                      .code = "overloaded"};
  // Before the work of reading it, and again with its size known.
  if (admission_.in_flight() >= admission_.limit()) {
    metrics_.request(route.path, full.status);
    return exchange->respond(error_response(full));
  }
  Call call = route.read(parse_body(request.body), read_context());
  add_tenant(request.head, call.options);
  auto slot = admission_.enter(static_cast<int64_t>(call.num_choices()));
  if (!slot) {
    metrics_.request(route.path, full.status);
    return exchange->respond(error_response(full));
  }
  std::make_shared<Task>(TaskWorld{llm_, metrics_, tasks_}, std::string(route.path),
                         std::move(call), route.write, *std::move(slot), exchange)
      ->start();
}

}  // namespace foveal::server
