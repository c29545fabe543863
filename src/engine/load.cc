#include "engine/load.h"

#include <algorithm>
#include <filesystem>
#include <iterator>

#include "base/check.h"
#include "device/device.h"
#include "model/dummy_checkpoint.h"
#include "sampler/sampler.h"

namespace foveal::engine {

std::unique_ptr<model::Checkpoint> open_checkpoint(const LlmConfig& config, Weights weights) {
  if (config.load_format == "dummy") {
    const bool host = parse_device(config.device).kind == DeviceKind::kCpu;
    const auto data = weights == Weights::kShapes ? model::DummyData::kNone
                      : host                      ? model::DummyData::kHost
                                                  : model::DummyData::kDevice;
    return model::open_dummy_checkpoint(config.model, config.num_layers, data, !host);
  }
  FOVEAL_CHECK(!config.num_layers, ErrorKind::kInvalidArgument, "num_layers",
               "got {} with load_format {}; need dummy weights for it", *config.num_layers,
               config.load_format);
  auto checkpoint = model::Checkpoint::open(config.model);
  if (parse_device(config.device).kind == DeviceKind::kCpu) checkpoint->keep_fp8();
  return checkpoint;
}

std::unique_ptr<tokenizer::Tokenizer> load_tokenizer(const std::string& path,
                                                     const model::Checkpoint& checkpoint) {
  if (!path.empty()) return tokenizer::Tokenizer::from_file(path);
  if (const tokenizer::GgufVocab* vocab = checkpoint.vocab()) {
    return tokenizer::Tokenizer::from_gguf(*vocab);
  }
  std::error_code ignored;
  const std::filesystem::path folder = checkpoint.folder();
  if (!std::filesystem::exists(folder / "tokenizer.json", ignored)) return nullptr;
  return tokenizer::Tokenizer::from_file(folder.string());
}

void check_device(const std::string& name) { parse_device(name); }

std::vector<int32_t> end_tokens(const model::ModelConfig& config,
                                const tokenizer::Tokenizer* tokenizer) {
  std::vector<int32_t> out = config.eos_tokens;
  if (tokenizer != nullptr) {
    out.insert(out.end(), tokenizer->end_tokens().begin(), tokenizer->end_tokens().end());
  }
  // A checkpoint may name end tokens past its vocabulary (tiny test models do): they never occur.
  std::erase_if(out, [&](int32_t token) { return token < 0 || token >= config.vocab_size; });
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

SamplingParams with_bad_tokens(SamplingParams sampling, const tokenizer::Tokenizer& tokenizer) {
  for (const std::string& text : sampling.bad) {
    for (const std::string& spelling : {text, " " + text}) {
      std::vector<int32_t> ids = tokenizer.encode(spelling, /*parse_special=*/false);
      if (!ids.empty()) sampling.bad_words.push_back(std::move(ids));
    }
  }
  return sampling;
}

std::shared_ptr<tokenizer::Constraint> make_constraint(const SamplingParams& sampling,
                                                       const std::vector<int32_t>& end_tokens,
                                                       int32_t vocab_size,
                                                       const tokenizer::Tokenizer& tokenizer) {
  // Compiling costs something: what the engine would refuse anyway is refused first.
  sampler::validate(sampling, vocab_size);
  std::vector<int32_t> ends = sampling.ignore_eos ? std::vector<int32_t>{} : end_tokens;
  std::copy_if(sampling.stop_token_ids.begin(), sampling.stop_token_ids.end(),
               std::back_inserter(ends),
               [&](int32_t token) { return tokenizer.is_special(token); });
  return std::make_shared<tokenizer::Constraint>(tokenizer.make_constraint(*sampling.guided, ends));
}

std::vector<int32_t> prompt_ids(const tokenizer::Tokenizer& tokenizer, const std::string& text) {
  std::vector<int32_t> ids = tokenizer.encode(text, /*parse_special=*/false);
  if (tokenizer.adds_bos() && tokenizer.bos()) ids.insert(ids.begin(), *tokenizer.bos());
  return ids;
}

}  // namespace foveal::engine
