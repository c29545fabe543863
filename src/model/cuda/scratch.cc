#include "model/cuda/scratch.h"

#include <algorithm>

#include "base/check.h"
#include "base/math.h"
#include "foveal/kernels_mla.h"
#include "kernels/cuda/prefill_heads.h"

namespace foveal::model {
namespace {

class Layout {
 public:
  explicit Layout(std::byte* base) : base_(base) {}

  template <class T>
  void place(T*& pointer, int64_t rows, int64_t cols) {
    constexpr int64_t kAlignment = 256;
    const std::optional<int64_t> count = checked_mul(rows, cols);
    const std::optional<int64_t> bytes = count ? checked_mul(*count, sizeof(T)) : std::nullopt;
    FOVEAL_CHECK(bytes.has_value(), ErrorKind::kInvalidArgument, "max_num_tokens",
                 "got {} rows of {} values; need less", rows, cols);
    if (*bytes == 0) return;
    if (base_ != nullptr) pointer = reinterpret_cast<T*>(base_ + used_);
    used_ += static_cast<size_t>(round_up(*bytes, kAlignment));
  }
  size_t used() const { return used_; }

 private:
  std::byte* base_;
  size_t used_ = 0;
};

bool has_experts(const ModelConfig& config) {
  return config.num_experts > 0 && std::find(config.moe_layers.begin(), config.moe_layers.end(),
                                             1) != config.moe_layers.end();
}

void lay_out_experts(const ModelConfig& config, int64_t rows, Layout& layout, DecoderScratch& out) {
  const int64_t chosen = config.experts_per_token;
  layout.place(out.router, rows, round_up(config.num_experts, 4));
  layout.place(out.expert_ids, rows, chosen);
  layout.place(out.expert_weights, rows, chosen);
  layout.place(out.expert_offsets, 1, config.num_experts + 1);
  layout.place(out.expert_slots, rows, chosen);
  layout.place(out.expert_out, rows * chosen, config.hidden_size);
}

/// For LatentHeadForm: the longest sequence's context, and half a GiB of keys and values or one
/// head's of it.
void lay_out_head_form(const ModelConfig& config, const ModelLimits& limits, Layout& layout,
                       DecoderScratch& out) {
  constexpr int64_t kMostValues = int64_t{256} << 20;
  const LatentConfig& dims = *config.latent;
  const kernels::cuda::HeadFormDims heads{
      .dim = dims.nope_dim + dims.rope_dim, .own = dims.nope_dim, .values = dims.value_dim};
  const bool served =
      heads.served() && dims.width() == FOVEAL_MLA_HEAD_DIM && dims.kv_rank == FOVEAL_MLA_VALUE_DIM;
  if (limits.batch_invariant || !served) return;
  out.context_rows = limits.max_positions;
  const int64_t one = out.context_rows * (dims.nope_dim + dims.value_dim);
  out.head_values = std::max(one, std::min(one * config.num_heads, kMostValues));
  layout.place(out.context, out.context_rows, dims.width());
  layout.place(out.context_starts, limits.max_logit_rows + 1, 1);
  layout.place(out.head_rows, out.head_values, 1);
  layout.place(out.heads_counter, 1, 1);
}

void lay_out_latent(const ModelConfig& config, const ModelLimits& limits, Layout& layout,
                    DecoderScratch& out) {
  const LatentConfig& dims = *config.latent;
  const int64_t rows = limits.max_rows;
  const int64_t heads = config.num_heads;
  const int64_t index_heads = config.indexer ? config.indexer->num_heads : 0;
  const int64_t index_dim = config.indexer ? config.indexer->head_dim : 0;
  layout.place(out.qkv, rows, heads * config.head_dim + index_heads * index_dim);
  layout.place(out.attention, rows, heads * dims.value_dim);
  const int64_t low = dims.q_rank + dims.width() + index_dim + index_heads;
  layout.place(out.low, rows, round_up(low, int64_t{4}));
  layout.place(out.q_low, rows, dims.q_rank);
  layout.place(out.latent_rows, rows, dims.width());
  layout.place(out.absorbed, rows, heads * dims.width());
  layout.place(out.latent_values, rows, heads * dims.kv_rank);
  layout.place(out.index_k, rows, index_dim);
  layout.place(out.row_keys, rows, 1);
  layout.place(out.row_seq, rows, 1);
  lay_out_head_form(config, limits, layout, out);
}

/// `width`: of the widest mlp, experts' side by side.
void lay_out_fp8(const ModelConfig& config, int64_t rows, int64_t width, Layout& layout,
                 DecoderScratch& out) {
  int64_t cols =
      std::max({int64_t{config.hidden_size}, width, int64_t{config.num_heads} * config.head_dim});
  if (config.latent) {
    const int64_t values = int64_t{config.num_heads} * config.latent->value_dim;
    cols = std::max({cols, int64_t{config.latent->q_rank}, values});
  }
  const int64_t padded = round_up(rows, int64_t{4});
  layout.place(out.fp8_x, padded, cols);
  // Experts' rows may each end in less than a block.
  layout.place(out.fp8_scales, padded, ceil_div(cols, int64_t{128}) + config.experts_per_token);
}

}  // namespace

int64_t logits_stride(const ModelConfig& config) { return round_up(config.vocab_size, 8); }

DecoderScratch lay_out_scratch(const ModelConfig& config, const ModelLimits& limits,
                               std::byte* base) {
  // The library takes rows in e4m3 four at a time.
  const int64_t rows = config.fp8_weights ? round_up(limits.max_rows, int64_t{4}) : limits.max_rows;
  const int64_t hidden = config.hidden_size;
  const int64_t heads = config.num_heads;
  const bool experts = has_experts(config);
  // A layer has an MLP or experts: they take turns in the same place.
  const int64_t expert_width =
      experts ? int64_t{config.experts_per_token} * config.moe_intermediate_size : 0;
  const int64_t width =
      std::max<int64_t>({config.intermediate_size, expert_width, config.shared_intermediate_size});
  DecoderScratch out;
  Layout layout(base);
  layout.place(out.hidden, rows, hidden);
  layout.place(out.normed, rows, hidden);
  layout.place(out.branch, rows, hidden);
  if (config.latent) {
    lay_out_latent(config, limits, layout, out);
  } else {
    layout.place(out.qkv, rows, (heads + 2 * int64_t{config.num_kv_heads}) * config.head_dim);
    layout.place(out.attention, rows, heads * config.head_dim);
    if (limits.e4m3_prefill) layout.place(out.q_e4m3, rows, heads * config.head_dim);
  }
  layout.place(out.gate_up, rows, 2 * width);
  layout.place(out.act, rows, width);
  layout.place(out.slots, rows, 1);
  layout.place(out.positions, rows, 1);
  if (experts) lay_out_experts(config, rows, layout, out);
  if (config.fp8_weights) lay_out_fp8(config, rows, width, layout, out);
  layout.place(out.last, limits.max_logit_rows, hidden);
  layout.place(out.logits, limits.max_logit_rows, logits_stride(config));
  out.bytes = layout.used();
  return out;
}

}  // namespace foveal::model
