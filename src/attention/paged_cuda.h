#pragma once

#include "attention/method.h"
#include "foveal/kernels.h"
#include "foveal/kernels_mla.h"

// What methods share that call CUDA kernels; only in builds with CUDA.

namespace foveal::attention {

/// The foveal_dtype of activations or of a cache.
int32_t cuda_dtype(DType dtype);

/// A layer's latent cache.
foveal_latent_cache latent_cache(const KvLayerView& kv);

/// What every kernel that reads a cache is told of its keys. Strides are in elements.
template <class Params>
void fill_keys(Params& params, const KvLayerView& kv) {
  params.kv_dtype = cuda_dtype(kv.dtype);
  params.k = kv.k;
  params.k_token_stride = kv.head_dim;
  params.k_head_stride = params.k_token_stride * kv.page_size;
  params.k_page_stride = params.k_head_stride * kv.num_kv_heads;
  params.num_kv_heads = kv.num_kv_heads;
  params.head_dim = kv.head_dim;
  params.page_size = kv.page_size;
}

/// The values too, which lie as the keys do.
template <class Params>
void fill_keys_and_values(Params& params, const KvLayerView& kv) {
  fill_keys(params, kv);
  params.v = kv.v;
  params.v_token_stride = params.k_token_stride;
  params.v_head_stride = params.k_head_stride;
  params.v_page_stride = params.k_page_stride;
}

/// A call's parameters but for its workspace; with a skip_factor above 0 its counters and
/// the sequences' own factors too.
foveal_attention_params paged_params(const AttendArgs& args, float skip_factor);

/// `bytes` of the phase's workspace. Throws kInternal where a step that is being recorded needs
/// more than it did before.
std::byte* take_workspace(size_t bytes, const AttendArgs& args, const Stream& stream);
/// The same, as a call's parameters have it.
void give_workspace(foveal_attention_params& params, size_t bytes, const AttendArgs& args,
                    const Stream& stream);

}  // namespace foveal::attention
