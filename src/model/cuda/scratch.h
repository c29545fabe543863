#pragma once

#include <cstddef>
#include <cstdint>

#include "model/config.h"
#include "model/model.h"

namespace foveal::model {

/// What lies between the kernels of a step, in one piece of device memory that never moves, so that
/// recorded steps find it. R = ModelLimits::max_rows, L = max_logit_rows, K = experts_per_token.
struct DecoderScratch {
  float* hidden = nullptr;            ///< residual stream [R, hidden]
  uint16_t* normed = nullptr;         ///< [R, hidden]
  float* branch = nullptr;            ///< a block's output before it joins the residual [R, hidden]
  uint16_t* qkv = nullptr;            ///< [R, (num_heads + 2 num_kv_heads) * head_dim]; latent:
                                      ///< [R, num_heads * head_dim + index heads * their dim]
  uint16_t* attention = nullptr;      ///< [R, num_heads * head_dim]; latent: of value_dim
  uint8_t* q_e4m3 = nullptr;          ///< ModelLimits::e4m3_prefill: [R, num_heads * head_dim]
  float* low = nullptr;               ///< latent: DeviceLatent::low's product [R, its rows]
  uint16_t* q_low = nullptr;          ///< latent: [R, q_rank]
  uint16_t* latent_rows = nullptr;    ///< latent: as cached [R, width]
  uint16_t* absorbed = nullptr;       ///< latent: [R, num_heads * width]
  uint16_t* latent_values = nullptr;  ///< latent: [R, num_heads * kv_rank]
  uint16_t* index_k = nullptr;        ///< indexer: [R, its head_dim]
  uint16_t* context = nullptr;        ///< latent, form of heads: [context_rows, width]; LatentRoom
  int32_t* context_starts = nullptr;  ///< likewise: [L + 1]
  uint16_t* head_rows = nullptr;      ///< likewise: keys and values of heads [head_values]
  uint32_t* heads_counter = nullptr;  ///< likewise: [1], 0 between kernels
  int64_t context_rows = 0;
  int64_t head_values = 0;
  int32_t* row_keys = nullptr;        ///< latent: [R], see DeviceSeqs
  int32_t* row_seq = nullptr;         ///< latent: [R], likewise
  uint16_t* gate_up = nullptr;        ///< [R, 2 intermediate], experts: [R * K, 2 moe_intermediate]
  uint16_t* act = nullptr;            ///< half as wide
  int64_t* slots = nullptr;           ///< [R]
  int32_t* positions = nullptr;       ///< [R]
  float* router = nullptr;            ///< [R, num_experts]
  int32_t* expert_ids = nullptr;      ///< [R, K]
  float* expert_weights = nullptr;    ///< [R, K]
  int32_t* expert_offsets = nullptr;  ///< [num_experts + 1]
  int32_t* expert_slots = nullptr;    ///< [R * K]
  uint16_t* expert_out = nullptr;     ///< [R * K, hidden]
  uint8_t* fp8_x = nullptr;           ///< e4m3 weights: a product's rows in e4m3, R rounded up to
                                      ///< 4; experts: or R * K of their intermediate
  float* fp8_scales = nullptr;        ///< and their scales, one each 128 columns
  uint16_t* last = nullptr;           ///< normed rows that want logits [L, hidden]
  float* logits = nullptr;            ///< [L, logits_stride]
  size_t bytes = 0;                   ///< of all of it
};

/// Places everything from `base` on; with a null base only `bytes` is of use. What a model does not
/// need is null.
DecoderScratch lay_out_scratch(const ModelConfig& config, const ModelLimits& limits,
                               std::byte* base);

/// Values of a row of logits: the vocabulary, rounded up for wide accesses.
int64_t logits_stride(const ModelConfig& config);

}  // namespace foveal::model
