#include "server/routes.h"

#include <algorithm>
#include <array>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include "base/check.h"
#include "foveal/version.h"

namespace foveal::server {
namespace json = boost::json;
namespace {

HttpResponse answer_health(Service&, const HttpRequest&) {
  return {.body = R"({"status": "live"})"};
}

HttpResponse answer_ready(Service& service, const HttpRequest&) {
  if (service.llm().stats().failed) {
    return error_response({.status = 503, .message = "the engine has failed", .code = "failed"});
  }
  if (!service.closing()) return {.body = R"({"status": "ready"})"};
  return error_response(
      {.status = 503, .message = "the server is shutting down", .code = "draining"});
}

HttpResponse answer_version(Service&, const HttpRequest&) {
  return {.body = json::serialize(json::object{{"version", kVersion}})};
}

json::object model_json(Service& service, const std::string& name) {
  return {{"id", name},
          {"object", "model"},
          {"created", 0},
          {"owned_by", "foveal"},
          {"max_model_len", service.llm().max_seq_len()}};
}

HttpResponse answer_models(Service& service, const HttpRequest&) {
  json::array data;
  for (const std::string& name : service.read_context().model_names) {
    data.push_back(model_json(service, name));
  }
  return {.body = json::serialize(json::object{{"object", "list"}, {"data", std::move(data)}})};
}

HttpResponse answer_model(Service& service, const HttpRequest& request) {
  const std::string name = request.head.path.substr(std::string_view("/v1/models/").size());
  const auto& names = service.read_context().model_names;
  FOVEAL_CHECK(std::find(names.begin(), names.end(), name) != names.end(), ErrorKind::kNotFound,
               "model", "got another name; need '{}'", names.front());
  return {.body = json::serialize(model_json(service, name))};
}

constexpr std::array kRoutes{
    Route{.path = "/health", .method = "GET", .instant = true, .answer = answer_health},
    Route{.path = "/ready", .method = "GET", .instant = true, .answer = answer_ready},
    Route{.path = "/version", .method = "GET", .instant = true, .answer = answer_version},
    Route{.path = "/openapi.json", .method = "GET", .answer = answer_openapi},
    Route{.path = "/metrics", .method = "GET", .answer = answer_metrics},
    Route{.path = "/v1/models", .method = "GET", .answer = answer_models},
    Route{.path = "/v1/models/*", .method = "GET", .answer = answer_model},
    Route{.path = "/v1/completions",
          .method = "POST",
          .generates = true,
          .read = read_completion,
          .write = completion_answer},
    Route{.path = "/v1/chat/completions",
          .method = "POST",
          .generates = true,
          .read = read_chat,
          .write = chat_answer},
    Route{.path = "/v1/responses",
          .method = "POST",
          .generates = true,
          .read = read_response,
          .write = response_answer},
    Route{.path = "/tokenize", .method = "POST", .answer = answer_tokenize},
    Route{.path = "/detokenize", .method = "POST", .answer = answer_detokenize},
};

bool matches(std::string_view pattern, std::string_view path) {
  if (!pattern.ends_with("/*")) return pattern == path;
  pattern.remove_suffix(1);
  return path.starts_with(pattern) && path.size() > pattern.size();
}

}  // namespace

const Route* find_route(std::string_view path) {
  for (const Route& route : kRoutes) {
    if (matches(route.path, path)) return &route;
  }
  return nullptr;
}

}  // namespace foveal::server
