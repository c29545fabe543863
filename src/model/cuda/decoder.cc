#include "model/cuda/decoder.h"

#include <fmt/format.h>

#include <cmath>

#include "base/check.h"
#include "base/log.h"
#include "kernels/cuda/dense_gemm.h"
#include "kernels/cuda/elementwise.h"
#include "model/cuda/experts.h"
#include "model/cuda/latent.h"
#include "model/cuda/layer.h"
#include "model/cuda/products.h"
#include "model/cuda/scratch.h"
#include "model/cuda/trace.h"
#include "model/layers/rope_table.h"
#include "model/layers/weights.h"

namespace foveal::model {
namespace {

namespace cuda = kernels::cuda;

struct DeviceRope {
  DeviceTensor cos, sin;  ///< [max_positions, rotary_dim / 2]
};

class CudaDecoder final : public Model {
 public:
  CudaDecoder(const Checkpoint& checkpoint, const DecoderTraits& traits, const ModelLimits& limits,
              Stream& stream);

  float* forward(const ForwardInput& input, attention::AttentionStep& attention,
                 Stream& stream) override;
  float* more_logits(const ForwardInput& input, int64_t first, int64_t count,
                     Stream& stream) override;
  float* logits() override { return scratch_.logits; }
  int64_t logits_stride() const override { return model::logits_stride(config_); }
  const ModelConfig& config() const override { return config_; }

 private:
  void load(const Checkpoint& checkpoint, Stream& stream);
  DeviceRope load_rope(const RopeConfig& rope, WeightLoader& loader, Stream& stream) const;
  const DeviceRope* rope_of(size_t layer) const;
  void place_rows(const ForwardInput& input, int32_t page_size, Stream& stream) const;
  void run_layer(size_t layer, const ForwardInput& input, attention::AttentionStep& attention,
                 Stream& stream);
  void store(size_t layer, const ForwardInput& input, Stream& stream) const;
  void attend(size_t layer, const ForwardInput& input, attention::AttentionStep& attention,
              Stream& stream) const;
  const uint8_t* quantise_queries(const uint16_t* q, int64_t rows, Stream& stream) const;
  void run_mlp(const DeviceLayer& layer, const StepRows& rows, Stream& stream);
  void join(const DeviceLinear& linear, const uint16_t* x, const DeviceTensor* after,
            const StepRows& rows, Stream& stream);
  /// A norm over rows of the hidden size, from x to y.
  cuda::RmsNormParams norm_of(const float* x, const DeviceTensor& weight, void* y,
                              int64_t rows) const;
  void norm(const DeviceTensor& weight, const StepRows& rows, Stream& stream) const;
  int64_t qkv_width() const {
    return (int64_t{config_.num_heads} + 2 * int64_t{config_.num_kv_heads}) * config_.head_dim;
  }
  int64_t q_width() const { return int64_t{config_.num_heads} * config_.head_dim; }
  int64_t kv_width() const { return int64_t{config_.num_kv_heads} * config_.head_dim; }

