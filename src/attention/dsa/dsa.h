#pragma once

#include "attention/room.h"

namespace foveal::attention {

/// DeepSeek Sparse Attention: a checkpoint's lightning indexer chooses the tokens to attend to. See
/// README.md.
std::unique_ptr<AttentionMethod> make_dsa(const SparseAttentionConfig* config,
                                          const MethodContext& context);
std::vector<MethodExample> dsa_examples();

}  // namespace foveal::attention
