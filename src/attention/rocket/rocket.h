#pragma once

#include <memory>
#include <vector>

#include "attention/room.h"

namespace foveal::attention {

/// RocketKV: what a prompt keeps, and what of that a decode step attends to. See README.md.
std::unique_ptr<AttentionMethod> make_rocket(const SparseAttentionConfig* config,
                                             const MethodContext& context);
std::vector<MethodExample> rocket_examples();

}  // namespace foveal::attention
