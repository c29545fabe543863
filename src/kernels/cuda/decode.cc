#include "kernels/cuda/attention.h"
#include "kernels/cuda/decode_launch.h"

#include <algorithm>
#include <bit>

#include "base/error.h"
#include "device/cuda/properties.h"
#include "kernels/cuda/attention_check.h"
#include "kernels/cuda/key_args.h"
#include "kernels/cuda/launch_erased.h"

namespace foveal::kernels::cuda {

namespace {

const void* find_kernel(int32_t kv_dtype, const DecodeShape& shape, bool listed) {
  switch (kv_dtype) {
    case FOVEAL_BF16:
      return listed ? decode_listed_kernel_bf16(shape) : decode_kernel_bf16(shape);
    case FOVEAL_F16:
      return listed ? decode_listed_kernel_f16(shape) : decode_kernel_f16(shape);
    default:
      return listed ? decode_listed_kernel_e4m3(shape) : decode_kernel_e4m3(shape);
  }
}

void fill_rows(DecodeArgs& args, const foveal_attention_params& params) {
  const int64_t kv_bytes = element_bytes(params.kv_dtype);
  set_scores(args, params);
  set_sequences(args, params);
  args.out = static_cast<char*>(params.out);
  args.out_row_bytes = params.out_row_stride * 2;
  args.out_head_bytes = params.out_head_stride * 2;
  args.lse = params.lse;
  args.v = static_cast<const char*>(params.v);
  args.v_page_bytes = params.v_page_stride * kv_bytes;
  args.v_head_bytes = params.v_head_stride * kv_bytes;
  args.v_token_bytes = params.v_token_stride * kv_bytes;
  args.cu_k = params.cu_k;
}

/// Over all pages, or over `lists`.
void launch_decode(const foveal_attention_params& params, const PageLists* lists, void* stream) {
  const int32_t processors =
      foveal::cuda::device_properties(usable_device("attention_decode")).num_sms;
  const DecodeChoice choice = decode_choose(params, processors);
  const void* kernel = find_kernel(params.kv_dtype, choice.shape, lists != nullptr);
  if (kernel == nullptr) {
    fail(ErrorKind::kUnsupported, "attention_decode", "got {}; need a shape that is compiled",
         to_string(choice));
  }
  DecodeArgs args = decode_args(params, choice);
  if (lists != nullptr) {
    args.counters = nullptr;  // of what was selected from, who selected counts
    args.kv_len = lists->lengths;
    args.slots = lists->slots;
    args.slots_stride = lists->stride;
    args.slots_lengths = lists->row_lengths;
    args.slot_shift = std::countr_zero(static_cast<uint32_t>(lists->page_tokens));
    args.prefetch_lines = 0;
  }
  const Grid grid{.blocks = dim3(static_cast<unsigned>(choice.grid)),
                  .threads = dim3(static_cast<unsigned>(choice.shape.warps() * 32)),
                  .shared_bytes = static_cast<size_t>(choice.shape.shared_bytes())};
  void* arguments[] = {&args};
  launch_erased("attention_decode", kernel, grid, stream, arguments);
}

}  // namespace

DecodeArgs decode_args(const foveal_attention_params& params, const DecodeChoice& choice) {
  DecodeArgs args{};
  fill_rows(args, params);
  args.num_heads = params.num_heads;
  args.num_kv_heads = params.num_kv_heads * choice.passes;
  args.group = params.num_heads / args.num_kv_heads;
  args.passes = Divider::of(static_cast<uint32_t>(choice.passes));
  args.window = params.window;
  args.v_scale = params.kv_dtype == FOVEAL_E4M3 ? params.v_scale : 1.0F;
  args.skip_factor = params.skip_factor;
  args.skip_factors = params.skip_factors;
  args.threshold_len = params.threshold_len;
  args.counters = reinterpret_cast<unsigned long long*>(params.counters);
  auto* workspace = static_cast<char*>(params.workspace);
  args.arrivals = reinterpret_cast<uint32_t*>(workspace);
  args.tickets = args.arrivals + kMaxDecodeRows;
  args.stats = reinterpret_cast<float*>(workspace + choice.workspace.stats_offset);
  args.partial = reinterpret_cast<float*>(workspace + choice.workspace.partial_offset);
  args.chunk_units = Divider::of(static_cast<uint32_t>(choice.chunk_units));
  args.min_chunks_log2 = choice.min_chunks_log2;
  args.max_splits = choice.max_splits;
  args.prefetch_lines = choice.prefetch_lines;
  return args;
}

void attention_decode(const foveal_attention_params& params, void* stream) {
  decode_check(params);
  launch_decode(params, nullptr, stream);
}

foveal_attention_params listed_params(const foveal_attention_params& params, int64_t stride,
                                      int32_t page_tokens) {
  foveal_attention_params listed = params;
  listed.max_kv_len =
      static_cast<int32_t>(std::min<int64_t>(params.max_kv_len, stride * page_tokens));
  return listed;
}

void attention_decode_listed(const foveal_attention_params& params, const PageLists& lists,
                             void* stream) {
  launch_decode(listed_params(params, lists.stride, lists.page_tokens), &lists, stream);
}

size_t decode_workspace_bytes(const foveal_attention_params& params) {
  return decode_choose(params, kMaxDecodeGrid).workspace.bytes;
}

foveal_attention_tiling decode_tiling(const foveal_attention_params& params) {
  const int32_t group = params.num_heads / params.num_kv_heads;
  return {group / decode_passes(group, params.head_dim), kDecodeVoteKeys};
}

}  // namespace foveal::kernels::cuda
