#pragma once

#include <boost/json/object.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/options.h"
#include "client/http_client.h"

namespace foveal::client {

/// Where a server is and how it is spoken to.
struct Server {
  std::string url;
  std::string model;         ///< empty: the first that it serves
  std::string api_key;       ///< empty: that of the environment, if any
  double timeout_s = 600;    ///< without a piece of the answer
  std::string extra = "{}";  ///< further fields of every request
};

/// Flags for all but the address.
std::vector<OptionField> describe(Server& server);

/// What a server may send before its end is no longer waited for: bytes of an event, and of a list
/// of models or a whole answer's text.
inline constexpr size_t kMostEvent = size_t{16} << 20;
inline constexpr size_t kMostBody = size_t{64} << 20;

/// Cuts what arrives into the data of server-sent events.
class EventReader {
 public:
  /// Calls `on_data` with each event's data that `bytes` complete. Throws kIo where a line or an
  /// event has more than kMostEvent bytes.
  void feed(std::string_view bytes, const std::function<void(std::string_view)>& on_data);

 private:
  void line(std::string_view text, const std::function<void(std::string_view)>& on_data);

  std::string rest_;  ///< of a line without its end
  std::string data_;  ///< lines of the event so far
};

/// A streamed answer, times by this process's clock.
struct Streamed {
  std::string text;
  std::string finish_reason;
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;
  int64_t output_tokens = 0;
  double ttft_ms = 0;           ///< from sending to the first piece with a token
  double latency_ms = 0;        ///< to the last one
  std::vector<double> gaps_ms;  ///< between neighbouring pieces
};

/// A client of OpenAI's API on a connection of its own. One thread at a time.
class OpenAi {
 public:
  explicit OpenAi(const Server& server);

  /// The model that requests name; asks the server where none was given.
  const std::string& model();
  /// Tokens of its context, where the server says (max_model_len).
  std::optional<int64_t> context();

  /// Streams one request: `fields` beside model, stream and stream_options, at /completions or
  /// /chat/completions. Throws kIo for a transport that broke, a status that is not 200 (with the
  /// server's own words) and an answer cut short.
  Streamed stream(std::string_view path, boost::json::object fields);

 private:
  const boost::json::object& served();

  HttpClient http_;
  double timeout_s_;
  boost::json::object extra_;
  std::string model_;
  std::optional<boost::json::object> served_;
};

}  // namespace foveal::client
