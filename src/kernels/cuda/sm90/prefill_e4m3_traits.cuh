#pragma once

#include "kernels/cuda/sm90/prefill_traits.cuh"

namespace foveal::cuda {

/// A prefill kernel over queries, keys and values in e4m3; the output is bf16.
template <int kHeadDim_, int kCluster_, bool kSkip_, bool kCount_>
struct E4m3Traits {
  using Element = Bf16;  ///< of the output
  static constexpr int kHeadDim = kHeadDim_;
  static constexpr int kValueDim = kHeadDim_;
  static constexpr int kCluster = kCluster_;
  static constexpr bool kSkip = kSkip_;
  static constexpr bool kCount = kCount_;
  static constexpr bool kListed = false;
  static constexpr bool kTiled = true;
  static constexpr bool kValuesApart = false;

  static constexpr int kValueBlocks = (kValueDim + 63) / 64;
  /// Three warpgroups where their accumulators fit 160 registers a thread: a product takes half the
  /// time it takes in bf16 and the exponentials take the same, so two warpgroups' softmax has to
  /// run beside the third one's products.
  static constexpr int kKeys = e4m3_keys(kHeadDim);
  static constexpr int kWarpgroups = e4m3_warpgroups(kHeadDim);
  static constexpr int kRows = 64 * kWarpgroups;
  static constexpr int kKeyStages = kHeadDim <= 128 ? 3 : 2;
  static constexpr int kValueStages = kKeyStages;
  static constexpr int kQueryStages = kHeadDim <= 128 ? 2 : 1;
  static constexpr int kThreads = 128 * (1 + kWarpgroups);
  static constexpr int kProducerRegisters = kWarpgroups == 2 ? 56 : 32;
  static constexpr int kConsumerRegisters = kWarpgroups == 2 ? 224 : 160;

  static constexpr int kTileBytes = kKeys * kHeadDim;
  /// V has another, constant group of channels, the first of which is one: its output is the sum of
  /// the probabilities as they were rounded. (256 channels are what a product can have.)
  static constexpr bool kOnes = kHeadDim < 256;
  static constexpr int kProductChannels = kHeadDim + (kOnes ? 8 : 0);
  static constexpr int kOutputs = kProductChannels / 2;
  static constexpr int kValueBlockBytes = 32 * kProductChannels;  ///< of 32 keys
  static constexpr int kValueTileBytes = kKeys / 32 * kValueBlockBytes;
  static constexpr int kKeyBytes = 2 * kHeadDim;
  static constexpr int kQueryBlockChannels = 32;
  static constexpr int kQueryBlocks = kHeadDim / kQueryBlockChannels;
  static constexpr int kQueryBlockBytes = 64 * 32;
  static constexpr int kQueryBytes = kQueryBlockBytes * kQueryBlocks;

  /// Tiles after which the tensor cores' sum goes to float32. They cut each product 13 bits below
  /// the largest of the products and the sum: after n equal ones about n * 2^-14 of it.
  static constexpr int kExactTiles = 768 / kKeys;
  static constexpr int kOutBytes = 64 * kProductChannels * 4;
};

template <int kHeadDim, int kCluster, bool kSkip, bool kCount>
struct PrefillShared<E4m3Traits<kHeadDim, kCluster, kSkip, kCount>> {
  using Traits = E4m3Traits<kHeadDim, kCluster, kSkip, kCount>;
  alignas(1024) uint8_t q[Traits::kQueryStages][Traits::kWarpgroups][Traits::kQueryBytes];
  alignas(1024) uint8_t k[Traits::kKeyStages][Traits::kTileBytes];
  alignas(1024) uint8_t v[Traits::kValueStages][Traits::kValueTileBytes];
  /// A warp's sums, float32, as its lanes hold them; at the end its rows on their way out.
  alignas(1024) uint8_t staging[Traits::kWarpgroups * 4][Traits::kOutBytes / 4];
  PrefillItem items[2];
  uint32_t next_index[kPrefillNextSlots];
  Barrier next_full[kPrefillNextSlots];
  Barrier item_full[2], item_empty[2];
  Barrier q_full[Traits::kQueryStages], q_empty[Traits::kQueryStages];
  unsigned long long counts[Traits::kWarpgroups][4];
  uint32_t kept[Traits::kWarpgroups][4];
  Barrier k_full[Traits::kKeyStages], k_empty[Traits::kKeyStages];
  Barrier v_full[Traits::kValueStages], v_empty[Traits::kValueStages];
};

}  // namespace foveal::cuda
