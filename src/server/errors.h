#pragma once

#include <exception>
#include <string>
#include <string_view>

#include "server/http.h"

namespace foveal::server {

/// OpenAI's form: {"error": {"message", "type", "param", "code"}}.
struct ApiError {
  int status = 500;
  std::string message;
  std::string type;   ///< empty: by status
  std::string param;  ///< empty: null
  std::string code;   ///< empty: null
};

/// What a client is told about an exception. What is not its fault becomes an id and nothing else;
/// the log line with that id has the rest. `context`: of the log line.
ApiError describe_error(const std::exception& error, std::string_view context);

std::string error_json(const ApiError& error);
HttpResponse error_response(const ApiError& error);

/// Fresh and hard to guess: `prefix` and 24 hexadecimal digits.
std::string new_id(std::string_view prefix);

}  // namespace foveal::server
