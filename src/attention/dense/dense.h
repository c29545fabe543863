#pragma once

#include "attention/room.h"

namespace foveal::attention {

/// Exact attention over every key. Needs no configuration.
std::unique_ptr<AttentionMethod> make_dense(const SparseAttentionConfig* config,
                                            const MethodContext& context);

std::vector<MethodExample> dense_examples();

}  // namespace foveal::attention
