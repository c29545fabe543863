#pragma once

#include <string>
#include <string_view>

#include "base/options.h"
#include "foveal/config.h"
#include "foveal/request.h"

namespace foveal {

/// The tables of the public structs. A table points into the struct it was made from and shows that
/// struct's values as defaults, so make it from a fresh one and keep the struct alive.
OptionGroup describe(LlmConfig& config);
OptionGroup describe(KvCacheConfig& config);
OptionGroup describe(SkipSoftmaxAttentionConfig& config);
OptionGroup describe(RocketSparseAttentionConfig& config);
OptionGroup describe(DeepSeekSparseAttentionConfig& config);
OptionGroup describe(SamplingParams& params);

/// The value of `algorithm`: `skip_softmax`, `rocket` or `dsa`.
std::string_view algorithm_name(const SparseAttentionConfig& config);

/// Throws kInvalidArgument for the first field out of range or rule broken between fields: for
/// structs filled by code. What came through bind_options has passed already.
void validate(const LlmConfig& config);

/// The `sparse_attention_config` field: null, one object or a list of them
/// (config_fields_sparse.cc).
OptionField describe_sparse_field(std::vector<SparseAttentionConfig>& configs);

}  // namespace foveal
