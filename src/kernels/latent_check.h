#pragma once

#include "kernels/latent_attention.h"

namespace foveal::kernels {

/// Refuses what latent attention cannot do or would read out of bounds with: kInvalidArgument, or
/// kUnsupported for a cache that is not built in. Page ids are the caller's.
void check_latent(const LatentAttentionParams& params);
void check_latent_store(const LatentStoreParams& params);

/// Also for methods that keep a lane beside such a cache.
void check_latent_cache(const KvLayerView& kv, std::string_view where);

}  // namespace foveal::kernels
