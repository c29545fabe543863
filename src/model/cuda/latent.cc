#include "model/cuda/latent.h"

#include "attention/paged_cuda.h"
#include "base/check.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/latent.h"
#include "kernels/cuda/latent_any.h"
#include "model/cuda/latent_heads.h"
#include "model/cuda/trace.h"
#include "model/layers/latent_norm.h"

namespace foveal::model {
namespace {

namespace cuda = kernels::cuda;

/// What the first product holds of a row, by columns.
struct LowColumns {
  int64_t index_k, latents, index_weights, total;
};
LowColumns low_columns(const DeviceLatent& weights, const ModelConfig& config) {
  LowColumns out{};
  out.index_k = config.latent->q_rank;
  out.latents = out.index_k + (weights.indexed() ? config.indexer->head_dim : 0);
  out.index_weights = out.latents + config.latent->width();
  out.total = Products::f32_stride(weights.low);
  return out;
}

class Layer {
 public:
  Layer(const DeviceLatent& weights, int32_t layer, const LatentRun& run, Stream& stream)
      : weights_(weights),
        layer_(layer),
        run_(run),
        dims_(*run.config.latent),
        columns_(low_columns(weights, run.config)),
        rows_(run.input.rows),
        heads_(run.config.num_heads),
        expanded_(LatentHeadForm::taken(run) ? rows_.prefill : 0),
        stream_(stream) {}

  void project() {
    const DecoderScratch& scratch = run_.scratch;
    run_.products.run(weights_.low, scratch.normed, scratch.low, rows_, stream_);
    if (dims_.q_rank == 0) {
      run_.products.run(weights_.q, scratch.normed, scratch.qkv, rows_, stream_);
      return;
    }
    cuda::rms_norm({.x = scratch.low,
                    .weight = weights_.q_norm.f32(),
                    .y = scratch.q_low,
                    .m = rows_.total,
                    .n = dims_.q_rank,
                    .x_stride = columns_.total,
                    .y_stride = dims_.q_rank,
                    .eps = kLatentNormEps},
                   stream_);
    run_.products.run(weights_.q, scratch.q_low, scratch.qkv, rows_, stream_);
  }

  /// Queries into the latents' space, but those of rows in the form of heads; rows of the cache.
  void absorb() {
    const DecoderScratch& scratch = run_.scratch;
    const int64_t absorbed_width = heads_ * dims_.width();
    run_.products.heads({.x = scratch.qkv + expanded_ * weights_.q.rows(),
                         .weight = weights_.to_latent.bf16(),
                         .y = scratch.absorbed + expanded_ * absorbed_width,
                         .m = rows_.total - expanded_,
                         .n = dims_.kv_rank,
                         .k = dims_.nope_dim,
                         .x_stride = weights_.q.rows(),
                         .weight_stride = dims_.nope_dim,
                         .y_stride = absorbed_width,
                         .batch = heads_,
                         .x_batch_stride = head_dim(),
                         .weight_batch_stride = int64_t{dims_.kv_rank} * dims_.nope_dim,
                         .y_batch_stride = dims_.width()},
                        stream_);
    cuda::latent_inputs({.latents = scratch.low + columns_.latents,
                         .norm = weights_.kv_norm.f32(),
                         .rows = scratch.latent_rows,
                         .q = scratch.qkv,
                         .absorbed = scratch.absorbed,
                         .m = rows_.total,
                         .in_place = expanded_,
                         .latents_stride = columns_.total,
                         .q_stride = weights_.q.rows(),
                         .num_heads = static_cast<int32_t>(heads_),
                         .nope_dim = dims_.nope_dim,
                         .rank = dims_.kv_rank,
                         .norm_eps = kLatentNormEps,
                         .rope = run_.rope},
                        stream_);
  }

  void index() {
    if (!weights_.indexed()) return;
    const IndexerConfig& indexer = *run_.config.indexer;
    cuda::LatentRope rope = run_.rope;
    rope.style =
        indexer.rope_interleave ? kernels::RopeStyle::kInterleaved : kernels::RopeStyle::kHalf;
    cuda::index_inputs({.k = run_.scratch.low + columns_.index_k,
                        .weight = weights_.index_norm.f32(),
                        .bias = weights_.index_bias.f32(),
                        .y = run_.scratch.index_k,
                        .q = index_q(),
                        .m = rows_.total,
                        .k_stride = columns_.total,
                        .q_stride = weights_.q.rows(),
                        .num_heads = indexer.num_heads,
                        .head_dim = indexer.head_dim,
                        .norm_eps = kLatentNormEps,
                        .rope = rope},
                       stream_);
  }

  void attend() {
    int64_t first = 0;
    for (const attention::Phase phase : attention::kPhases) {
      const bool prefill = phase == attention::Phase::kPrefill;
      const kernels::DeviceSeqs& seqs =
          prefill ? run_.input.device->prefill : run_.input.device->decode;
      if (seqs.num_seqs == 0) continue;
      attend(phase, with_row_keys(seqs, first, run_.scratch), first);
      first += seqs.num_rows;
    }
  }

  void expand_values() {
    const int64_t values_width = heads_ * dims_.kv_rank;
    const int64_t out_width = heads_ * dims_.value_dim;
    const int64_t head_rows = int64_t{dims_.nope_dim} + dims_.value_dim;
    run_.products.heads({.x = run_.scratch.latent_values + expanded_ * values_width,
                         .weight = weights_.heads.bf16() + int64_t{dims_.nope_dim} * dims_.kv_rank,
                         .y = run_.scratch.attention + expanded_ * out_width,
                         .m = rows_.total - expanded_,
                         .n = dims_.value_dim,
                         .k = dims_.kv_rank,
                         .x_stride = values_width,
                         .weight_stride = dims_.kv_rank,
                         .y_stride = out_width,
                         .batch = heads_,
                         .x_batch_stride = dims_.kv_rank,
                         .weight_batch_stride = head_rows * dims_.kv_rank,
                         .y_batch_stride = dims_.value_dim},
                        stream_);
  }

