#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <optional>
#include <string>

#include "base/check.h"
#include "base/config_fields.h"
#include "base/log.h"
#include "cli_options.h"
#include "commands.h"
#include "foveal/llm.h"
#include "input.h"
#include "output.h"
#include "progress_bars.h"
#include "report.h"

namespace foveal::tools {
namespace {

struct ChatOptions {
  std::string system;
};

OptionGroup describe(ChatOptions& options) {
  return {
      .fields = {
          {.name = "system", .target = &options.system, .help = "a system message to begin with"}}};
}

/// The messages so far as a JSON list; earlier turns are found in the prefix cache.
class Conversation {
 public:
  explicit Conversation(std::string system) : system_(std::move(system)) { reset(); }
  void reset() {
    messages_.clear();
    if (!system_.empty()) add("system", system_);
  }
  void add(const char* role, const std::string& content) {
    if (!messages_.empty()) messages_ += ", ";
    messages_ +=
        std::string("{\"role\": \"") + role + "\", \"content\": " + json_string(content) + "}";
  }
  std::string json() const { return "[" + messages_ + "]"; }
  std::string save() const { return messages_; }
  void restore(std::string messages) { messages_ = std::move(messages); }

 private:
  std::string system_;
  std::string messages_;
};

/// False when the turn failed, which has been said then.
bool answer(LLM& llm, Conversation& conversation, const std::string& line,
            const SamplingParams& sampling) {
  const std::string before = conversation.save();
  try {
    conversation.add("user", line);
    show_prefill(llm);
    Generation generation =
        llm.submit({.token_ids = llm.chat_token_ids(conversation.json())}, sampling);
    while (const std::optional<std::string> piece = generation.next()) {
      write_out(*piece);
    }
    const RequestOutput output = generation.result();
    write_out("\n");
    conversation.add("assistant", output.outputs.at(0).text);
    log_info("{}; {} prompt tokens from cache", run_summary(output), output.cached_tokens);
    return true;
  } catch (const Error& error) {
    // One failed turn (a conversation past the context, say) ends neither the chat nor its history.
    // Nobody is left to talk to when the output is gone.
    if (error.kind() == ErrorKind::kIo) throw;
    conversation.restore(before);
    log_error("{}", error.what());
    return false;
  }
}

}  // namespace

int chat_main(std::span<const std::string> args) {
  ChatOptions own;
  LlmConfig config;
  SamplingParams sampling;
  sampling.max_tokens = 512;
  Command command("chat",
                  "Talk to a model. Lines are messages; /reset forgets them, /exit or end of input "
                  "leaves.");
  command.options("Chat", describe(own));
  command.llm_config(config);
  command.options("Sampling", describe_single(sampling));
  if (!command.parse(args)) return 0;
  FOVEAL_CHECK(!sampling.logprobs && !sampling.prompt_logprobs, ErrorKind::kInvalidArgument,
               "logprobs", "got it in a chat, which shows none; need foveal run --json");

  LLM llm(config, loading_bar());
  // A model without tokenizer or chat template is refused now rather than at every line.
  llm.chat_token_ids(R"([{"role": "user", "content": "hello"}])");
  log_info("{}: {}, context {}; /reset forgets, /exit leaves", config.model, llm.method(),
           llm.max_seq_len());
  set_interrupt_text("[chat] got an interrupt; need /exit, or the end of input, to leave");
  Conversation conversation(own.system);
  std::string line;
  bool good = true;
  while (std::fputs("> ", stderr), std::getline(std::cin, line)) {
    if (line == "/exit") break;
    if (line == "/reset") {
      conversation.reset();
    } else if (!line.empty()) {
      good = answer(llm, conversation, line, sampling) && good;
    }
  }
  FOVEAL_CHECK(std::ferror(stdin) == 0, ErrorKind::kIo, "stdin",
               "got no lines ({}); need readable input", std::strerror(errno));
  // Somebody at a terminal has seen what failed; a script must be told.
  return good || isatty(STDIN_FILENO) == 1 ? 0 : 1;
}

}  // namespace foveal::tools
