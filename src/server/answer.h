#pragma once

#include <memory>
#include <string>
#include <vector>

#include "server/call.h"
#include "server/errors.h"

namespace foveal::server {

/// Writes what was generated in the form of one route. One thread at a time.
class Answer {
 public:
  virtual ~Answer() = default;
  /// Appends the events for what was added to a completion of a prompt; nothing for nothing new.
  virtual void delta(size_t prompt, const OutputDelta& delta, std::string& out) = 0;
  /// Appends the last events of a stream.
  virtual void end(const std::vector<RequestOutput>& outputs, std::string& out) = 0;
  /// The event that says why a stream ends early.
  virtual void failed(const ApiError& error, std::string& out);
  /// The body of an answer that is not streamed; `outputs`, one a prompt, are finished.
  virtual std::string whole(const std::vector<RequestOutput>& outputs) = 0;
};

/// The call and the model are borrowed.
using AnswerMaker = std::unique_ptr<Answer> (*)(const Call& call, const LLM& llm);
std::unique_ptr<Answer> completion_answer(const Call& call, const LLM& llm);
std::unique_ptr<Answer> chat_answer(const Call& call, const LLM& llm);
std::unique_ptr<Answer> response_answer(const Call& call, const LLM& llm);

}  // namespace foveal::server
