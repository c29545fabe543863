#include "attention/paged.h"

#include "base/check.h"
#include "kernels/cuda/prefill_plan.h"

namespace foveal::attention {

Capabilities paged_capabilities(DeviceKind device) {
  Capabilities out{.devices = {DeviceKind::kCpu, DeviceKind::kCuda},
                   .kv_dtypes = {DType::kBF16, DType::kF16}};
  if (device == DeviceKind::kCpu) {
    out.kv_dtypes.push_back(DType::kF32);
  } else {
    out.kv_dtypes.push_back(DType::kF8E4M3);
    out.head_dims = {64, 96, 128, 192, 256};
  }
  return out;
}

int64_t vote_workspace_bytes(const ModelShape& shape, const StepLimits& limits) {
  kernels::cuda::PrefillLimits prefill{.num_seqs = limits.max_seqs,
                                       .num_rows = limits.max_rows,
                                       .max_kv_len = limits.max_kv_len,
                                       .num_heads = shape.num_heads,
                                       .num_kv_heads = shape.num_kv_heads,
                                       .head_dim = shape.head_dim};
  if (limits.kv_dtype == DType::kF8E4M3) prefill.laid_out_bytes = dtype_info(DType::kBF16).bytes;
  const int64_t planned = kernels::cuda::most_scratch_bytes(prefill);
  prefill.int8_votes = true;
  prefill.pool_keys = limits.max_cached;
  return (kernels::cuda::most_scratch_bytes(prefill) - planned) / 4 * 5;  // as DeviceWorkspace
}

kernels::PagedAttentionParams host_params(const AttendArgs& args) {
  FOVEAL_INVARIANT(args.activation == DType::kF32);
  return {.q = static_cast<const float*>(args.q),
          .out = static_cast<float*>(args.out),
          .q_stride = args.q_stride,
          .out_stride = args.out_stride,
          .num_heads = args.num_heads,
          .kv = args.kv,
          .seqs = args.seqs,
          .softmax_scale = args.softmax_scale,
          .counters = args.counters,
          .exact = args.exact};
}

void attend_paged(Phase phase, const AttendArgs& args, const SkipPolicy& skip, Stream& stream,
                  const kernels::TileMap& tile_map) {
  if (stream.device().kind == DeviceKind::kCuda) {
    FOVEAL_INVARIANT(tile_map.tiles == nullptr && args.device_seqs != nullptr);
    return attend_paged_cuda(phase, args, skip, stream);
  }
  FOVEAL_INVARIANT(!skip.int8_votes);
  kernels::PagedAttentionParams params = host_params(args);
  params.window = args.window;
  params.skip_factor = skip.factor;
  params.tile_map = tile_map;
  if (phase == Phase::kPrefill) {
    kernels::paged_prefill(params, stream);
  } else {
    kernels::paged_decode(params, stream);
  }
}

}  // namespace foveal::attention
