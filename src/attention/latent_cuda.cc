// Latent attention on CUDA: from AttendArgs to the kernels' parameters.
#include "attention/latent.h"
#include "attention/paged_cuda.h"
#include "base/check.h"
#include "kernels/cuda/latent.h"
#include "kernels/cuda/latent_any.h"

namespace foveal::attention {
namespace {

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
  params.cache = {.data = args.kv.k,
                  .page_bytes = args.kv.page_bytes,
                  .dtype = cuda_dtype(args.kv.dtype),
                  .page_size = args.kv.page_size,
                  .num_pages = args.kv.num_pages};
  params.indices = lists.tokens;
  params.indices_stride = lists.stride;
  params.counts = listed ? lists.counts : seqs.row_keys;
  params.page_table = seqs.page_table;
  params.page_table_stride = seqs.page_table_stride;
  params.row_seq = seqs.row_seq;
  params.softmax_scale = args.softmax_scale;
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
  kernels::cuda::mla_attention(params, stream.native());
}

void attend_latent_cuda(const AttendArgs& args, Stream& stream) {
  const size_t bytes = latent_workspace_bytes(args, {});
  attend_latent_cuda(args, {}, take_workspace(bytes, args, stream), stream);
}

}  // namespace foveal::attention
