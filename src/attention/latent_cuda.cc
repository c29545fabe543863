// Latent attention on CUDA: from AttendArgs to the kernels' parameters.
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
bool widens(const AttendArgs& args, const LatentLists& lists) {
  if (args.room.rows == nullptr || lists.tokens == nullptr) return false;
  if (args.kv.dtype != DType::kF8E4M3 || args.seqs.size() != 1) return false;
  constexpr int64_t kOften = 8;  // measured: twice what they have in common
  const kernels::AttentionSeq& seq = args.seqs.front();
  return int64_t{seq.q_len} * lists.most >= kOften * seq.kv_len;
}

/// The prompt's rows by token: the same lists then name slots.
foveal_latent_cache widened_cache(const AttendArgs& args) {
  return {.data = args.room.rows,
          .page_bytes = int64_t{args.kv.head_dim} * 2,
          .dtype = FOVEAL_BF16,
          .page_size = 1,
          .num_pages = args.seqs.front().kv_len};
}

void widen(const AttendArgs& args, const Stream& stream) {
  const kernels::DeviceSeqs& seqs = *args.device_seqs;
  kernels::cuda::latent_context({.cache = latent_cache(args.kv),
                                 .kv_len = seqs.kv_len,
                                 .page_table = seqs.page_table,
                                 .page_table_stride = seqs.page_table_stride,
                                 .num_seqs = 1,
                                 .num_rows = args.seqs.front().kv_len,
                                 .starts = args.room.starts,
                                 .rows = args.room.rows},
                                stream.native());
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
  if (widens(args, lists)) {
    params.cache = widened_cache(args);
  } else {
    params.cache = latent_cache(args.kv);
    params.page_table = seqs.page_table;
    params.page_table_stride = seqs.page_table_stride;
    params.row_seq = seqs.row_seq;
    params.flags = listed ? FOVEAL_MLA_LOCAL : 0;
  }
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
  if (widens(args, lists)) widen(args, stream);
  params.workspace = workspace;
  params.workspace_bytes = kernels::cuda::mla_workspace_bytes(params);
  kernels::cuda::mla_attention(params, stream.native());
}

void attend_latent_cuda(const AttendArgs& args, Stream& stream) {
  const size_t bytes = latent_workspace_bytes(args, {});
  attend_latent_cuda(args, {}, take_workspace(bytes, args, stream), stream);
}

}  // namespace foveal::attention
