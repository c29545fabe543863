#include "model/cuda/latent_heads.h"

#include <algorithm>

#include "attention/paged_cuda.h"
#include "base/check.h"
#include "kernels/cuda/latent_context.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/prefill_heads.h"
#include "model/cuda/latent_form.h"

namespace foveal::model {
namespace {

namespace cuda = kernels::cuda;

HeadFormRoom room_of(const LatentRun& run) {
  return {.heads = run.config.num_heads,
          .head_values = run.scratch.head_values,
          .processors = cuda::num_multiprocessors()};
}

}  // namespace

struct LatentHeadForm::Seqs {
  size_t first = 0;
  size_t count = 0;
  int64_t keys = 0;
};

bool LatentHeadForm::taken(const LatentRun& run) {
  const attention::Phase phase = attention::Phase::kPrefill;
  if (run.scratch.context == nullptr || run.input.prefill.empty()) return false;
  if (!run.attention.attends_to_all(phase, run.input.device->prefill.max_kv_len)) return false;
  return heads_take_less(*run.config.latent, room_of(run), run.input.prefill);
}

void LatentHeadForm::attend(const attention::AttendArgs& args, Stream& stream) const {
  for (size_t first = 0; first < args.seqs.size();) {
    const Seqs seqs = next_seqs(args, first);
    gather(args, seqs, stream);
    attend(args, seqs, stream);
    first += seqs.count;
  }
}

/// As many as the context's memory holds; one always fits.
LatentHeadForm::Seqs LatentHeadForm::next_seqs(const attention::AttendArgs& args,
                                               size_t first) const {
  Seqs out{.first = first};
  for (size_t idx = first; idx < args.seqs.size(); ++idx) {
    const int64_t keys = args.seqs[idx].kv_len;
    if (out.count > 0 && out.keys + keys > run_.scratch.context_rows) break;
    out.keys += keys;
    ++out.count;
  }
  FOVEAL_INVARIANT(out.keys <= run_.scratch.context_rows);
  return out;
}

void LatentHeadForm::gather(const attention::AttendArgs& args, const Seqs& seqs,
                            const Stream& stream) const {
  const kernels::DeviceSeqs& device = *args.device_seqs;
  const auto first = static_cast<int64_t>(seqs.first);
  cuda::latent_context({.cache = attention::latent_cache(args.kv),
                        .kv_len = device.kv_len + first,
                        .page_table = device.page_table + first * device.page_table_stride,
                        .page_table_stride = device.page_table_stride,
                        .num_seqs = static_cast<int32_t>(seqs.count),
                        .num_rows = static_cast<int32_t>(seqs.keys),
                        .starts = run_.scratch.context_starts,
                        .rows = run_.scratch.context},
                       stream.native());
}

// Some heads at a time: keys and values of all are too many.
void LatentHeadForm::attend(const attention::AttendArgs& args, const Seqs& seqs,
                            Stream& stream) const {
  const LatentConfig& dims = *run_.config.latent;
  const DecoderScratch& scratch = run_.scratch;
  const kernels::DeviceSeqs& device = *args.device_seqs;
  const int64_t heads = run_.config.num_heads;
  const int64_t width = int64_t{dims.nope_dim} + dims.value_dim;
  const int64_t head_dim = dims.nope_dim + dims.rope_dim;
  const int64_t fit = room_of(run_).heads_at_once(dims, seqs.keys);
  for (int64_t head = 0; head < heads; head += fit) {
    const int64_t count = std::min(fit, heads - head);
    run_.products.heads({.x = scratch.context,
                         .weight = weights_.heads.bf16() + head * width * dims.kv_rank,
                         .y = scratch.head_rows,
                         .m = seqs.keys,
                         .n = count * width,
                         .k = dims.kv_rank,
                         .x_stride = dims.width(),
                         .weight_stride = dims.kv_rank,
                         .y_stride = count * width},
                        stream);
    cuda::prefill_heads({.q = scratch.qkv + head * head_dim,
                         .q_row_stride = weights_.q.rows(),
                         .own = scratch.head_rows,
                         .shared = scratch.context + dims.kv_rank,
                         .shared_row_stride = dims.width(),
                         .out = scratch.attention + head * dims.value_dim,
                         .out_row_stride = heads * dims.value_dim,
                         .num_heads = static_cast<int32_t>(count),
                         .num_seqs = static_cast<int32_t>(seqs.count),
                         .num_rows = device.num_rows,
                         .num_keys = static_cast<int32_t>(seqs.keys),
                         .cu_q = device.cu_q + seqs.first,
                         .kv_len = device.kv_len + seqs.first,
                         .cu_k = scratch.context_starts,
                         .softmax_scale = args.softmax_scale,
                         .counter = scratch.heads_counter},
                        stream.native());
  }
}

}  // namespace foveal::model
