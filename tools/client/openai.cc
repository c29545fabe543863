#include "client/openai.h"

#include <algorithm>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>
#include <chrono>
#include <cstdlib>

#include "base/check.h"
#include "measure/json.h"

namespace foveal::client {
namespace json = boost::json;
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kMostErrorText = 64 << 10;
constexpr size_t kMostPieces = kMostBody / sizeof(double);  // each has a time
constexpr const char* kKeyVariable = "OPENAI_API_KEY";

// A key among the arguments is seen by everyone on the machine; the environment is not.
std::string key_of(const Server& server) {
  if (!server.api_key.empty()) return server.api_key;
  const char* from = std::getenv(kKeyVariable);
  return from == nullptr ? "" : from;
}

// Answers may take long; a connection that takes long will not come.
HttpLimits limits_of(const Server& server) {
  const std::chrono::duration<double> wait(server.timeout_s);
  HttpLimits limits{.silence = std::chrono::duration_cast<std::chrono::milliseconds>(wait)};
  limits.connect = std::min(limits.connect, limits.silence);
  return limits;
}

std::string error_words(const std::string& body) {
  json::error_code code;
  const json::value parsed = json::parse(body, code);
  if (!code && parsed.is_object()) {
    const json::object* from = &parsed.get_object();
    if (const json::value* error = from->if_contains("error")) {
      if (error->is_object()) from = &error->get_object();
    }
    const json::value* message = from->if_contains("message");
    if (message != nullptr && message->is_string()) return std::string(message->get_string());
  }
  return body.substr(0, 200);
}

const json::object* first_choice(const json::object& event) {
  const json::value* choices = event.if_contains("choices");
  if (choices == nullptr || !choices->is_array() || choices->get_array().empty()) return nullptr;
  return choices->get_array().front().if_object();
}

std::string_view text_at(const json::object& from, std::string_view key) {
  const json::value* found = from.if_contains(key);
  if (found == nullptr || !found->is_string()) return {};
  return {found->get_string().data(), found->get_string().size()};
}

int64_t count_at(const json::object& from, std::string_view key) {
  const json::value* found = from.if_contains(key);
  json::error_code code;
  const auto count = found == nullptr ? 0 : found->to_number<int64_t>(code);
  return code ? 0 : count;
}

bool has_value(const json::object& from, std::string_view key) {
  const json::value* found = from.if_contains(key);
  if (found == nullptr || found->is_null()) return false;
  return !found->is_array() || !found->get_array().empty();
}

void extend(std::string& to, std::string_view more) {
  FOVEAL_CHECK(to.size() + more.size() <= kMostEvent, ErrorKind::kIo, "stream",
               "got an event of more than {0} MiB; need its end within {0} MiB", kMostEvent >> 20);
  to += more;
}

// Bytes that bring nothing, such as the comments that keep a stream alive, do not end a wait.
void check_wait(Clock::time_point since, double timeout_s, std::string_view where) {
  FOVEAL_CHECK(std::chrono::duration<double>(Clock::now() - since).count() <= timeout_s,
               ErrorKind::kIo, where, "got no piece of the answer for {:g} s; need one within them",
               timeout_s);
}

/// One answer while it arrives.
class Reading {
 public:
  /// When the last piece came; before the first, when the wait began.
  Clock::time_point last_heard() const { return first_ ? last_ : start_; }

  void event(std::string_view data) {
    if (data == "[DONE]") {
      done_ = true;
      return;
    }
    const json::object event = measure::parse_object(data, "stream");
    if (const json::value* error = event.if_contains("error")) {
      fail(ErrorKind::kIo, "stream", "got '{}'; need the rest of the answer",
           error_words(json::serialize(*error)));
    }
    if (const json::object* choice = first_choice(event)) read_choice(*choice);
    const json::value* usage = event.if_contains("usage");
    if (usage == nullptr || !usage->is_object()) return;
    const json::object& counts = usage->get_object();
    answer_.prompt_tokens = count_at(counts, "prompt_tokens");
    answer_.output_tokens = count_at(counts, "completion_tokens");
    const json::value* details = counts.if_contains("prompt_tokens_details");
    if (details != nullptr && details->is_object()) {
      answer_.cached_tokens = count_at(details->get_object(), "cached_tokens");
    }
  }

  Streamed result() {
    FOVEAL_CHECK(done_, ErrorKind::kIo, "stream", "got an answer without its end; need [DONE]");
    FOVEAL_CHECK(answer_.output_tokens > 0, ErrorKind::kIo, "stream",
                 "got no token count; need usage, as stream_options ask for");
    FOVEAL_CHECK(first_.has_value(), ErrorKind::kIo, "stream",
                 "got {} tokens and no piece of text; need some", answer_.output_tokens);
    return std::move(answer_);
  }

 private:
  // A piece without anything in it, such as the one that names the role, is not a token's.
  void read_choice(const json::object& choice) {
    const json::value* delta = choice.if_contains("delta");
    const bool chat = delta != nullptr && delta->is_object();
    const json::object& from = chat ? delta->get_object() : choice;
    const std::string_view text = text_at(from, chat ? "content" : "text");
    const bool carries = !text.empty() || has_value(choice, "logprobs") ||
                         has_value(from, "tool_calls") || !text_at(from, "reasoning").empty() ||
                         !text_at(from, "reasoning_content").empty();
    FOVEAL_CHECK(
        answer_.text.size() + text.size() <= kMostBody && answer_.gaps_ms.size() < kMostPieces,
        ErrorKind::kIo, "stream",
        "got a text without its end; need at most {} MiB in at most {} pieces", kMostBody >> 20,
        kMostPieces);
    answer_.text += text;
    const std::string_view reason = text_at(choice, "finish_reason");
    if (!reason.empty()) answer_.finish_reason = reason;
    if (carries) tick();
  }

