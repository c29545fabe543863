#pragma once

#include <cstdint>

// Latent attention over all keys in the form of heads: ordinary prefill over keys and values that
// were made of the latents before. Everything is bf16. `stream` is a cudaStream_t of the current
// device.

namespace foveal::kernels::cuda {

/// Channels of a head: of its queries and keys, of the part of its keys that is its own, of values.
struct HeadFormDims {
  int32_t dim = 192;
  int32_t own = 128;
  int32_t values = 128;

  bool operator==(const HeadFormDims&) const = default;
  /// Whether there is a kernel for them.
  bool served() const { return *this == HeadFormDims{}; }
};

/// Sequences one after the other, in rows as in keys. Strides in elements.
struct PrefillHeadsParams {
  const uint16_t* q = nullptr;  ///< [num_rows, num_heads, 192], row stride q_row_stride
  int64_t q_row_stride = 0;
  const uint16_t* own = nullptr;  ///< [num_keys, num_heads, 256]: keys' own channels, then values
  const uint16_t* shared = nullptr;  ///< [num_keys, 64]: of all heads' keys, after the own ones
  int64_t shared_row_stride = 0;
  uint16_t* out = nullptr;  ///< [num_rows, num_heads, 128], row stride out_row_stride
  int64_t out_row_stride = 0;
  int32_t num_heads = 0;
  int32_t num_seqs = 0;
  int32_t num_rows = 0;             ///< of q and out
  int32_t num_keys = 0;             ///< of all sequences together
  const int32_t* cu_q = nullptr;    ///< [num_seqs + 1], rows of q and out
  const int32_t* kv_len = nullptr;  ///< [num_seqs]
  const int32_t* cu_k = nullptr;    ///< [num_seqs + 1]
  float softmax_scale = 1;
  uint32_t* counter = nullptr;  ///< 0, and 0 again afterwards
};
void prefill_heads(const PrefillHeadsParams& params, void* stream);

}  // namespace foveal::kernels::cuda
