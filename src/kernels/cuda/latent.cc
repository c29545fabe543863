#include "kernels/cuda/latent.h"

#include <algorithm>

#include "base/check.h"
#include "base/math.h"
#include "device/cuda/check.h"
#include "device/cuda/properties.h"
#include "kernels/cuda/attention_check.h"
#include "kernels/cuda/latent_launch.h"

namespace foveal::kernels::cuda {
namespace {

using foveal::cuda::LatentArgs;

constexpr double kLog2E = 1.4426950408889634;
/// Items of a launch whose splits are fixed: 66 MiB of parts, and four for each of 132 processors.
constexpr int64_t kFixedItems = 528;

bool fixed_splits(const foveal_mla_params& p) { return (p.flags & FOVEAL_MLA_FIXED_SPLITS) != 0; }

int32_t processors() {
  return foveal::cuda::device_properties(usable_device("mla_attention")).num_sms;
}

int32_t head_tiles(const foveal_mla_params& p) {
  return static_cast<int32_t>(ceil_div(p.num_heads, foveal::cuda::kLatentHeads));
}

int32_t head_groups(const foveal_mla_params& p) {
  return static_cast<int32_t>(ceil_div(p.num_heads, foveal::cuda::kLatentGroup));
}

int64_t cluster_splits(const foveal_mla_params& p) {
  return ceil_div(p.max_keys, foveal::cuda::kLatentKeys * foveal::cuda::kLatentCluster);
}

/// Fixed splits are many however many rows there are, so a launch takes some rows only.
int32_t rows_at_once(const foveal_mla_params& p, int32_t splits) {
  if (!fixed_splits(p)) return p.num_rows;
  const int64_t rows = kFixedItems / (int64_t{head_tiles(p)} * splits);
  return static_cast<int32_t>(std::clamp<int64_t>(rows, 1, p.num_rows));
}

size_t part_bytes(const foveal_mla_params& p, int32_t splits) {
  return static_cast<size_t>(rows_at_once(p, splits)) * static_cast<size_t>(head_groups(p)) *
         static_cast<size_t>(splits) * foveal::cuda::kLatentGroup * FOVEAL_MLA_VALUE_DIM *
         sizeof(float);
}
size_t workspace_bytes(const foveal_mla_params& p, int32_t splits) {
  if (splits == 1) return 0;
  return part_bytes(p, splits) + part_bytes(p, splits) / (FOVEAL_MLA_VALUE_DIM / 2);
}

/// Few rows over some hundreds or thousands of keys: whether clusters, a tile of keys a CTA, leave
/// a quarter of the GPU free.
bool by_clusters(const foveal_mla_params& p, int32_t processors) {
  if (p.splits > 0 || fixed_splits(p)) return false;
  const int64_t splits = cluster_splits(p);
  return splits > 1 && splits <= foveal::cuda::kLatentMaxSplits &&
         int64_t{p.num_rows} * head_tiles(p) * splits * foveal::cuda::kLatentCluster <=
             int64_t{processors} * 3 / 4;
}

/// Two at least: a row of one part takes the same way in any call.
int32_t most_fixed_splits(const foveal_mla_params& p) {
  const int64_t splits =
      ceil_div(p.max_keys, foveal::cuda::kLatentKeys * foveal::cuda::kLatentFixedTiles);
  return static_cast<int32_t>(std::clamp<int64_t>(splits, 2, foveal::cuda::kLatentMaxSplits));
}

void attend(const foveal_mla_params& p, int32_t splits, void* stream) {
  const bool bf16 = p.cache.dtype == FOVEAL_BF16;
  const int64_t row = bf16 ? FOVEAL_MLA_HEAD_DIM * 2 : FOVEAL_MLA_FP8_ROW;
  const LatentArgs args = latent_args(p, row, splits);
  auto* on = static_cast<cudaStream_t>(stream);
  if (by_clusters(p, processors())) {
    foveal::cuda::check_launch(bf16 ? foveal::cuda::latent_launch_cluster_bf16(args, on)
                                    : foveal::cuda::latent_launch_cluster_e4m3(args, on),
                               "latent_cluster");
  } else {
    foveal::cuda::check_launch(bf16 ? foveal::cuda::latent_launch_bf16(args, processors(), on)
                                    : foveal::cuda::latent_launch_e4m3(args, processors(), on),
                               "latent_attention");
  }
  if (splits > 1) {
    foveal::cuda::check_launch(foveal::cuda::latent_launch_combine(args, on), "latent_combine");
  }
}

}  // namespace

LatentArgs latent_args(const foveal_mla_params& p, int64_t row_bytes, int32_t splits) {
  LatentArgs args{};
  args.q = p.q;
  args.q_row_stride = p.q_row_stride;
  args.q_head_stride = p.q_head_stride;
  args.out = p.out;
  args.out_row_stride = p.out_row_stride;
  args.out_head_stride = p.out_head_stride;
  args.lse = p.lse;
  const foveal_latent_cache& cache = p.cache;
  args.kv = static_cast<const uint8_t*>(cache.data);
  args.page_bytes = cache.page_bytes;
  args.page_size = cache.page_size;
  args.num_pages = cache.num_pages;
  args.contiguous = cache.page_bytes == row_bytes * cache.page_size ? 1 : 0;
  args.limit =
      (p.page_table == nullptr ? int64_t{cache.num_pages} : p.page_table_stride) * cache.page_size;
  args.indices = p.indices;
  args.indices_stride = p.indices_stride;
  args.counts = p.counts;
  args.page_table = p.page_table;
  args.page_table_stride = p.page_table_stride;
  args.row_seq = p.row_seq;
  args.num_rows = p.num_rows;
  args.num_heads = p.num_heads;
  args.max_keys = p.max_keys;
  args.tiles = head_tiles(p);
  args.groups = head_groups(p);
  args.splits = splits;
  args.fixed = fixed_splits(p) ? 1 : 0;
  args.scale_log2 = static_cast<float>(double{p.softmax_scale} * kLog2E);
  if (splits > 1) {
    args.parts = static_cast<float4*>(p.workspace);
    args.part_stats =
        reinterpret_cast<float2*>(static_cast<char*>(p.workspace) + part_bytes(p, splits));
  }
  return args;
}

/// The least of an estimate in microseconds: rounds of items, each of its key tiles and a start;
/// and for split rows what writing and joining the parts costs.
int32_t mla_splits(const foveal_mla_params& p, int32_t processors) {
  if (p.splits > 0) return p.splits;
  if (fixed_splits(p)) return most_fixed_splits(p);
  if (p.num_rows > 65535) return 1;
  if (by_clusters(p, processors)) return static_cast<int32_t>(cluster_splits(p));
  const double per_tile = p.cache.dtype == FOVEAL_BF16 ? 1.5 : 1.9;
  constexpr double kStart = 4;
  constexpr double kJoin = 3.5;
  constexpr double kBytesPerUs = 2.5e6;
  const int64_t tiles = ceil_div(p.max_keys, foveal::cuda::kLatentKeys);
  const int64_t items = int64_t{p.num_rows} * head_tiles(p);
  double least = 0;
  int32_t best = 0;
  for (int32_t splits = 1; splits <= std::min<int64_t>(tiles, foveal::cuda::kLatentMaxSplits);
       ++splits) {
    const auto rounds = static_cast<double>(ceil_div(items * splits, processors));
    double cost = rounds * (static_cast<double>(ceil_div(tiles, splits)) * per_tile + kStart);
    if (splits > 1) cost += kJoin + static_cast<double>(part_bytes(p, splits)) / kBytesPerUs;
    if (best == 0 || cost < least) {
      least = cost;
      best = splits;
    }
  }
  return best;
}

foveal_mla_params mla_some_rows(foveal_mla_params p, int32_t first, int32_t count) {
  constexpr int64_t kBf16 = 2;
  p.num_rows = count;
  p.q = static_cast<const char*>(p.q) + first * p.q_row_stride * kBf16;
  p.out = static_cast<char*>(p.out) + first * p.out_row_stride * kBf16;
  if (p.lse != nullptr) p.lse += int64_t{first} * p.num_heads;
  if (p.indices != nullptr) p.indices += first * p.indices_stride;
  if (p.counts != nullptr) p.counts += first;
  if (p.row_seq != nullptr) {
    p.row_seq += first;
  } else if (p.page_table != nullptr) {
    p.page_table += first * p.page_table_stride;
  }
  return p;
}

int32_t mla_splits(const foveal_mla_params& params) { return mla_splits(params, processors()); }

size_t mla_workspace_bytes(const foveal_mla_params& params) {
  return workspace_bytes(params, mla_splits(params));
}

void mla_attention(const foveal_mla_params& p, void* stream) {
  mla_check(p);
  const int32_t splits = mla_splits(p);
  const size_t bytes = workspace_bytes(p, splits);
  FOVEAL_CHECK(bytes == 0 ||
                   (p.workspace != nullptr && reinterpret_cast<uintptr_t>(p.workspace) % 256 == 0 &&
                    p.workspace_bytes >= bytes),
               ErrorKind::kInvalidArgument, "mla_attention",
               "got {} bytes of workspace at {}; need {} at a multiple of 256", p.workspace_bytes,
               fmt::ptr(p.workspace), bytes);
  const int32_t at_once = rows_at_once(p, splits);
  for (int32_t first = 0; first < p.num_rows; first += at_once) {
    const int32_t count = std::min(at_once, p.num_rows - first);
    attend(mla_some_rows(p, first, count), splits, stream);
  }
}

void mla_rows(const foveal_mla_rows_params& params, void* stream) {
  mla_rows_check(params);
  usable_device("mla_rows");
  launch_latent_rows(params, stream);
}

void mla_store(const foveal_mla_store_params& params, void* stream) {
  mla_store_check(params);
  usable_device("mla_store");
  launch_latent_store(params, LatentDims{}, stream);
}

}  // namespace foveal::kernels::cuda
