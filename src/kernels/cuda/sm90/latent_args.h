#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace foveal::cuda {

inline constexpr int kLatentHeadDim = 576;
inline constexpr int kLatentValueDim = 512;
inline constexpr int kLatentHeads = 64;  ///< a tile
inline constexpr int kLatentKeys = 48;   ///< a tile
inline constexpr int kLatentGroup = 16;  ///< heads of a warp
/// Pieces of four values, two of a head and two of the eighth after it, that a warp's lane has.
inline constexpr int kLatentPieces = kLatentValueDim / 8;
inline constexpr int kLatentFp8Row = 656;
inline constexpr int kLatentMaxSplits = 64;
inline constexpr int kLatentFixedTiles = 11;  ///< of a fixed split: some 500 keys
/// CTAs that share a part where rows are few, a tile of keys each.
inline constexpr int kLatentCluster = 4;

/// What the kernels of latent attention need to know; see include/foveal/kernels_mla.h.
struct LatentArgs {
  const void* q;
  int64_t q_row_stride, q_head_stride;  ///< elements
  void* out;
  int64_t out_row_stride, out_head_stride;
  float* lse;

  const uint8_t* kv;
  int64_t page_bytes;
  int64_t limit;  ///< no slot of the pool, or token of a page table's row, is as large
  int32_t page_size;
  int32_t num_pages;
  int32_t contiguous;  ///< pages lie back to back: slot s is row s

  const int32_t* indices;
  int64_t indices_stride;
  const int32_t* counts;
  const int32_t* page_table;  ///< null: indices are slots
  int64_t page_table_stride;
  const int32_t* row_seq;

  int32_t num_rows, num_heads, max_keys;
  int32_t tiles;   ///< of heads
  int32_t groups;  ///< of 16 heads
  int32_t splits;  ///< of a row's keys
  int32_t fixed;   ///< a row has at most a split for each kLatentFixedTiles tiles of its own
  float scale_log2;

  /// Parts of split rows: outputs relative to 2^reference, [row][split][group of 16 heads] as a
  /// warp's accumulators have them, and [row][split][head] of (reference, sum).
  float4* parts;
  float2* part_stats;
};

/// One tile of heads, one row, one share of its keys.
struct LatentItem {
  int32_t row, tile, split;
  int32_t count;       ///< keys of the row, of all its splits
  int32_t begin, end;  ///< tiles of keys
};

cudaError_t latent_launch_bf16(const LatentArgs& args, int32_t num_sms, cudaStream_t stream);
cudaError_t latent_launch_e4m3(const LatentArgs& args, int32_t num_sms, cudaStream_t stream);
/// For splits of at most kLatentCluster tiles.
cudaError_t latent_launch_cluster_bf16(const LatentArgs& args, cudaStream_t stream);
cudaError_t latent_launch_cluster_e4m3(const LatentArgs& args, cudaStream_t stream);
cudaError_t latent_launch_combine(const LatentArgs& args, cudaStream_t stream);

}  // namespace foveal::cuda
