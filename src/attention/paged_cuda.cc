// The paged loops on CUDA: from AttendArgs to the kernels' parameters.
#include "attention/paged_cuda.h"

#include "attention/paged.h"
#include "base/check.h"
#include "kernels/cuda/attention.h"

namespace foveal::attention {

int32_t cuda_dtype(DType dtype) {
  if (dtype == DType::kBF16) return FOVEAL_BF16;
  if (dtype == DType::kF16) return FOVEAL_F16;
  FOVEAL_INVARIANT(dtype == DType::kF8E4M3);
  return FOVEAL_E4M3;
}

namespace {

void fill_cache(foveal_attention_params& params, const KvLayerView& kv) {
  fill_keys_and_values(params, kv);
  params.num_pages = kv.num_pages;
  params.k_scale = kv.k_scale;
  params.v_scale = kv.v_scale;
}

void fill_seqs(foveal_attention_params& params, const kernels::DeviceSeqs& seqs) {
  params.num_seqs = seqs.num_seqs;
  params.num_rows = seqs.num_rows;
  params.max_q_len = seqs.max_q_len;
  params.max_kv_len = seqs.max_kv_len;
  params.total_kv_len = seqs.total_kv_len;
  params.cu_q = seqs.cu_q;
  params.kv_len = seqs.kv_len;
  params.page_table = seqs.page_table;
  params.page_table_stride = seqs.page_table_stride;
  params.threshold_len = seqs.threshold_len;
}

void take_e4m3_queries(foveal_attention_params& params, const AttendArgs& args) {
  FOVEAL_INVARIANT(args.kv.dtype == DType::kF8E4M3);
  params.q = args.q_e4m3;
  params.q_dtype = FOVEAL_E4M3;
  params.q_row_stride = int64_t{args.num_heads} * args.kv.head_dim;
}

}  // namespace

foveal_attention_params paged_params(const AttendArgs& args, float skip_factor) {
  foveal_attention_params params{};
  params.struct_size = sizeof(params);
  params.q_dtype = cuda_dtype(args.activation);
  params.q = args.q;
  params.q_row_stride = args.q_stride;
  params.q_head_stride = args.kv.head_dim;
  params.out = args.out;
  params.out_row_stride = args.out_stride;
  params.out_head_stride = args.kv.head_dim;
  params.num_heads = args.num_heads;
  fill_cache(params, args.kv);
  fill_seqs(params, *args.device_seqs);
  params.softmax_scale = args.softmax_scale;
  params.window = args.window;
  params.q_scale = 1;
  if (args.batch_invariant) params.flags |= FOVEAL_ATTENTION_FIXED_SPLITS;
  params.skip_factor = skip_factor;
  if (skip_factor > 0) {
    params.skip_factors = args.device_seqs->skip_factors;
    static_assert(sizeof(kernels::AttentionCounters) == 4 * sizeof(uint64_t));
    params.counters = reinterpret_cast<uint64_t*>(args.counters);
  }
  return params;
}

std::byte* take_workspace(size_t bytes, const AttendArgs& args, const Stream& stream) {
  FOVEAL_INVARIANT(args.workspace != nullptr);
  FOVEAL_CHECK(
      bytes <= args.workspace->size() || !stream.is_capturing(), ErrorKind::kInternal, "attention",
      "got a recorded step that needs {} bytes of workspace; need it to have run before", bytes);
  return args.workspace->reserve(stream.device(), bytes);
}

void give_workspace(foveal_attention_params& params, size_t bytes, const AttendArgs& args,
                    const Stream& stream) {
  params.workspace = take_workspace(bytes, args, stream);
  params.workspace_bytes = args.workspace->size();
}

void attend_paged_cuda(Phase phase, const AttendArgs& args, const SkipPolicy& skip,
                       Stream& stream) {
  const bool prefill = phase == Phase::kPrefill;
  foveal_attention_params params = paged_params(args, skip.factor);
  if (skip.int8_votes) params.flags |= FOVEAL_ATTENTION_INT8_VOTES;
  if (!prefill) params.cu_q = nullptr;
  if (prefill && args.q_e4m3 != nullptr) take_e4m3_queries(params, args);
  const size_t bytes = prefill ? kernels::cuda::prefill_pool_workspace_bytes(params)
                               : kernels::cuda::decode_workspace_bytes(params);
  give_workspace(params, bytes, args, stream);
  if (prefill) {
    kernels::cuda::attention_prefill(params, stream.native());
  } else {
    kernels::cuda::attention_decode(params, stream.native());
  }
}

}  // namespace foveal::attention
