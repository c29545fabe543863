#include "server/choices_answer.h"

#include <boost/json/serialize.hpp>

#include "foveal/version.h"
#include "server/answer_text.h"
#include "server/usage.h"

namespace foveal::server {
namespace json = boost::json;

json::object ChoicesAnswer::head(const char* object) const {
  return {{"id", call_.id},
          {"object", object},
          {"created", call_.created},
          {"model", call_.model},
          {"system_fingerprint", std::string("foveal-") + kVersion}};
}

void ChoicesAnswer::append_choice(std::string& out, json::object choice) const {
  json::object body = head(event_);
  body["choices"] = json::array{std::move(choice)};
  if (call_.include_usage) body["usage"] = nullptr;
  append_event(out, body);
}

void ChoicesAnswer::end(const std::vector<RequestOutput>& outputs, std::string& out) {
  if (call_.include_usage) {
    json::object body = head(event_);
    body["choices"] = json::array();
    body["usage"] = usage_json(usage_of(outputs));
    append_event(out, body);
  }
  out += kDone;
}

std::string ChoicesAnswer::whole(const std::vector<RequestOutput>& outputs) {
  json::object body = head(object_);
  body["choices"] = choices(outputs);
  body["usage"] = usage_json(usage_of(outputs));
  return json::serialize(body);
}

}  // namespace foveal::server
