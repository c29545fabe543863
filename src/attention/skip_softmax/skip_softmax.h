#pragma once

#include "attention/room.h"

namespace foveal::attention {

/// Skip Softmax (BLASST, arXiv 2512.12087): exact loops that leave out key tiles whose share of the
/// softmax cannot matter. Null when `config` is null and the checkpoint asks for nothing. See
/// README.md and resolve.h for the settings and their errors.
std::unique_ptr<AttentionMethod> make_skip_softmax(const SparseAttentionConfig* config,
                                                   const MethodContext& context);

std::vector<MethodExample> skip_softmax_examples();

}  // namespace foveal::attention
