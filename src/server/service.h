#pragma once

#include <atomic>
#include <string>
#include <vector>

#include "server/auth.h"
#include "server/call.h"
#include "server/http.h"
#include "server/metrics.h"
#include "server/task.h"

namespace foveal::server {

class Service;

/// One row of the table in routes.cc.
struct Route {
  std::string_view path;
  std::string_view method;  ///< GET also answers HEAD
  bool generates = false;   ///< refused while draining
  bool instant = false;     ///< answered even while all workers are busy
  HttpResponse (*answer)(Service& service, const HttpRequest& request) = nullptr;
  Call (*read)(const boost::json::object& body, const ReadContext& context) = nullptr;
  AnswerMaker write = nullptr;
};

/// The row for a path, or null. A path that ends with `/*` stands for any one name there.
const Route* find_route(std::string_view path);

/// Everything between HTTP and the engine: keys, routes, limits, draining.
class Service : public HttpHandler {
 public:
  Service(LLM& llm, const ServerSettings& settings);

  std::optional<HttpResponse> admit(const RequestHead& head) override;
  void handle(HttpRequest request, std::shared_ptr<Exchange> exchange) override;
  HttpResponse malformed(int status, const std::string& message) override;
  bool closing() override { return draining_.load(); }

  /// From now on requests to generate are answered 503.
  void drain() { draining_.store(true); }
  void cancel_all() { tasks_.cancel_all(); }
  /// Drops what is left once HttpServer::join has returned.
  void clear();
  int64_t in_flight() const { return admission_.in_flight(); }

  LLM& llm() { return llm_; }
  Metrics& metrics() { return metrics_; }
  ReadContext read_context() const { return {llm_, settings_, model_names_}; }

 private:
  std::optional<ApiError> refuse(const RequestHead& head, const Route* route) const;
  std::optional<HttpResponse> preflight(const RequestHead& head) const;
  void generate(const Route& route, const HttpRequest& request, std::shared_ptr<Exchange> exchange);
  void add_tenant(const RequestHead& head, RequestOptions& options) const;

  LLM& llm_;
  ServerSettings settings_;
  Auth auth_;
  std::vector<std::string> model_names_;
  Metrics metrics_;
  Admission admission_;
  TaskList tasks_;
  std::atomic<bool> draining_{false};
};

}  // namespace foveal::server
