#pragma once

#include <cstdint>

#include "kernels/cuda/device/mbarrier.cuh"
#include "kernels/cuda/sm90/latent_args.h"

namespace foveal::cuda {

/// How rows of the cache become tiles. bf16 rows are copied to their place: three tiles of 48 keys
/// rather than two of 64, so that one is filled while two are multiplied.
struct LatentBf16 {
  static constexpr bool kTakeTurns = true;
  static constexpr int kStages = 3;
  static constexpr int kRawStages = 0;
};
/// 656-byte rows are brought as they are, by the output's warps, which have the time, and widened
/// from there.
struct LatentE4m3 {
  static constexpr bool kTakeTurns = false;  ///< so that tiles are handed back early
  static constexpr int kStages = 2;
  static constexpr int kRawStages = 2;
};

/// What a latent attention kernel is made of. A CTA has four warpgroups: one makes tiles of keys,
/// one computes scores and probabilities, two multiply probabilities with the left and the right
/// half of the values. So the accumulators of 64 heads x 512 channels (half of the registers there
/// are) leave room for everything else, and products and softmax of neighbouring tiles overlap.
template <class Format>
struct LatentTraits {
  static constexpr int kKeys = kLatentKeys;
  static constexpr bool kTakeTurns = Format::kTakeTurns;
  static constexpr int kStages = Format::kStages;      ///< tiles of keys
  static constexpr int kBlocks = kLatentHeadDim / 64;  ///< of 64 channels: 128-byte rows
  /// Blocks of the queries that the scores' warpgroup holds in registers; the others are read from
  /// shared memory by each product, which has no bandwidth to spare.
  static constexpr int kRegisterBlocks = 4;
  static constexpr int kSharedBlocks = kBlocks - kRegisterBlocks;

  static constexpr int kThreads = 512;
  /// Together what the launch gives, 128 a thread.
  static constexpr int kProducerRegisters = 56;
  static constexpr int kScoreRegisters = 136;
  static constexpr int kOutputRegisters = 160;

  static constexpr int kQueryBlockBytes = kLatentHeads * 128;
  static constexpr int kKeyBlockBytes = kKeys * 128;
  static constexpr int kRawStages = Format::kRawStages;  ///< tiles of rows as they are stored
  static constexpr int kRawBytes = kRawStages > 0 ? kKeys* kLatentFp8Row : 16;
};

/// The probabilities of a tile lie where its rotating channels were, which nobody needs any more:
/// for each 16 keys 64 rows of 32 bytes, in 32-byte swizzle.
__device__ inline uint32_t latent_p_offset(int32_t step, int32_t row, int32_t chunk) {
  return step * kLatentHeads * 32 + row * 32 + ((chunk ^ (row / 4 % 2)) * 16);
}

template <class Traits>
struct LatentShared {
  static constexpr int kRaw = Traits::kRawStages > 0 ? Traits::kRawStages : 1;
  alignas(1024) uint8_t q[Traits::kSharedBlocks][Traits::kQueryBlockBytes];
  alignas(1024) uint8_t k[Traits::kStages][Traits::kBlocks][Traits::kKeyBlockBytes];
  alignas(128) uint8_t raw[kRaw][Traits::kRawBytes];
  uint32_t none[Traits::kStages][2];     ///< bits of the keys that are none
  alignas(8) uint8_t raw_none[kRaw][8];  ///< of six keys each
  int64_t offsets[3][Traits::kKeys];     ///< of rows in the pool, for the fetching warpgroup
  float alpha[Traits::kStages][kLatentHeads];
  uint32_t rescale[Traits::kStages][4];  ///< whether rows of a warp have an alpha
  float2 totals[kLatentHeads];           ///< of an item: reference (log2), sum
  Barrier raw_full[kRaw], raw_empty[kRaw];
  Barrier k_full[Traits::kStages], k_empty[Traits::kStages];
  Barrier p_full[Traits::kStages];
  Barrier totals_full, totals_empty;
};

/// Lane q of four neighbours gives word k of row q and takes word q of row k: so that fragments of
/// products meet memory in pieces of 16 bytes.
__device__ inline void latent_quad_transpose(uint32_t (&x)[4]) {
  const bool odd = threadIdx.x % 2 != 0;
  const bool upper = threadIdx.x % 4 >= 2;
#pragma unroll
  for (int i = 0; i < 4; i += 2) {
    const uint32_t got = __shfl_xor_sync(~0U, odd ? x[i] : x[i + 1], 1);
    (odd ? x[i] : x[i + 1]) = got;
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const uint32_t got = __shfl_xor_sync(~0U, upper ? x[i] : x[i + 2], 2);
    (upper ? x[i] : x[i + 2]) = got;
  }
}

/// Items are dealt in order, those of a row to neighbours, which read the same keys.
__device__ inline int32_t latent_items(const LatentArgs& args) {
  return args.num_rows * args.splits * args.tiles;
}

__device__ inline int32_t latent_count(const LatentArgs& args, int32_t row) {
  return args.counts == nullptr ? args.max_keys
                                : max(0, min(__ldg(args.counts + row), args.max_keys));
}

/// Of a row of `count` keys: its tiles, dealt to as many splits as there are, or as it has tiles.
/// Fixed: to as many as it always has, which LatentArgs::splits does not undercut.
struct LatentShares {
  uint32_t tiles, splits;

  __device__ LatentShares(int32_t count, const LatentArgs& args)
      : tiles((static_cast<uint32_t>(count) + kLatentKeys - 1) / kLatentKeys),
        splits(min(args.fixed == 0 ? tiles : (tiles + kLatentFixedTiles - 1) / kLatentFixedTiles,
                   static_cast<uint32_t>(args.splits))) {}
  /// First tile of a split.
  __device__ int32_t begin(uint32_t split) const {
    static_assert(uint64_t{INT32_MAX} / kLatentKeys * kLatentMaxSplits < UINT32_MAX);
    return static_cast<int32_t>(split >= splits ? tiles : tiles * split / splits);
  }
};

__device__ inline LatentItem latent_item(const LatentArgs& args, int32_t index) {
  LatentItem item;
  item.tile = index % args.tiles;
  index /= args.tiles;
  item.split = index % args.splits;
  item.row = index / args.splits;
  item.count = latent_count(args, item.row);
  const LatentShares shares(item.count, args);
  item.begin = shares.begin(item.split);
  item.end = shares.begin(item.split + 1);
  return item;
}

}  // namespace foveal::cuda
