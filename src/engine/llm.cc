#include "foveal/llm.h"

#include <chrono>
#include <filesystem>

#include "base/check.h"
#include "base/config_fields.h"
#include "engine/engine.h"
#include "engine/generation.h"
#include "engine/load.h"

namespace foveal {
namespace {

/// Of a completion that is given, only its own length ends it.
SamplingParams for_forced(SamplingParams sampling, const RequestOptions& options) {
  if (options.forced_tokens.empty()) return sampling;
  FOVEAL_CHECK(!sampling.guided, ErrorKind::kInvalidArgument, "forced_tokens",
               "got guided decoding as well; need one of them");
  sampling.max_tokens = static_cast<int64_t>(options.forced_tokens.size());
  sampling.ignore_eos = true;
  sampling.stop.clear();
  sampling.stop_token_ids.clear();
  return sampling;
}

}  // namespace

struct LLM::Impl {
  std::unique_ptr<model::Checkpoint> checkpoint;
  std::unique_ptr<tokenizer::Tokenizer> tokenizer;
  std::unique_ptr<engine::Engine> engine;  ///< after what it borrows
  std::string name;
  double load_ms = 0;

  const tokenizer::Tokenizer& need_tokenizer() const {
    FOVEAL_CHECK(tokenizer != nullptr, ErrorKind::kUnsupported, "tokenizer",
                 "got a model without one; need token ids, or a tokenizer.json");
    return *tokenizer;
  }
};

LLM::LLM(const LlmConfig& config, const Progress& progress) : impl_(std::make_unique<Impl>()) {
  const auto start = std::chrono::steady_clock::now();
  const auto report = [&](const char* stage, double share) {
    if (progress) progress(stage, share);
  };
  FOVEAL_CHECK(!config.model.empty(), ErrorKind::kInvalidArgument, "model",
               "got no model; need a .gguf file or a folder with config.json");
  validate(config);
  report("opening model", 0);
  impl_->checkpoint = engine::open_checkpoint(config);
  impl_->checkpoint->prefetch();
  report("loading tokenizer", 0.3);
  impl_->tokenizer = engine::load_tokenizer(config.tokenizer, *impl_->checkpoint);
  report("preparing engine", 0.7);
  impl_->engine = std::make_unique<engine::Engine>(config, *impl_->checkpoint);
  std::filesystem::path path = std::filesystem::path(config.model).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  impl_->name = path.extension() == ".gguf" ? path.stem().string() : path.filename().string();
  impl_->load_ms =
      std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  report("ready", 1);
}

LLM::~LLM() = default;
LLM::LLM(LLM&&) noexcept = default;

Generation LLM::submit(const Prompt& prompt, const SamplingParams& wanted,
                       const RequestOptions& options) {
  const SamplingParams sampling = for_forced(wanted, options);
  engine::EngineRequest request{.sampling = sampling,
                                .generation_logits = options.generation_logits,
                                .forced_tokens = options.forced_tokens,
                                .trace_filter = options.trace_filter,
                                .sparse_attention = options.sparse_attention,
                                .cache_salt = options.cache_salt};
  request.prompt = prompt.token_ids ? *prompt.token_ids : prompt_token_ids(prompt.text);
  if (!sampling.stop.empty()) impl_->need_tokenizer();
  if (!sampling.bad.empty()) {
    request.sampling = engine::with_bad_tokens(sampling, impl_->need_tokenizer());
  }
  request.end_tokens = engine::end_tokens(impl_->checkpoint->config(), impl_->tokenizer.get());
  if (sampling.guided) {
    request.constraint =
        engine::make_constraint(sampling, request.end_tokens,
                                impl_->checkpoint->config().vocab_size, impl_->need_tokenizer());
  }
  if (options.logits) {
    const auto len = static_cast<int64_t>(request.prompt.size());
    FOVEAL_CHECK(options.logits_last.value_or(1) >= 1, ErrorKind::kInvalidArgument, "logits-last",
                 "got {}; need at least 1", *options.logits_last);
    request.logits_from = std::max<int64_t>(0, len - options.logits_last.value_or(len));
  }
  std::vector<int32_t> ids = request.prompt;
  auto streams = impl_->engine->submit(std::move(request));
  return Generation(std::make_shared<GenerationState>(std::move(ids), sampling, std::move(streams),
                                                      impl_->tokenizer.get()));
}

RequestOutput LLM::generate(const Prompt& prompt, const SamplingParams& sampling,
                            const RequestOptions& options) {
  return submit(prompt, sampling, options).result();
}

std::vector<int32_t> LLM::chat_token_ids(const std::string& messages_json,
                                         const std::string& extra_json,
                                         bool add_generation_prompt) const {
  return tokenizer::encode_chat(
      impl_->need_tokenizer(), messages_json,
      {.add_generation_prompt = add_generation_prompt, .extra_json = extra_json});
}

bool LLM::has_tokenizer() const { return impl_->tokenizer != nullptr; }

std::string LLM::chat_template() const {
  return impl_->tokenizer ? impl_->tokenizer->chat_template() : std::string();
}

std::vector<int32_t> LLM::encode(const std::string& text, bool parse_special) const {
  return impl_->need_tokenizer().encode(text, parse_special);
}

std::vector<int32_t> LLM::prompt_token_ids(const std::string& text) const {
  return engine::prompt_ids(impl_->need_tokenizer(), text);
}

std::string LLM::decode(const std::vector<int32_t>& ids, bool skip_special) const {
  return impl_->need_tokenizer().decode(ids, skip_special);
}

std::string LLM::token_bytes(int32_t id) const {
  const tokenizer::Tokenizer& tokenizer = impl_->need_tokenizer();
  return id >= 0 && id < tokenizer.vocab_size() ? tokenizer.token_bytes(id) : std::string();
}

ModelInfo LLM::info() const {
  const engine::EngineInfo& engine = impl_->engine->info();
  const model::ModelConfig& model = impl_->checkpoint->config();
  return {.name = impl_->name,
          .architecture = model.architecture,
          .device = engine.device,
          .isa = engine.isa,
          .method = engine.method,
          .attention = engine.attention,
          .kv_dtype = engine.kv_dtype,
          .tiles = engine.tiles,
          .threads = engine.threads,
          .num_layers = model.num_layers,
          .num_heads = model.num_heads,
          .num_kv_heads = model.num_kv_heads,
          .head_dim = model.head_dim,
          .vocab_size = model.vocab_size,
          .max_seq_len = engine.max_seq_len,
          .kv_tokens = engine.kv_tokens,
          .kv_bytes = engine.kv_bytes,
          .kv_bytes_per_token = engine.kv_bytes_per_token,
          .weights_bytes = engine.weights_bytes,
          .workspace_bytes = engine.workspace_bytes,
          .load_ms = impl_->load_ms};
}

EngineStats LLM::stats() const { return impl_->engine->stats(); }

void LLM::on_prefill(std::function<void(int64_t, int64_t)> callback) {
  impl_->engine->on_prefill(std::move(callback));
}

std::string LLM::method() const { return impl_->engine->info().method; }
int64_t LLM::weights_bytes() const { return impl_->engine->info().weights_bytes; }
double LLM::load_ms() const { return impl_->load_ms; }
int64_t LLM::max_seq_len() const { return impl_->engine->info().max_seq_len; }

}  // namespace foveal
