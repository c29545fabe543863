#include "kernels/cuda/indexer.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "base/math.h"
#include "device/cuda/check.h"
#include "device/cuda/driver.h"
#include "device/cuda/properties.h"
#include "kernels/cuda/attention_check.h"
#include "kernels/cuda/indexer_launch.h"

namespace foveal::kernels::cuda {
namespace {

using foveal::cuda::IndexerArgs;
using Scores = foveal_indexer_scores_params;

/// Rows of `dim` bytes in boxes of 128: what is past dim reads as zero.
CUtensorMap row_map(const void* data, int32_t dim, int64_t rows, int64_t pages, int64_t page_bytes,
                    int32_t box_rows) {
  const std::array<uint64_t, 3> extents{static_cast<uint64_t>(dim), static_cast<uint64_t>(rows),
                                        static_cast<uint64_t>(pages)};
  const std::array<uint64_t, 2> bytes{static_cast<uint64_t>(dim),
                                      static_cast<uint64_t>(page_bytes)};
  const std::array<uint32_t, 3> box{128, static_cast<uint32_t>(box_rows), 1};
  const std::array<uint32_t, 3> steps{1, 1, 1};
  CUtensorMap map;
  foveal::cuda::check(foveal::cuda::driver().tensor_map_encode_tiled(
                          &map, CU_TENSOR_MAP_DATA_TYPE_UINT8, 3, const_cast<void*>(data),
                          extents.data(), bytes.data(), box.data(), steps.data(),
                          CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                          CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
                      "cuTensorMapEncodeTiled");
  return map;
}

/// Runs of keys so long that filling and draining a run's pipeline costs little, and so short that
/// every SM has several items.
int32_t chunk_keys(const Scores& p, int32_t num_sms) {
  constexpr int64_t kLeast = 512;
  constexpr int64_t kMost = 16384;
  constexpr int64_t kItemsAnSm = 16;
  const int64_t blocks = ceil_div(p.row_count, indexer_block_rows(p.num_heads));
  const int64_t chunks = ceil_div(kItemsAnSm * num_sms, blocks);
  return static_cast<int32_t>(
      std::clamp(round_up(ceil_div(p.max_kv_len, chunks), kLeast), kLeast, kMost));
}

IndexerArgs make_args(const Scores& p, int32_t num_sms) {
  IndexerArgs args{};
  args.weights = p.weights;
  args.cu_q = p.cu_q;
  args.kv_len = p.kv_len;
  args.page_table = p.page_table;
  args.row_end = p.row_end;
  args.keys = static_cast<const uint8_t*>(p.keys.data);
  args.scores = p.scores;
  args.page_table_stride = p.page_table_stride;
  args.page_bytes = p.keys.page_bytes;
  args.row_stride = p.row_stride;
  args.scales_offset = p.keys.page_size * p.head_dim;
  args.page_size = p.keys.page_size;
  args.box_rows = std::gcd(p.keys.page_size, 64);
  args.num_seqs = p.num_seqs;
  // Of few sequences: with 32 it cost 2 % instead.
  if (p.num_seqs <= 4) {
    args.table_pages = static_cast<int32_t>(
        std::min(ceil_div(p.max_kv_len, p.keys.page_size), p.page_table_stride));
  }
  args.first_position = p.first_position;
  args.row_begin = p.row_begin;
  args.row_count = p.row_count;
  args.chunk_keys = chunk_keys(p, num_sms);
  return args;
}

}  // namespace

void indexer_prepare(const foveal_indexer_prepare_params& params, void* stream) {
  indexer_prepare_check(params);
  usable_device("indexer_prepare");
  launch_indexer_prepare(params, stream);
}

void indexer_scores(const foveal_indexer_scores_params& params, void* stream) {
  indexer_scores_check(params);
  const int32_t num_sms = foveal::cuda::device_properties(usable_device("indexer_scores")).num_sms;
  const IndexerArgs args = make_args(params, num_sms);
  const bool paged = params.cu_q == nullptr;
  const int64_t columns = int64_t{params.num_rows} * params.num_heads;
  IndexerMaps maps;
  maps.q = row_map(params.q, params.head_dim, columns, 1, columns * params.head_dim,
                   indexer_query_box(params.num_heads, paged));
  maps.k = row_map(params.keys.data, params.head_dim, params.keys.page_size, params.keys.num_pages,
                   params.keys.page_bytes, args.box_rows);
  const auto run = paged ? launch_indexer_paged : launch_indexer_ragged;
  run(params.num_heads, args, maps, num_sms, stream);
}

}  // namespace foveal::kernels::cuda
