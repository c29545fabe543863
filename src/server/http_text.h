#pragma once

#include <string>
#include <string_view>

#include "server/http.h"

namespace foveal::server {

struct ResponseForm {
  int minor = 1;  ///< of the request's HTTP version
  bool keep_alive = true;
  const std::vector<std::pair<std::string, std::string>>* headers = nullptr;  ///< of every answer
};

/// Status line and fields of a whole response, blank line included.
std::string response_head(const HttpResponse& response, const ResponseForm& form);
/// The same for a stream of events, in chunks where the client knows them.
std::string stream_head(const ResponseForm& form);
/// `bytes` as one chunk, or as they are.
void append_chunk(std::string& out, std::string_view bytes, bool chunked);

}  // namespace foveal::server
