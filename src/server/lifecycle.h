#pragma once

#include <chrono>

#include "server/http.h"
#include "server/service.h"

namespace foveal::server {

/// Runs a bound server until it is asked to end. The first SIGTERM or SIGINT drains: requests to
/// generate are refused, running ones have `shutdown_timeout` to finish and are then cancelled. The
/// second ends at once. True when every request was finished.
bool run_server(HttpServer& http, Service& service, std::chrono::milliseconds shutdown_timeout);

/// What happened between two samples, as one line for the log.
std::string activity_line(const EngineStats& before, const EngineStats& after, double seconds);

}  // namespace foveal::server
