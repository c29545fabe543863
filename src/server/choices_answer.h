#pragma once

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <string>
#include <vector>

#include "server/answer.h"

namespace foveal::server {

/// What answers of chat and completions share: bodies that are a list of choices, and their end.
class ChoicesAnswer : public Answer {
 public:
  void end(const std::vector<RequestOutput>& outputs, std::string& out) override;
  std::string whole(const std::vector<RequestOutput>& outputs) override;

 protected:
  /// `object` and `event`: what whole bodies and those of a stream are called.
  ChoicesAnswer(const Call& call, const LLM& llm, const char* object, const char* event)
      : call_(call), llm_(llm), begun_(call.num_choices()), object_(object), event_(event) {}

  virtual boost::json::array choices(const std::vector<RequestOutput>& outputs) = 0;
  /// An event of one choice.
  void append_choice(std::string& out, boost::json::object choice) const;

  const Call& call_;
  const LLM& llm_;
  std::vector<bool> begun_;  ///< of each choice

 private:
  boost::json::object head(const char* object) const;

  const char* object_;
  const char* event_;
};

}  // namespace foveal::server
