#pragma once

#include "server/service.h"

namespace foveal::server {

// Routes that answer at once. metrics_text.cc, openapi.cc, tokenize_routes.cc; the rest routes.cc.
HttpResponse answer_metrics(Service& service, const HttpRequest& request);
HttpResponse answer_openapi(Service& service, const HttpRequest& request);
HttpResponse answer_tokenize(Service& service, const HttpRequest& request);
HttpResponse answer_detokenize(Service& service, const HttpRequest& request);

}  // namespace foveal::server
