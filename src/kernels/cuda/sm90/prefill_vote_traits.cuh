#pragma once

#include "kernels/cuda/sm90/prefill_traits.cuh"

namespace foveal::cuda {

/// Votes of Skip Softmax by scores in int8: a prefill kernel that has no values.
template <class Element_, int kHeadDim_>
struct VoteTraits {
  using Element = Element_;  ///< of the queries as they come
  static constexpr int kHeadDim = kHeadDim_;
  static constexpr int kCluster = 1;
  static constexpr bool kSkip = true;  ///< items have thresholds
  static constexpr bool kListed = false;
  static constexpr bool kTiled = true;
  static constexpr bool kValuesApart = false;

  static constexpr int kKeys = prefill_keys(kHeadDim);
  /// A fourth would leave too few registers.
  static constexpr int kWarpgroups = 3;
  static constexpr int kRows = 64 * kWarpgroups;
  static constexpr int kQueryStages = 1;  ///< enough: it is free as soon as queries are rounded
  static constexpr int kValueStages = 0;
  static constexpr int kThreads = 128 * (1 + kWarpgroups);
  /// Together what the launch gives: 128 a thread.
  static constexpr int kProducerRegisters = 32;
  static constexpr int kConsumerRegisters = 160;

  static constexpr int kTileBytes = kKeys * kHeadDim;
  static constexpr int kKeyBytes = kHeadDim;
  static constexpr int kQueryBlocks = (kHeadDim + 63) / 64;
  static constexpr int kQueryBlockChannels = 64;
  static constexpr int kQueryBlockBytes = 64 * 128;
  static constexpr int kQueryBytes = kQueryBlockBytes * kQueryBlocks;
  static constexpr int kKeyStages = kHeadDim == 256 ? 4 : 6;
  /// Tiles whose products follow each other without a break, and that a warp then votes on at once.
  static constexpr int kVoteBatch = 8;
};

template <class Element, int kHeadDim>
struct PrefillShared<VoteTraits<Element, kHeadDim>> {
  using Traits = VoteTraits<Element, kHeadDim>;
  alignas(1024) uint8_t q[Traits::kQueryStages][Traits::kWarpgroups][Traits::kQueryBytes];
  alignas(1024) uint8_t k[Traits::kKeyStages][Traits::kTileBytes];
  int32_t tops[Traits::kWarpgroups * 4][Traits::kVoteBatch * 64];
  PrefillItem items[2];
  uint32_t next_index[kPrefillNextSlots];
  Barrier next_full[kPrefillNextSlots];
  Barrier item_full[2], item_empty[2];
  Barrier q_full[Traits::kQueryStages], q_empty[Traits::kQueryStages];
  unsigned long long counts[Traits::kWarpgroups][4];
  uint32_t kept[Traits::kWarpgroups][8];  ///< a warp's bits of 32 tiles, in two sets of four
  Barrier k_full[Traits::kKeyStages], k_empty[Traits::kKeyStages];
};

}  // namespace foveal::cuda