  void tick() {
    const Clock::time_point now = Clock::now();
    const auto since = [&](Clock::time_point then) {
      return std::chrono::duration<double, std::milli>(now - then).count();
    };
    if (first_) {
      answer_.gaps_ms.push_back(since(last_));
    } else {
      first_ = now;
      answer_.ttft_ms = since(start_);
    }
    last_ = now;
    answer_.latency_ms = since(start_);
  }

  Clock::time_point start_ = Clock::now();
  std::optional<Clock::time_point> first_;
  Clock::time_point last_;
  Streamed answer_;
  bool done_ = false;
};

}  // namespace

std::vector<OptionField> describe(Server& server) {
  return {{.name = "api_key",
           .target = &server.api_key,
           .help = "sent as a bearer token; better in the environment, as OPENAI_API_KEY"},
          {.name = "timeout",
           .target = &server.timeout_s,
           .help = "seconds without a piece of the answer after which a request has failed; to "
                   "connect at most 30",
           .range = {.min = 1, .max = 86400}},
          {.name = "extra_body",
           .target = &server.extra,
           .help = "a JSON object of further fields for every request"}};
}

void EventReader::line(std::string_view text,
                       const std::function<void(std::string_view)>& on_data) {
  if (text.ends_with('\r')) text.remove_suffix(1);
  if (text.empty()) {
    if (!data_.empty()) on_data(data_);
    data_.clear();
    return;
  }
  if (!text.starts_with("data:")) return;
  text.remove_prefix(5);
  if (text.starts_with(' ')) text.remove_prefix(1);
  if (!data_.empty()) extend(data_, "\n");
  extend(data_, text);
}

void EventReader::feed(std::string_view bytes,
                       const std::function<void(std::string_view)>& on_data) {
  while (!bytes.empty()) {
    const size_t end = bytes.find('\n');
    if (end == std::string_view::npos) {
      extend(rest_, bytes);
      return;
    }
    extend(rest_, bytes.substr(0, end));
    bytes.remove_prefix(end + 1);
    const std::string whole = std::exchange(rest_, {});
    line(whole, on_data);
  }
}

OpenAi::OpenAi(const Server& server)
    : http_(parse_url(server.url, "url"), key_of(server), limits_of(server)),
      timeout_s_(server.timeout_s),
      extra_(measure::parse_object(server.extra, "extra-body")),
      model_(server.model) {}

const json::object& OpenAi::served() {
  if (served_) return *served_;
  std::string body;
  const Clock::time_point start = Clock::now();
  const int status = http_.send("/models", "", [&](std::string_view data) {
    check_wait(start, timeout_s_, "models");
    FOVEAL_CHECK(body.size() + data.size() <= kMostBody, ErrorKind::kIo, "models",
                 "got a list without its end; need at most {} MiB", kMostBody >> 20);
    body += data;
  });
  FOVEAL_CHECK(status == 200, ErrorKind::kIo, "http", "got status {} ({}); need a list of models",
               status, error_words(body));
  const json::object list = measure::parse_object(body, "models");
  const json::value* data = list.if_contains("data");
  const json::array* models = data == nullptr ? nullptr : data->if_array();
  FOVEAL_CHECK(models != nullptr && !models->empty(), ErrorKind::kIo, "models",
               "got a list without any; need a model");
  for (const json::value& model : *models) {
    const std::string_view id = model.is_object() ? text_at(model.get_object(), "id") : "";
    if (id.empty() || (!model_.empty() && id != model_)) continue;
    served_ = model.get_object();
    break;
  }
  FOVEAL_CHECK(served_.has_value(), ErrorKind::kNotFound, "models",
               "got a server without model '{}'; need one that it serves", model_);
  return *served_;
}

const std::string& OpenAi::model() {
  if (model_.empty()) model_ = text_at(served(), "id");
  return model_;
}

std::optional<int64_t> OpenAi::context() {
  const int64_t tokens = count_at(served(), "max_model_len");
  return tokens > 0 ? std::optional(tokens) : std::nullopt;
}

Streamed OpenAi::stream(std::string_view path, json::object fields) {
  for (const auto& [name, value] : extra_) fields[name] = value;
  fields["model"] = model();
  fields["stream"] = true;
  fields["stream_options"] = {{"include_usage", true}};
  const std::string body = json::serialize(fields);
  EventReader events;
  Reading reading;
  std::string whole;  // of an answer that is no stream: an error
  const int status = http_.send(path, body, [&](std::string_view data) {
    if (whole.size() < kMostErrorText) whole += data;
    events.feed(data, [&](std::string_view event) { reading.event(event); });
    check_wait(reading.last_heard(), timeout_s_, "stream");
  });
  FOVEAL_CHECK(status == 200, ErrorKind::kIo, "http", "got status {} ({}); need 200", status,
               error_words(whole));
  return reading.result();
}

}  // namespace foveal::client
