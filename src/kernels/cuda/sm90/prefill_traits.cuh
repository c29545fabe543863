#pragma once

#include <cstdint>

#include "kernels/cuda/device/mbarrier.cuh"
#include "kernels/cuda/device/wgmma.cuh"
#include "kernels/cuda/sm90/prefill_args.h"

namespace foveal::cuda {

/// Everything about a prefill kernel that is fixed when it is compiled. With kOwn_ channels below
/// kHeadDim_, a head has only these of its keys to itself, and shares the others with all heads:
/// one tensor holds a head's own channels and then its values, a second what is shared.
template <class Element_, int kHeadDim_, int kCluster_, bool kSkip_, bool kCount_,
          int kValueDim_ = kHeadDim_, int kOwn_ = kHeadDim_>
struct PrefillTraits {
  using Element = Element_;
  static constexpr int kHeadDim = kHeadDim_;
  static constexpr int kValueDim = kValueDim_;
  static constexpr int kOwn = kOwn_;
  static constexpr int kCluster = kCluster_;  ///< CTAs that share K and V: heads of one KV head
  static constexpr bool kSkip = kSkip_;
  static constexpr bool kCount = kCount_;

  /// Blocks of 64 channels: rows of a tile in shared memory are 128 bytes, as swizzling wants.
  static constexpr int kBlocks = (kHeadDim + 63) / 64;
  static constexpr int kValueBlocks = (kValueDim + 63) / 64;
  /// Keys a tile. Scores and their rounded copy take 0.75 * kKeys registers a thread beside the
  /// output's kValueDim / 2; both fit in 240 without spills, and two stages of K and V in 227 KiB.
  static constexpr int kKeys = prefill_keys(kHeadDim, kValueDim);
  /// Skip Softmax rounds in place of the scores, which leaves room for a third warpgroup.
  static constexpr int kWarpgroups = prefill_warpgroups(kHeadDim, kSkip);
  static constexpr int kRows = 64 * kWarpgroups;
  static constexpr int kKeyStages = 2;
  static constexpr int kValueStages = 2;
  /// The next block's queries come while this one's are in use, where they fit.
  static constexpr int kQueryStages = kHeadDim <= (kSkip ? 64 : kKeys == 64 ? 192 : 128) ? 2 : 1;
  /// Of kKeys / 16; as many as registers allow, and as fill the time of the last product.
  static constexpr int kEarlySteps = kHeadDim == 64 || kHeadDim == 256 ? 1 : kKeys == 128 ? 5 : 2;
  static constexpr int kThreads = 128 * (1 + kWarpgroups);
  /// Together what the launch gives: 168 a thread for three warpgroups, 128 for four.
  static constexpr int kProducerRegisters = kWarpgroups == 2 ? 56 : 32;
  static constexpr int kConsumerRegisters = kWarpgroups == 2 ? 224 : 160;

  /// V is copied by a warp of its own.
  static constexpr bool kValuesApart = kSkip;
  /// Only tiles of a list are worked on.
  static constexpr bool kListed = false;
  /// K and V come by tensor copies of rows; else in pieces that lie in memory as they do here.
  static constexpr bool kTiled = false;
  static constexpr int kOutputs = kValueDim / 2;                ///< accumulators a thread
  static constexpr int kKeyBytes = (kHeadDim + kValueDim) * 2;  ///< K and V of a key
  static constexpr int kQueryBlocks = kBlocks;  ///< tensor copies of a warpgroup's queries
  static constexpr int kQueryBlockChannels = 64;

  static constexpr int kBlockBytes = kKeys * 128;  ///< 64 channels of a tile of K or V
  static constexpr int kTileBytes = kBlockBytes * kBlocks;
  static constexpr int kValueTileBytes = kBlockBytes * kValueBlocks;
  static constexpr int kQueryBlockBytes = 64 * 128;  ///< 64 channels of one warpgroup's queries
  static constexpr int kQueryBytes = kQueryBlockBytes * kBlocks;
  static constexpr int kStagingBytes = 16 * 128;  ///< a warp's 16 rows of 64 output channels
  static constexpr int kStagings = kWarpgroups * 4;
};

/// Dense attention over the tiles that each vote unit keeps (args.kept). No cluster: heads that
/// vote for themselves want other tiles, and all of a cluster would get what any of them wants.
template <class Element_, int kHeadDim_>
struct ListedTraits : PrefillTraits<Element_, kHeadDim_, 1, false, false> {
  static constexpr bool kListed = true;
  /// With more of them warpgroups that want other tiles drift further apart. There is room because
  /// outputs leave by the memory of their queries.
  static constexpr int kValueStages = 3;
  static constexpr int kStagings = 1;
};

/// A key tile that somebody in the CTA keeps: its number, and a bit for each warpgroup that does.
struct PrefillEntry {
  static constexpr int kTileBits = 28;
  uint32_t packed = ~0U;  ///< no entry

  __device__ static PrefillEntry make(int32_t tile, uint32_t wants) {
    return {static_cast<uint32_t>(tile) | wants << kTileBits};
  }
  __device__ bool exists() const { return packed != ~0U; }
  __device__ int32_t tile() const { return static_cast<int32_t>(packed & ((1U << kTileBits) - 1)); }
  __device__ uint32_t wants() const { return packed >> kTileBits; }
};

/// One query block of one head, as the producer hands it to the consumers.
struct PrefillItem {
  int32_t seq;        ///< -1: no more work
  int32_t head;       ///< of the queries
  int32_t first_row;  ///< of q and out
  int32_t num_rows;   ///< that exist; the block's others are padding
  int32_t position;   ///< of the first row, in its sequence
  int32_t kv_len;
  int32_t key_base;      ///< row of k and v where the sequence begins; contiguous keys only
  int32_t first_tile;    ///< of keys
  int32_t end_tile;      ///< ListedTraits: behind the last entry
  float log2_threshold;  ///< Skip Softmax; -inf: nothing is dropped
  PrefillEntry first;    ///< ListedTraits
};

/// Item numbers on their way to the CTAs of a cluster. The first CTA sends the next one when it has
/// issued all copies of the last; those need what all CTAs' consumers have handed back, so that no
/// CTA is more than three behind.
inline constexpr int kPrefillNextSlots = 4;

template <class Traits>
struct PrefillShared {
  alignas(1024) uint8_t q[Traits::kQueryStages][Traits::kWarpgroups][Traits::kQueryBytes];
  alignas(1024) uint8_t k[Traits::kKeyStages][Traits::kTileBytes];
  alignas(1024) uint8_t v[Traits::kValueStages][Traits::kValueTileBytes];
  alignas(1024) uint8_t staging[Traits::kStagings][Traits::kStagingBytes];
  PrefillItem items[2];
  uint32_t next_index[kPrefillNextSlots];
  Barrier next_full[kPrefillNextSlots];
  Barrier item_full[2], item_empty[2];
  Barrier q_full[Traits::kQueryStages], q_empty[Traits::kQueryStages];
  unsigned long long counts[Traits::kWarpgroups][4];  ///< Skip Softmax: as the counters
  uint32_t kept[Traits::kWarpgroups][4];       ///< Skip Softmax: numbers of votes; see PrefillVotes
  PrefillEntry following[Traits::kKeyStages];  ///< ListedTraits: the entry after that in k
  Barrier k_full[Traits::kKeyStages], k_empty[Traits::kKeyStages];
  Barrier v_full[Traits::kValueStages], v_empty[Traits::kValueStages];
};

}  // namespace foveal::cuda
