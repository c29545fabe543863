#pragma once

#include <memory>
#include <string>

#include "foveal/config.h"
#include "foveal/request.h"
#include "model/checkpoint.h"
#include "tokenizer/tokenizer.h"

namespace foveal::engine {

enum class Weights : uint8_t {
  kNeeded,
  kShapes  ///< dummy ones are not made: to look at a model takes no time and no memory
};

/// The model that a config names, or random weights in its shape (load_format dummy). Throws
/// kInvalidArgument for num_layers without dummy weights.
std::unique_ptr<model::Checkpoint> open_checkpoint(const LlmConfig& config,
                                                   Weights weights = Weights::kNeeded);

/// The tokenizer of a model: `path` when not empty, else the one in the model's file or folder.
/// Null when there is none (token ids still work).
std::unique_ptr<tokenizer::Tokenizer> load_tokenizer(const std::string& path,
                                                     const model::Checkpoint& checkpoint);

/// Throws as starting an engine on this device would, by its name alone.
void check_device(const std::string& name);

/// Tokens that end a text: the config's and the tokenizer's (may be null).
std::vector<int32_t> end_tokens(const model::ModelConfig& config,
                                const tokenizer::Tokenizer* tokenizer);

/// `sampling` with its `bad` texts as token sequences among its `bad_words`.
SamplingParams with_bad_tokens(SamplingParams sampling, const tokenizer::Tokenizer& tokenizer);

/// What `sampling.guided` (present) lets a text be. Its end is marked by the model's end tokens
/// unless they are ignored, and by stop_token_ids that are special tokens. Throws kInvalidArgument.
std::shared_ptr<tokenizer::Constraint> make_constraint(const SamplingParams& sampling,
                                                       const std::vector<int32_t>& end_tokens,
                                                       int32_t vocab_size,
                                                       const tokenizer::Tokenizer& tokenizer);

/// Prompt ids of raw text: the tokenizer's, after the begin token where the model wants one.
std::vector<int32_t> prompt_ids(const tokenizer::Tokenizer& tokenizer, const std::string& text);

}  // namespace foveal::engine