  ModelConfig config_;
  DecoderTraits traits_;
  ModelLimits limits_;
  Products products_;
  DeviceTensor embedding_, output_;  ///< output_ empty: the embedding is used
  DeviceTensor final_norm_;
  DeviceRope rope_, local_rope_;
  std::vector<DeviceLayer> layers_;
  Buffer scratch_memory_;
  DecoderScratch scratch_;
};

CudaDecoder::CudaDecoder(const Checkpoint& checkpoint, const DecoderTraits& traits,
                         const ModelLimits& limits, Stream& stream)
    : config_(checkpoint.config()),
      traits_(traits),
      limits_(limits),
      products_(stream.device(), limits.batch_invariant) {
  scratch_memory_ =
      Buffer(stream.device(), lay_out_scratch(config_, limits_, nullptr).bytes, "activations");
  scratch_ = lay_out_scratch(config_, limits_, scratch_memory_.data());
  if (scratch_.heads_counter != nullptr) {
    stream.fill(scratch_.heads_counter, 0, sizeof(*scratch_.heads_counter));
  }
  products_.set_fp8_scratch({.x = scratch_.fp8_x, .scales = scratch_.fp8_scales});
  load(checkpoint, stream);
}

void CudaDecoder::load(const Checkpoint& checkpoint, Stream& stream) {
  WeightLoader loader(stream);
  const int64_t vocab = config_.vocab_size;
  const int64_t hidden = config_.hidden_size;
  const auto matrix = [&](const char* name) {
    return loader.matrix(checkpoint.matrix(name, vocab, hidden), name);
  };
  embedding_ = matrix("model.embed_tokens.weight");
  const bool own_output = checkpoint.find("lm_head.weight") != nullptr;
  FOVEAL_CHECK(own_output || config_.tie_embeddings, ErrorKind::kCorruptFile, "model",
               "got no tensor lm_head.weight; need it, or tied embeddings in the config");
  if (own_output && !config_.tie_embeddings) output_ = matrix("lm_head.weight");
  final_norm_ = loader.vector(checkpoint.vector("model.norm.weight", hidden), "model.norm.weight");
  rope_ = load_rope(config_.rope, loader, stream);
  if (config_.local_rope) local_rope_ = load_rope(*config_.local_rope, loader, stream);
  const Fp8OnDevice fp8(checkpoint);
  for (int32_t layer = 0; layer < config_.num_layers; ++layer) {
    layers_.push_back(load_device_layer(checkpoint, fp8, traits_, layer, loader));
  }
  check_layer_count(checkpoint);
  stream.synchronize();
  log_info("weights on {}: {:.1f} MiB, {}", device_name(stream.device()),
           static_cast<double>(loader.bytes()) / (1 << 20), loader.stored_types());
  if (!fp8.expanded().empty()) {
    log_info("weights in f8_e4m3 that are expanded to bf16: {}", fp8.summary());
  }
}

DeviceRope CudaDecoder::load_rope(const RopeConfig& rope, WeightLoader& loader,
                                  Stream& stream) const {
  const RopeTable table(rope, config_.rotary_dim, limits_.max_positions, stream.pool());
  const auto count = static_cast<size_t>(limits_.max_positions * (int64_t{config_.rotary_dim} / 2));
  return {.cos = loader.vector(std::span(table.cos(), count), "rope table"),
          .sin = loader.vector(std::span(table.sin(), count), "rope table")};
}

const DeviceRope* CudaDecoder::rope_of(size_t layer) const {
  if (config_.use_rope.at(layer) == 0) return nullptr;
  return config_.windows.at(layer) != 0 && config_.local_rope ? &local_rope_ : &rope_;
}

float* CudaDecoder::forward(const ForwardInput& input, attention::AttentionStep& attention,
                            Stream& stream) {
  FOVEAL_INVARIANT(input.device != nullptr && input.rows.total <= limits_.max_rows);
  place_rows(input, input.kv.front().page_size, stream);
  cuda::embed({.table = embedding_.bf16(),
               .ids = input.device->token_ids,
               .chosen = input.device->chosen,
               .y = scratch_.hidden,
               .m = input.rows.total,
               .n = config_.hidden_size,
               .vocab = config_.vocab_size,
               .alpha = static_cast<float>(config_.embedding_multiplier)},
              stream);
  for (size_t layer = 0; layer < layers_.size(); ++layer) {
    run_layer(layer, input, attention, stream);
    trace_on_device(input, "hidden", static_cast<int32_t>(layer), scratch_.hidden,
                    config_.hidden_size, config_.hidden_size, stream);
  }
  const auto wanted = static_cast<int64_t>(input.logit_rows.size());
  return more_logits(input, 0, std::min(wanted, limits_.max_logit_rows), stream);
}

void CudaDecoder::place_rows(const ForwardInput& input, int32_t page_size, Stream& stream) const {
  int64_t first = 0;
  for (const kernels::DeviceSeqs* seqs : {&input.device->prefill, &input.device->decode}) {
    if (seqs->num_seqs == 0) continue;
    cuda::fill_slots({.cu_q = seqs->cu_q,
                      .kv_len = seqs->kv_len,
                      .evicted = seqs->evicted,
                      .page_table = seqs->page_table,
                      .page_table_stride = seqs->page_table_stride,
                      .num_seqs = seqs->num_seqs,
                      .num_rows = seqs->num_rows,
                      .page_size = page_size,
                      .slots = scratch_.slots + first,
                      .positions = scratch_.positions + first},
                     stream);
    if (config_.latent) fill_row_keys(*seqs, first, scratch_, stream);
    first += seqs->num_rows;
  }
}

cuda::RmsNormParams CudaDecoder::norm_of(const float* x, const DeviceTensor& weight, void* y,
                                         int64_t rows) const {
  const int64_t hidden = config_.hidden_size;
  return {.x = x,
          .weight = weight.f32(),
          .y = y,
          .m = rows,
          .n = hidden,
          .x_stride = hidden,
          .y_stride = hidden,
          .eps = static_cast<float>(config_.norm_eps),
          .weight_offset = traits_.norm_offset};
}

void CudaDecoder::norm(const DeviceTensor& weight, const StepRows& rows, Stream& stream) const {
  cuda::rms_norm(norm_of(scratch_.hidden, weight, scratch_.normed, rows.total), stream);
}

void CudaDecoder::run_layer(size_t layer, const ForwardInput& input,
                            attention::AttentionStep& attention, Stream& stream) {
  const DeviceLayer& weights = layers_[layer];
  const StepRows& rows = input.rows;
  const bool sandwich = traits_.sandwich_norms;
  norm(weights.input_norm, rows, stream);
  if (weights.latent) {
    run_latent(*weights.latent, static_cast<int32_t>(layer),
               {.config = config_,
                .input = input,
                .scratch = scratch_,
                .rope = {.positions = scratch_.positions,
                         .cos_table = rope_.cos.f32(),
                         .sin_table = rope_.sin.f32(),
                         .dim = config_.rotary_dim,
                         .style = config_.rope_style},
                .products = products_,
                .attention = attention,
                .batch_invariant = limits_.batch_invariant},
               stream);
  } else {
    products_.run(weights.qkv, scratch_.normed, scratch_.qkv, rows, stream);
    store(layer, input, stream);
    const auto number = static_cast<int32_t>(layer);
    const uint16_t* v = scratch_.qkv + qkv_width() - kv_width();
    trace_on_device(input, "q", number, scratch_.qkv, q_width(), qkv_width(), stream);
    trace_on_device(input, "v", number, v, kv_width(), qkv_width(), stream);
    attend(layer, input, attention, stream);
    trace_on_device(input, "attention", number, scratch_.attention, q_width(), q_width(), stream);
  }
  join(weights.o, scratch_.attention, sandwich ? &weights.post_attention_norm : nullptr, rows,
       stream);
  norm(sandwich ? weights.pre_mlp_norm : weights.post_attention_norm, rows, stream);
  if (!weights.experts) return run_mlp(weights, rows, stream);
  FOVEAL_INVARIANT(!sandwich);
  run_experts(*weights.experts, config_, rows, scratch_, products_, stream);
}

void CudaDecoder::store(size_t layer, const ForwardInput& input, Stream& stream) const {
  const DeviceLayer& weights = layers_[layer];
  const DeviceRope* rope = rope_of(layer);
  const KvLayerView& kv = input.kv[layer];
  const int64_t token = kv.head_dim;
  const int64_t head = token * kv.page_size;
  cuda::rope_store({.qkv = scratch_.qkv,
                    .m = input.rows.total,
                    .row_stride = qkv_width(),
                    .num_heads = config_.num_heads,
                    .num_kv_heads = config_.num_kv_heads,
                    .head_dim = config_.head_dim,
                    .rotary_dim = rope != nullptr ? config_.rotary_dim : 0,
                    .style = config_.rope_style,
                    .positions = scratch_.positions,
                    .cos_table = rope != nullptr ? rope->cos.f32() : nullptr,
                    .sin_table = rope != nullptr ? rope->sin.f32() : nullptr,
                    .q_norm = weights.q_norm.empty() ? nullptr : weights.q_norm.f32(),
                    .k_norm = weights.k_norm.empty() ? nullptr : weights.k_norm.f32(),
                    .norm_eps = static_cast<float>(config_.norm_eps),
                    .norm_offset = traits_.norm_offset,
                    .slots = scratch_.slots,
                    .k_pages = kv.k,
                    .v_pages = kv.v,
                    .kv_dtype = kv.dtype,
                    .page_size = kv.page_size,
                    .page_stride = head * kv.num_kv_heads,
                    .head_stride = head,
                    .token_stride = token,
                    .k_scale = kv.k_scale,
                    .v_scale = kv.v_scale},
                   stream);
}

void CudaDecoder::attend(size_t layer, const ForwardInput& input,
                         attention::AttentionStep& attention, Stream& stream) const {
  const double scale = config_.attention_scale != 0 ? config_.attention_scale
                                                    : 1.0 / std::sqrt(double{1} * config_.head_dim);
  int64_t first = 0;
  for (const attention::Phase phase : attention::kPhases) {
    const bool prefill = phase == attention::Phase::kPrefill;
    const kernels::DeviceSeqs& seqs = prefill ? input.device->prefill : input.device->decode;
    if (seqs.num_seqs == 0) continue;
    const uint16_t* q = scratch_.qkv + first * qkv_width();
    const attention::AttendArgs args{.activation = DType::kBF16,
                                     .q = q,
                                     .k = q + q_width(),
                                     .v = q + q_width() + kv_width(),
                                     .out = scratch_.attention + first * q_width(),
                                     .q_e4m3 = prefill && limits_.e4m3_prefill
                                                   ? quantise_queries(q, seqs.num_rows, stream)
                                                   : nullptr,
                                     .q_stride = qkv_width(),
                                     .kv_stride = qkv_width(),
                                     .out_stride = q_width(),
                                     .num_heads = config_.num_heads,
                                     .kv = input.kv[layer],
                                     .seqs = prefill ? input.prefill : input.decode,
                                     .device_seqs = &seqs,
                                     .softmax_scale = static_cast<float>(scale),
                                     .window = config_.windows[layer],
                                     .batch_invariant = limits_.batch_invariant,
                                     .trace = input.trace};
    attention.attend(static_cast<int32_t>(layer), phase, args, stream);
    first += seqs.num_rows;
  }
}

// With scale 1, as keys and values have.
const uint8_t* CudaDecoder::quantise_queries(const uint16_t* q, int64_t rows,
                                             Stream& stream) const {
  cuda::quantize_e4m3_tensor({.x = q,
                              .y = scratch_.q_e4m3,
                              .scale = nullptr,
                              .m = rows,
                              .k = q_width(),
                              .x_stride = qkv_width(),
                              .y_stride = q_width()},
                             stream);
  return scratch_.q_e4m3;
}

// A product's rows join the residual stream, through a norm of their own where there is one.
void CudaDecoder::join(const DeviceLinear& linear, const uint16_t* x, const DeviceTensor* after,
                       const StepRows& rows, Stream& stream) {
  const auto alpha = static_cast<float>(config_.residual_multiplier);
  // The product's factor does not reach its bias.
  const bool direct = after == nullptr && (alpha == 1 || linear.bias.empty());
  if (direct) return products_.add(linear, x, alpha, scratch_.hidden, rows, stream);
  const int64_t hidden = config_.hidden_size;
  products_.run(linear, x, scratch_.branch, rows, stream);
  if (after == nullptr) {
    cuda::add_scaled(scratch_.branch, alpha, scratch_.hidden, rows.total * hidden, stream);
    return;
  }
  cuda::RmsNormParams joined = norm_of(scratch_.branch, *after, scratch_.hidden, rows.total);
  joined.y_dtype = DType::kF32;
  joined.accumulate = true;
  joined.alpha = alpha;
  cuda::rms_norm(joined, stream);
}

void CudaDecoder::run_mlp(const DeviceLayer& layer, const StepRows& rows, Stream& stream) {
  products_.run_gated(layer.gate_up, scratch_.normed, scratch_.gate_up, scratch_.act,
                      config_.activation, rows, stream);
  join(layer.down, scratch_.act, traits_.sandwich_norms ? &layer.post_mlp_norm : nullptr, rows,
       stream);
}

float* CudaDecoder::more_logits(const ForwardInput& input, int64_t first, int64_t count,
                                Stream& stream) {
  if (count == 0) return nullptr;
  FOVEAL_INVARIANT(count <= limits_.max_logit_rows);
  cuda::RmsNormParams last = norm_of(scratch_.hidden, final_norm_, scratch_.last, count);
  last.rows = input.device->logit_rows + first;
  cuda::rms_norm(last, stream);
  const DeviceTensor& output = output_.empty() ? embedding_ : output_;
  products_.logits(output, scratch_.last, scratch_.logits, logits_stride(), count, stream);
  const auto cap = static_cast<float>(config_.final_logit_softcap);
  if (cap != 0 || config_.logits_divisor != 1.0) {
    cuda::scale_softcap(scratch_.logits, static_cast<float>(1.0 / config_.logits_divisor), cap,
                        count * logits_stride(), stream);
  }
  return scratch_.logits;
}

}  // namespace

std::unique_ptr<Model> make_cuda_decoder(const Checkpoint& checkpoint, const DecoderTraits& traits,
                                         const ModelLimits& limits, Stream& stream) {
  return std::make_unique<CudaDecoder>(checkpoint, traits, limits, stream);
}

}  // namespace foveal::model
