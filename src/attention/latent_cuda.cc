// Latent attention on CUDA: from AttendArgs to the kernels' parameters.
#include <algorithm>

#include "attention/latent.h"
#include "attention/paged_cuda.h"
#include "base/check.h"
#include "kernels/cuda/latent.h"
#include "kernels/cuda/latent_any.h"
#include "kernels/cuda/latent_context.h"

namespace foveal::attention {
namespace {

/// Whether a prompt's lists name its 656-byte rows so often that widening each row once is less
/// than widening it for each who attends to it. The same bits either way.
bool widens(const AttendArgs& args, const LatentLists& lists, const kernels::AttentionSeq& seq) {
  if (args.room.rows == nullptr || lists.tokens == nullptr) return false;
  constexpr int64_t kOften = 8;  // measured: twice what they have in common
  return args.kv.dtype == DType::kF8E4M3 && int64_t{seq.q_len} * lists.most >= kOften * seq.kv_len;
}

/// Widens a sequence's rows; `params` then finds them by token, so the same lists name slots.
void widen(const AttendArgs& args, size_t seq, foveal_mla_params& params, const Stream& stream) {
  const kernels::DeviceSeqs& seqs = *args.device_seqs;
  const int32_t kv_len = args.seqs[seq].kv_len;
  const auto at = static_cast<int64_t>(seq);
  kernels::cuda::latent_context({.cache = latent_cache(args.kv),
                                 .kv_len = seqs.kv_len + at,
                                 .page_table = seqs.page_table + at * seqs.page_table_stride,
                                 .page_table_stride = seqs.page_table_stride,
                                 .num_seqs = 1,
                                 .num_rows = kv_len,
                                 .starts = args.room.starts,
                                 .rows = args.room.rows},
                                stream.native());
  params.cache = {.data = args.room.rows,
                  .page_bytes = int64_t{args.kv.head_dim} * 2,
                  .dtype = FOVEAL_BF16,
                  .page_size = 1,
                  .num_pages = kv_len};
  params.page_table = nullptr;
  params.row_seq = nullptr;
  params.flags &= ~FOVEAL_MLA_LOCAL;
}

/// One call for each sequence that is widened, and one for all that lie between two such.
void attend_by_sequence(const AttendArgs& args, const LatentLists& lists, foveal_mla_params params,
                        const Stream& stream) {
  // As of the whole, for they are part of the result.
  params.splits = kernels::cuda::mla_splits(params);
  int32_t first = 0;
  for (size_t seq = 0; seq < args.seqs.size();) {
    const bool wide = widens(args, lists, args.seqs[seq]);
    size_t end = seq;
    int32_t rows = 0;
    do {
      rows += args.seqs[end++].q_len;
    } while (!wide && end < args.seqs.size() && !widens(args, lists, args.seqs[end]));
    foveal_mla_params some = kernels::cuda::mla_some_rows(params, first, rows);
    if (wide) widen(args, seq, some, stream);
    kernels::cuda::mla_attention(some, stream.native());
    first += rows;
    seq = end;
  }
}

foveal_mla_params params_of(const AttendArgs& args, const LatentLists& lists) {
  const kernels::DeviceSeqs& seqs = *args.device_seqs;
  const bool listed = lists.tokens != nullptr;
  foveal_mla_params params{};
  params.struct_size = sizeof(params);
  params.num_rows = seqs.num_rows;
  params.num_heads = args.num_heads;
  params.max_keys = listed ? lists.most : seqs.max_kv_len;
  params.q = args.q;
  params.q_row_stride = args.q_stride;
  params.q_head_stride = args.kv.head_dim;
  params.out = args.out;
  params.out_row_stride = args.out_stride;
  params.out_head_stride = args.kv.value_dim;
  params.indices = lists.tokens;
  params.indices_stride = lists.stride;
  params.counts = listed ? lists.counts : seqs.row_keys;
  params.softmax_scale = args.softmax_scale;
  params.cache = latent_cache(args.kv);
  params.page_table = seqs.page_table;
  params.page_table_stride = seqs.page_table_stride;
  params.row_seq = seqs.row_seq;
  params.flags = listed ? FOVEAL_MLA_LOCAL : 0;
  // How many others share the call must not matter. Of prompts there are enough rows.
  if (args.batch_invariant && seqs.cu_q == nullptr) {
    params.flags |= FOVEAL_MLA_FIXED_SPLITS;
  } else if (args.batch_invariant) {
    params.splits = 1;
  }
  return params;
}

kernels::cuda::LatentDims dims_of(const KvLayerView& kv) {
  return {.rank = kv.value_dim, .rope = kv.head_dim - kv.value_dim};
}

}  // namespace

foveal_latent_cache latent_cache(const KvLayerView& kv) {
  return {.data = kv.k,
          .page_bytes = kv.page_bytes,
          .dtype = cuda_dtype(kv.dtype),
          .page_size = kv.page_size,
          .num_pages = kv.num_pages};
}

size_t latent_workspace_bytes(const AttendArgs& args, const LatentLists& lists) {
  if (!dims_of(args.kv).common()) return 0;
  return kernels::cuda::mla_workspace_bytes(params_of(args, lists));
}

void attend_latent_cuda(const AttendArgs& args, const LatentLists& lists, std::byte* workspace,
                        Stream& stream) {
  FOVEAL_INVARIANT(args.activation == DType::kBF16 && args.device_seqs != nullptr);
  foveal_mla_params params = params_of(args, lists);
  const kernels::cuda::LatentDims dims = dims_of(args.kv);
  if (!dims.common()) return kernels::cuda::latent_any_attention(params, dims, stream.native());
  params.workspace = workspace;
  params.workspace_bytes = kernels::cuda::mla_workspace_bytes(params);
  const auto wide = [&](const kernels::AttentionSeq& seq) { return widens(args, lists, seq); };
  if (std::any_of(args.seqs.begin(), args.seqs.end(), wide)) {
    attend_by_sequence(args, lists, params, stream);
  } else {
    kernels::cuda::mla_attention(params, stream.native());
  }
}

void attend_latent_cuda(const AttendArgs& args, Stream& stream) {
  const size_t bytes = latent_workspace_bytes(args, {});
  attend_latent_cuda(args, {}, take_workspace(bytes, args, stream), stream);
}

}  // namespace foveal::attention
