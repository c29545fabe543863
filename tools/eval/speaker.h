#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "client/openai.h"
#include "foveal/llm.h"
#include "measure/records.h"
#include "tokenizer_source.h"

namespace foveal::eval {

/// How a model is spoken to where it has a chat template.
struct ChatWays {
  std::string system;        ///< a first message with the role of that name; empty: none
  std::string extra = "{}";  ///< further variables of the template, a JSON object
};

/// What bounds a request, for errors.
inline constexpr std::string_view kLongestIs =
    "the least of the model's context, --max-seq-len and what the cache holds (--kv-max-tokens), "
    "without what a method copies beside a prompt";

/// What answers: an engine here, or a server elsewhere; and the tokenizer that prompts for it are
/// made with. Any thread.
class Speaker {
 public:
  explicit Speaker(ChatWays ways) : ways_(std::move(ways)) {}
  virtual ~Speaker() = default;

  const ChatWays& ways() const { return ways_; }

  /// Ids of a plain prompt, begin token included where the model wants one.
  virtual std::vector<int32_t> prompt_ids(const std::string& text) const = 0;
  /// Ids of a JSON list of messages, rendered.
  virtual std::vector<int32_t> chat_ids(const std::string& messages_json) const = 0;
  virtual std::vector<int32_t> encode(const std::string& text) const = 0;
  virtual std::string decode(const std::vector<int32_t>& ids) const = 0;
  virtual bool has_chat_template() const = 0;
  /// The longest request, prompt and answer together: kLongestIs.
  virtual int64_t max_seq_len() const = 0;

  /// The greedy answer; what it cost is noted in `result`.
  virtual std::string answer(std::vector<int32_t> prompt, int64_t max_tokens,
                             measure::ArmResult& result) const = 0;

  /// What runs, for people and for summary.json: the way of attention, the device.
  virtual std::string attention() const = 0;
  virtual std::string device() const = 0;
  /// For tasks that need more than answers. Throws kUnsupported for a server.
  virtual LLM& engine() const = 0;

 private:
  ChatWays ways_;
};

/// `llm` must outlive it.
std::unique_ptr<Speaker> make_speaker(LLM& llm, const ChatWays& ways = {});

/// A server with OpenAI's completions that takes token ids as prompts; `source` has the tokenizer
/// of its model. Asks for the model's name and context.
std::unique_ptr<Speaker> make_speaker(const client::Server& server,
                                      const tools::TokenizerSource& source, const ChatWays& ways);

/// Adds what a request's attention left out and what memory it held.
void note(const RequestOutput& output, measure::ArmResult& result);

}  // namespace foveal::eval