 private:
  int64_t head_dim() const { return dims_.nope_dim + dims_.rope_dim; }
  uint16_t* index_q() const { return run_.scratch.qkv + heads_ * head_dim(); }

  void attend(attention::Phase phase, const kernels::DeviceSeqs& seqs, int64_t first) {
    const DecoderScratch& scratch = run_.scratch;
    const KvLayerView& kv = run_.input.kv[static_cast<size_t>(layer_)];
    const uint16_t* rows = scratch.latent_rows + first * dims_.width();
    store(kv, seqs, rows);
    const attention::IndexInputs index{
        .q = index_q() + first * weights_.q.rows(),
        .k = weights_.indexed() ? scratch.index_k + first * run_.config.indexer->head_dim : nullptr,
        .weights = scratch.low + first * columns_.total + columns_.index_weights,
        .q_stride = weights_.q.rows(),
        .k_stride = weights_.indexed() ? run_.config.indexer->head_dim : 0,
        .weights_stride = columns_.total};
    const bool prefill = phase == attention::Phase::kPrefill;
    const LatentHeadForm head_form(weights_, run_);
    const attention::AttendArgs args{
        .activation = DType::kBF16,
        .q = scratch.absorbed + first * heads_ * dims_.width(),
        .k = rows,
        .out = scratch.latent_values + first * heads_ * dims_.kv_rank,
        .index = weights_.indexed() ? &index : nullptr,
        .heads = prefill && expanded_ > 0 ? &head_form : nullptr,
        .room = {.rows = prefill ? scratch.context : nullptr, .starts = scratch.context_starts},
        .q_stride = heads_ * dims_.width(),
        .kv_stride = dims_.width(),
        .out_stride = heads_ * dims_.kv_rank,
        .num_heads = static_cast<int32_t>(heads_),
        .kv = kv,
        .seqs = prefill ? run_.input.prefill : run_.input.decode,
        .device_seqs = &seqs,
        .softmax_scale = static_cast<float>(run_.config.attention_scale),
        .batch_invariant = run_.batch_invariant,
        .trace = run_.input.trace};
    run_.attention.attend(layer_, phase, args, stream_);
  }

  void store(const KvLayerView& kv, const kernels::DeviceSeqs& seqs, const uint16_t* rows) {
    const foveal_mla_store_params params{.struct_size = sizeof(foveal_mla_store_params),
                                         .num_rows = seqs.num_rows,
                                         .latent = rows,
                                         .latent_stride = dims_.width(),
                                         .rope = rows + dims_.kv_rank,
                                         .rope_stride = dims_.width(),
                                         .slots = nullptr,
                                         .counts = seqs.row_keys,
                                         .page_table = seqs.page_table,
                                         .page_table_stride = seqs.page_table_stride,
                                         .row_seq = seqs.row_seq,
                                         .cache = attention::latent_cache(kv)};
    const cuda::LatentDims dims{.rank = dims_.kv_rank, .rope = dims_.rope_dim};
    if (dims.common()) return cuda::mla_store(params, stream_.native());
    cuda::latent_any_store(params, dims, stream_.native());
  }

  const DeviceLatent& weights_;
  int32_t layer_;
  const LatentRun& run_;
  const LatentConfig& dims_;
  LowColumns columns_;
  const StepRows& rows_;
  int64_t heads_;
  int64_t expanded_;  ///< rows in the form of heads, the first
  Stream& stream_;
};

}  // namespace

void run_latent(const DeviceLatent& weights, int32_t layer, const LatentRun& run, Stream& stream) {
  Layer one(weights, layer, run, stream);
  one.project();
  one.absorb();
  one.index();
  one.attend();
  one.expand_values();
  const LatentConfig& dims = *run.config.latent;
  const int64_t values = int64_t{run.config.num_heads} * dims.value_dim;
  trace_on_device(run.input, "k", layer, run.scratch.latent_rows, dims.width(), dims.width(),
                  stream);
  trace_on_device(run.input, "attention", layer, run.scratch.attention, values, values, stream);
}

kernels::DeviceSeqs with_row_keys(const kernels::DeviceSeqs& seqs, int64_t first,
                                  const DecoderScratch& scratch) {
  kernels::DeviceSeqs out = seqs;
  const bool one_each = seqs.cu_q == nullptr;
  out.row_keys = one_each ? seqs.kv_len : scratch.row_keys + first;
  out.row_seq = one_each ? nullptr : scratch.row_seq + first;
  return out;
}

void fill_row_keys(const kernels::DeviceSeqs& seqs, int64_t first, const DecoderScratch& scratch,
                   Stream& stream) {
  if (seqs.num_seqs == 0 || seqs.cu_q == nullptr) return;
  cuda::mla_rows({.struct_size = sizeof(foveal_mla_rows_params),
                  .num_seqs = seqs.num_seqs,
                  .num_rows = seqs.num_rows,
                  .cu_q = seqs.cu_q,
                  .kv_len = seqs.kv_len,
                  .counts = scratch.row_keys + first,
                  .row_seq = scratch.row_seq + first},
                 stream.native());
}

}  // namespace foveal::model
