#pragma once

#include <string>
#include <string_view>

#include "base/options.h"
#include "foveal/config.h"
#include "foveal/llm.h"
#include "foveal/request.h"

namespace foveal {

/// The tables of the public structs. A table points into the struct it was made from and shows that
/// struct's values as defaults, so make it from a fresh one and keep the struct alive.
OptionGroup describe(LlmConfig& config);
OptionGroup describe(KvCacheConfig& config);
OptionGroup describe(CudaGraphConfig& config);
OptionGroup describe(SkipSoftmaxAttentionConfig& config);
OptionGroup describe(RocketSparseAttentionConfig& config);
OptionGroup describe(DeepSeekSparseAttentionConfig& config);
OptionGroup describe(SamplingParams& params);
OptionGroup describe(SparseOverride& value);

/// The value of `algorithm`: `skip_softmax`, `rocket` or `dsa`.
std::string_view algorithm_name(const SparseAttentionConfig& config);

/// Throws kInvalidArgument for the first field out of range or rule broken between fields: for
/// structs filled by code. What came through bind_options has passed already.
void validate(const LlmConfig& config);

/// Names of TensorRT-LLM that Foveal knows only to answer (config_fields_trtllm.cc): the value that
/// is what Foveal does anyway is accepted, every other one refused with the reason.
std::vector<OptionField> trtllm_engine_fields();
std::vector<OptionField> trtllm_kv_fields();
std::vector<OptionField> trtllm_sampling_fields();
/// TensorRT-LLM's `scheduler_config`; holds nothing that can be chosen.
OptionGroup describe_scheduler();

/// The `sparse_attention_config` field: null, one object or a list of them
/// (config_fields_sparse.cc).
OptionField describe_sparse_field(std::vector<SparseAttentionConfig>& configs);

/// guided_json, guided_regex, guided_choice and guided_grammar; more than one is refused.
std::vector<OptionField> describe_guided_fields(std::optional<GuidedDecoding>& guided);

}  // namespace foveal
