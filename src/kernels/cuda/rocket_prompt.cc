#include "base/check.h"
#include "base/math.h"
#include "device/cuda/properties.h"
#include "kernels/cuda/attention_check.h"
#include "kernels/cuda/key_args.h"
#include "kernels/cuda/launch_erased.h"
#include "kernels/cuda/rocket.h"
#include "kernels/cuda/rocket_launch.h"
#include "kernels/cuda/top_k_launch.h"

namespace foveal::kernels::cuda {
namespace {

using Params = foveal_rocket_prompt_params;

struct Workspace {
  size_t stats;  ///< offsets
  size_t scores;
  size_t pooled;
  size_t bytes;
};

int32_t row_blocks(const Params& p) {
  return static_cast<int32_t>(
      ceil_div(int64_t{p.num_heads / p.num_kv_heads} * p.window, kWindowRows));
}
int32_t splits(const Params& p) {
  return static_cast<int32_t>(ceil_div(p.prompt_len, kWindowSplit));
}

Workspace workspace_of(const Params& p) {
  const auto align = [](int64_t floats) { return static_cast<size_t>(round_up(floats * 4, 256)); };
  const int64_t heads = p.num_kv_heads;
  const int64_t blocks = row_blocks(p);
  Workspace out{};
  out.scores = align(heads * splits(p) * blocks * kWindowRows * 2);
  out.pooled = out.scores + align(heads * blocks * (p.prompt_len - p.window));
  out.bytes = out.pooled + align(heads * (p.prompt_len - p.window));
  return out;
}

WindowArgs window_args(const Params& p, const Workspace& offsets) {
  WindowArgs args{};
  set_scores(args.decode, p);
  args.decode.page_table = p.page_table;
  args.decode.page_shift = page_shift_of(p.page_table, p.page_size);
  args.decode.group = p.num_heads / p.num_kv_heads;
  args.num_kv_heads = p.num_kv_heads;
  args.prompt_len = p.prompt_len;
  args.window = p.window;
  args.row_blocks = row_blocks(p);
  args.splits = splits(p);
  auto* workspace = static_cast<char*>(p.workspace);
  args.stats = reinterpret_cast<float*>(workspace + offsets.stats);
  args.scores = reinterpret_cast<float*>(workspace + offsets.scores);
  return args;
}

void launch_window(const void* kernel, int32_t shared_bytes, WindowArgs& args, void* stream) {
  const Grid grid{
      .blocks = {static_cast<unsigned>(args.splits), static_cast<unsigned>(args.row_blocks),
                 static_cast<unsigned>(args.num_kv_heads)},
      .threads = dim3(256),
      .shared_bytes = static_cast<size_t>(shared_bytes)};
  void* arguments[] = {&args};
  launch_erased("rocket_window", kernel, grid, stream, arguments);
}

WindowKernels window_kernels(const Params& p) {
  switch (p.kv_dtype) {
    case FOVEAL_BF16:
      return rocket_window_kernels_bf16(p.head_dim);
    case FOVEAL_F16:
      return rocket_window_kernels_f16(p.head_dim);
    default:
      return rocket_window_kernels_e4m3(p.head_dim);
  }
}

}  // namespace

size_t rocket_prompt_workspace_bytes(const Params& params) {
  return params.prompt_len <= params.budget ? 0 : workspace_of(params).bytes;
}

void rocket_prompt(const Params& p, void* stream) {
  rocket_prompt_check(p);
  const int device = usable_device("rocket_prompt");
  if (p.prompt_len <= p.budget) {
    rocket_keep_range(p.kept, p.budget, p.num_kv_heads, /*first=*/0, p.prompt_len, stream);
    return;
  }
  const Workspace offsets = workspace_of(p);
  WindowArgs args = window_args(p, offsets);
  const WindowKernels kernels = window_kernels(p);
  FOVEAL_INVARIANT(kernels.rows != nullptr);
  launch_window(kernels.rows, kernels.shared_bytes, args, stream);
  launch_window(kernels.columns, kernels.shared_bytes, args, stream);
  const int32_t prefix = p.prompt_len - p.window;
  auto* pooled = reinterpret_cast<float*>(static_cast<char*>(p.workspace) + offsets.pooled);
  launch_rocket_pool({.scores = args.scores,
                      .pooled = pooled,
                      .sums = p.scores,
                      .kept = p.kept,
                      .num_kv_heads = p.num_kv_heads,
                      .parts = args.row_blocks,
                      .prefix = prefix,
                      .window = p.window,
                      .budget = p.budget,
                      .kernel_size = p.kernel_size,
                      .sink_tokens = p.sink_tokens},
                     stream);
  foveal_top_k_params top{};
  top.struct_size = sizeof(top);
  top.num_rows = p.num_kv_heads;
  top.values = pooled;
  top.row_stride = prefix;
  top.max_length = prefix;
  top.k = p.budget - p.window;
  top.indices = p.kept;
  top.indices_stride = p.budget;
  launch_top_k(top, foveal::cuda::device_properties(device).num_sms, stream);
}

void rocket_compact(const foveal_compact_params& params, void* stream) {
  rocket_compact_check(params);
  usable_device("rocket_compact");
  launch_rocket_compact(params, stream);
}

void rocket_candidates(const foveal_candidates_params& params, void* stream) {
  rocket_candidates_check(params);
  usable_device("rocket_candidates");
  launch_rocket_candidates(params, stream);
}

}  // namespace foveal::kernels::cuda
