#include "eval/speaker.h"

#include <algorithm>
#include <boost/json/array.hpp>
#include <mutex>

#include "base/check.h"
#include "engine/load.h"
#include "tokenizer/tokenizer.h"

namespace foveal::eval {
namespace {

class EngineSpeaker final : public Speaker {
 public:
  EngineSpeaker(LLM& llm, const ChatWays& ways) : Speaker(ways), llm_(llm) {}

  std::vector<int32_t> prompt_ids(const std::string& text) const override {
    return llm_.prompt_token_ids(text);
  }
  std::vector<int32_t> chat_ids(const std::string& messages_json) const override {
    return llm_.chat_token_ids(messages_json, ways().extra);
  }
  std::vector<int32_t> encode(const std::string& text) const override { return llm_.encode(text); }
  std::string decode(const std::vector<int32_t>& ids) const override { return llm_.decode(ids); }
  bool has_chat_template() const override { return !llm_.chat_template().empty(); }
  int64_t max_seq_len() const override { return llm_.max_seq_len(); }

  std::string answer(std::vector<int32_t> prompt, int64_t max_tokens,
                     measure::ArmResult& result) const override {
    SamplingParams sampling;
    sampling.max_tokens = max_tokens;
    const RequestOutput output = llm_.generate({.token_ids = std::move(prompt)}, sampling);
    note(output, result);
    return output.outputs.at(0).text;
  }

  std::string attention() const override { return llm_.info().attention; }
  std::string device() const override {
    const ModelInfo info = llm_.info();
    return fmt::format("{} {}", info.device, info.isa);
  }
  LLM& engine() const override { return llm_; }

 private:
  LLM& llm_;
};

class ServerSpeaker final : public Speaker {
 public:
  ServerSpeaker(client::Server server, const tools::TokenizerSource& source, const ChatWays& ways)
      : Speaker(ways), server_(std::move(server)), tokenizer_(tools::load(source)) {
    auto client = std::make_unique<client::OpenAi>(server_);
    server_.model = client->model();
    const std::optional<int64_t> context = client->context();
    FOVEAL_CHECK(context.has_value(), ErrorKind::kUnsupported, "against",
                 "got no max_model_len in /models of {}; need a server that tells its context",
                 server_.url);
    context_ = *context;
    idle_.push_back(std::move(client));
  }

  std::vector<int32_t> prompt_ids(const std::string& text) const override {
    return engine::prompt_ids(*tokenizer_, text);
  }
  std::vector<int32_t> chat_ids(const std::string& messages_json) const override {
    return tokenizer::encode_chat(*tokenizer_, messages_json, {.extra_json = ways().extra});
  }
  std::vector<int32_t> encode(const std::string& text) const override {
    return tokenizer_->encode(text, /*parse_special=*/false);
  }
  std::string decode(const std::vector<int32_t>& ids) const override {
    return tokenizer_->decode(ids, /*skip_special=*/true);
  }
  bool has_chat_template() const override { return !tokenizer_->chat_template().empty(); }
  int64_t max_seq_len() const override { return context_; }

  // What attention left out and what memory was held is the server's to know.
  std::string answer(std::vector<int32_t> prompt, int64_t max_tokens,
                     measure::ArmResult& result) const override {
    result.sparsity.method = "server";
    std::unique_ptr<client::OpenAi> client = take();
    const std::string text =
        client
            ->stream("/completions", {{"prompt", boost::json::array(prompt.begin(), prompt.end())},
                                      {"max_tokens", max_tokens},
                                      {"temperature", 0}})
            .text;
    const std::lock_guard lock(mutex_);
    idle_.push_back(std::move(client));
    return text;
  }

  std::string attention() const override {
    return fmt::format("{} at {}", server_.model, server_.url);
  }
  std::string device() const override { return "server"; }
  LLM& engine() const override {
    fail(
        ErrorKind::kUnsupported, "against",
        "got a task that reads logits; need one of answers (niah, multi_turn, ruler, longbench_v1, "
        "longbench_v2)");
  }

 private:
  // A connection for each thread that asks at once.
  std::unique_ptr<client::OpenAi> take() const {
    const std::lock_guard lock(mutex_);
    if (idle_.empty()) return std::make_unique<client::OpenAi>(server_);
    std::unique_ptr<client::OpenAi> client = std::move(idle_.back());
    idle_.pop_back();
    return client;
  }

  client::Server server_;
  std::unique_ptr<tokenizer::Tokenizer> tokenizer_;
  int64_t context_ = 0;
  mutable std::mutex mutex_;  ///< guards idle_
  mutable std::vector<std::unique_ptr<client::OpenAi>> idle_;
};

}  // namespace

std::unique_ptr<Speaker> make_speaker(LLM& llm, const ChatWays& ways) {
  return std::make_unique<EngineSpeaker>(llm, ways);
}

std::unique_ptr<Speaker> make_speaker(const client::Server& server,
                                      const tools::TokenizerSource& source, const ChatWays& ways) {
  return std::make_unique<ServerSpeaker>(server, source, ways);
}

void note(const RequestOutput& output, measure::ArmResult& result) {
  result.sparsity.method = output.sparsity.method;
  result.sparsity.add(output.sparsity);
  result.kv_bytes = output.memory.kv_bytes;
  result.kv_peak_bytes = std::max(result.kv_peak_bytes, output.memory.kv_peak_bytes);
}

}  // namespace foveal::eval
