#pragma once

#include "kernels/paged_attention.h"

namespace foveal::kernels {

enum class AttentionPhase : uint8_t { kPrefill, kDecode };

/// Refuses what paged attention cannot do or would read out of bounds with: kInvalidArgument, or
/// kUnsupported for a head size or cache type that is not built in. Page ids are the caller's.
void check_attention(const PagedAttentionParams& params, AttentionPhase phase);
void check_kv_store(const KvStoreParams& params);

}  // namespace foveal::kernels
