#include "kernels/cuda/prefill.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/check.h"
#include "device/cuda/check.h"
#include "device/cuda/driver.h"
#include "device/cuda/properties.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/attention_check.h"
#include "kernels/cuda/key_args.h"
#include "kernels/cuda/prefill_plan.h"
#include "kernels/cuda/prefill_tiles.h"

namespace foveal::kernels::cuda {
namespace {

using foveal::cuda::PrefillArgs;
using foveal::cuda::PrefillLaunch;
using foveal::cuda::PrefillMaps;
using Params = foveal_attention_params;

constexpr std::string_view kWhere = "attention_prefill";

CUtensorMap key_map(const Params& p, const void* data, int64_t page_stride, int64_t head_stride,
                    int64_t token_stride, int32_t box_rows) {
  const bool paged = p.page_table != nullptr;
  const auto rows = static_cast<uint64_t>(paged ? p.page_size : p.num_pages);
  const auto pages = static_cast<uint64_t>(paged ? p.num_pages : 1);
  return prefill_map(
      data, p.kv_dtype,
      {static_cast<uint64_t>(p.head_dim), rows, static_cast<uint64_t>(p.num_kv_heads), pages},
      {token_stride, head_stride, paged ? page_stride : head_stride}, 4,
      {64, static_cast<uint32_t>(box_rows), 1, 1});
}

PrefillMaps make_maps(const Params& p, const PrefillConfig& config) {
  PrefillMaps maps;
  maps.q = prefill_query_map(p);
  if (p.kv_dtype == FOVEAL_E4M3) {  // copied without one
    maps.k = maps.v = maps.q;
    return maps;
  }
  maps.k = key_map(p, p.k, p.k_page_stride, p.k_head_stride, p.k_token_stride, config.box_rows);
  maps.v = key_map(p, p.v, p.v_page_stride, p.v_head_stride, p.v_token_stride, config.box_rows);
  return maps;
}

/// The kernels of a head size.
struct Launches {
  int32_t head_dim;
  PrefillLaunch plain, listed, e4m3;
};

PrefillLaunch find_launch(const PrefillConfig& config, bool e4m3) {
  namespace sm90 = foveal::cuda;
  static constexpr Launches kAll[] = {
      {64, sm90::prefill_d64_launch, sm90::prefill_listed_d64_launch,
       sm90::prefill_e4m3_d64_launch},
      {96, sm90::prefill_d96_launch, sm90::prefill_listed_d96_launch,
       sm90::prefill_e4m3_d96_launch},
      {128, sm90::prefill_d128_launch, sm90::prefill_listed_d128_launch,
       sm90::prefill_e4m3_d128_launch},
      {192, sm90::prefill_d192_launch, sm90::prefill_listed_d192_launch,
       sm90::prefill_e4m3_d192_launch},
      {256, sm90::prefill_d256_launch, sm90::prefill_listed_d256_launch,
       sm90::prefill_e4m3_d256_launch}};
  const auto* found = std::find_if(std::begin(kAll), std::end(kAll), [&](const Launches& one) {
    return one.head_dim == config.head_dim;
  });
  FOVEAL_INVARIANT(found != std::end(kAll));  // checked with the other sizes
  if (e4m3) return found->e4m3;
  return config.choice.listed ? found->listed : found->plain;
}

}  // namespace

CUtensorMap prefill_map(const void* data, int32_t dtype, std::array<uint64_t, 4> extents,
                        std::array<int64_t, 3> strides, int rank, std::array<uint32_t, 4> box) {
  std::array<uint64_t, 3> bytes{};
  std::transform(strides.begin(), strides.end(), bytes.begin(), [&](int64_t stride) {
    return static_cast<uint64_t>(stride * element_bytes(dtype));
  });
  const std::array<uint32_t, 4> steps{1, 1, 1, 1};
  const CUtensorMapDataType type = dtype == FOVEAL_F16    ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16
                                   : dtype == FOVEAL_BF16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
                                                          : CU_TENSOR_MAP_DATA_TYPE_UINT8;
  const CUtensorMapSwizzle swizzle =
      dtype == FOVEAL_E4M3 ? CU_TENSOR_MAP_SWIZZLE_32B : CU_TENSOR_MAP_SWIZZLE_128B;
  CUtensorMap map;
  foveal::cuda::check(
      foveal::cuda::driver().tensor_map_encode_tiled(
          &map, type, static_cast<uint32_t>(rank), const_cast<void*>(data), extents.data(),
          bytes.data(), box.data(), steps.data(), CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle,
          CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
      "cuTensorMapEncodeTiled");
  return map;
}

CUtensorMap prefill_query_map(const Params& p) {
  return prefill_map(p.q, p.q_dtype,
                     {static_cast<uint64_t>(p.head_dim), static_cast<uint64_t>(p.num_heads),
                      static_cast<uint64_t>(p.num_rows)},
                     {p.q_head_stride, p.q_row_stride, 0}, 3,
                     {p.q_dtype == FOVEAL_E4M3 ? 32U : 64U, 1, 64});
}

PrefillArgs prefill_args(const Params& p, int64_t lse_row_stride, int32_t box_rows,
                         int64_t l2_bytes) {
  constexpr float kLog2E = 1.4426950408889634F;
  PrefillArgs args{};
  set_sequences(args, p);
  args.out = p.out;
  args.out_row_stride = p.out_row_stride;
  args.out_head_stride = p.out_head_stride;
  args.lse = p.lse;
  args.lse_row_stride = lse_row_stride;
  args.cu_q = p.cu_q;
  args.cu_k = p.page_table == nullptr ? p.cu_k : nullptr;
  args.skip_factors = p.skip_factors;
  args.threshold_len = p.threshold_len;
  args.counters = reinterpret_cast<unsigned long long*>(p.counters);
  args.next_item = static_cast<uint32_t*>(p.workspace);
  args.num_heads = p.num_heads;
  args.num_kv_heads = p.num_kv_heads;
  args.group = p.num_heads / p.num_kv_heads;
  args.box_rows = box_rows;
  args.window = p.window;
  // Two thirds: queries, outputs and what is on its way out need the rest.
  args.l2_head_bytes = static_cast<int32_t>(std::min<int64_t>(l2_bytes * 2 / 3, INT32_MAX));
  args.scale_log2 = p.softmax_scale * p.q_scale * p.k_scale * kLog2E;
  args.out_scale = p.v_scale;
  args.skip_factor = p.skip_factor;
  return args;
}

PrefillConfig choose_prefill(const Params& params, bool listed) {
  PrefillConfig config;
  config.head_dim = params.head_dim;
  config.choice.f16 = params.q_dtype == FOVEAL_F16;
  // Pairs of heads of one KV head read each tile of K and V from L2 once.
  config.choice.listed = listed;
  config.choice.cluster = !listed && params.num_heads / params.num_kv_heads % 2 == 0 ? 2 : 1;
  config.choice.skip = params.skip_factor > 0;
  config.choice.count = config.choice.skip && params.counters != nullptr;
  const int32_t mine = foveal::cuda::prefill_keys(params.head_dim) / config.choice.cluster;
  config.box_rows = params.page_table == nullptr ? mine : std::min(mine, params.page_size);
  return config;
}

void launch_prefill(const Params& params, int64_t lse_row_stride, const PrefillTiles& tiles,
                    const foveal::cuda::KeptTiles& kept, void* stream) {
  const auto& properties = foveal::cuda::device_properties(usable_device(kWhere));
  const PrefillConfig config = choose_prefill(params, kept.bits != nullptr);
  const PrefillMaps maps = make_maps(params, config);
  PrefillArgs args = prefill_args(params, lse_row_stride, config.box_rows, properties.l2_bytes);
  args.k_tiles = tiles.k;
  args.v_tiles = tiles.v;
  args.tiles_head_bytes = tiles.head_bytes;
  args.kept = kept;
  const PrefillLaunch launch = find_launch(config, params.q_dtype == FOVEAL_E4M3);
  foveal::cuda::check_launch(
      launch(config.choice, args, maps, properties.num_sms, static_cast<cudaStream_t>(stream)),
      "attention_prefill");
}

void attention_prefill(const Params& params, void* stream) {
  prefill_check_sizes(params);
  check_attention(params, kWhere);
  FOVEAL_CHECK(params.cu_q != nullptr, ErrorKind::kInvalidArgument, kWhere,
               "got no cu_q; need its address on the device");
  FOVEAL_CHECK(params.counters == nullptr || params.skip_factor > 0, ErrorKind::kInvalidArgument,
               kWhere, "got counters without a skip_factor; need none (dense drops nothing)");
  const bool scratch = needs_scratch(params);
  const auto least = static_cast<size_t>(scratch ? least_scratch_bytes(scratch_shape(params))
                                                 : kPrefillCounterBytes);
  FOVEAL_CHECK(params.workspace != nullptr && params.workspace_bytes >= least,
               ErrorKind::kInvalidArgument, kWhere, "got a workspace of {} bytes; need {}",
               params.workspace == nullptr ? 0 : params.workspace_bytes, least);
  if (scratch) {
    prefill_by_scratch(params, stream);
  } else {
    launch_prefill(params, params.num_heads, {}, {}, stream);
  }
}

void prefill_check_sizes(const Params& params) {
  check_sizes(params, kWhere);
  if (needs_scratch(params)) check_scratch(params);
}

size_t prefill_workspace_bytes(const Params& params) {
  if (!needs_scratch(params)) return static_cast<size_t>(kPrefillCounterBytes);
  return static_cast<size_t>(wanted_scratch_bytes(scratch_shape(params)));
}

size_t prefill_pool_workspace_bytes(const Params& params) {
  if (!needs_scratch(params)) return static_cast<size_t>(kPrefillCounterBytes);
  const int64_t keys = int64_t{params.num_pages} * (params.page_table ? params.page_size : 1);
  ScratchShape shape = scratch_shape(params);
  // Of the tiles that are kept, too, nearly as much for every call: of prompts as long as the pool,
  // in steps of so many rows.
  Params most = params;
  most.num_rows = static_cast<int32_t>(std::min<int64_t>(pool_rows(params.num_rows), INT32_MAX));
  most.max_kv_len = static_cast<int32_t>(
      std::min<int64_t>(std::max<int64_t>(keys, params.max_kv_len), INT32_MAX));
  shape.kept_bytes = scratch_shape(most).kept_bytes;
  return static_cast<size_t>(pool_scratch_bytes(shape, keys));
}

foveal_attention_tiling prefill_tiling(const Params& params) {
  return {.vote_rows = 64,
          .keys = prefill_tile_keys(params.head_dim, params.q_dtype == FOVEAL_E4M3)};
}

}  // namespace foveal::kernels::cuda
