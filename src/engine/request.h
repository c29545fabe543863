#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "foveal/llm.h"
#include "foveal/request.h"
#include "tokenizer/constraint.h"

namespace foveal::engine {

/// What the engine is asked to do: ids in, ids out. Text is the caller's matter.
struct EngineRequest {
  std::vector<int32_t> prompt;
  SamplingParams sampling;
  std::vector<int32_t> end_tokens;          ///< that end the text unless sampling.ignore_eos
  std::optional<int64_t> logits_from;       ///< first prompt position whose logits are kept
  bool generation_logits = false;           ///< of every token of the completion
  std::vector<int32_t> forced_tokens;       ///< the completion, if not empty
  std::optional<std::string> trace_filter;  ///< regex
  std::optional<SparseOverride> sparse_attention;
  std::string cache_salt;
  std::shared_ptr<tokenizer::Constraint> constraint;  ///< of sampling.guided; its own alone
};

/// One generated token.
struct TokenEvent {
  int32_t token = 0;
  float logprob = 0;  ///< and rank: when logprobs were asked for
  int32_t rank = 0;
  std::vector<TokenLogprob> top;
};

/// How a request ended.
struct RequestSummary {
  FinishReason reason = FinishReason::kNone;
  std::optional<Error> error;  ///< with kError
  int64_t cached_tokens = 0;
  Timings timings;
  SparsityReport sparsity;
  RequestMemory memory;
  std::optional<TracedTensor> logits;
  std::optional<TracedTensor> generation_logits;
  std::vector<std::optional<TokenLogprob>> prompt_logprobs;
  std::vector<std::vector<TokenLogprob>> prompt_top_logprobs;
  std::vector<TracedTensor> trace;
};

}  // namespace foveal::engine
