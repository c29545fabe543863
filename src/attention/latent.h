#pragma once

#include "attention/method.h"
#include "kernels/latent_attention.h"

namespace foveal::attention {

/// Multi-head latent attention over a latent cache, in either phase: over the rows' sets or,
/// without any, over every key up to a row's own. A set of all keys gives the same bits.
void attend_latent(const AttendArgs& args, const kernels::TokenSets* sets, Stream& stream);

}  // namespace foveal::attention
