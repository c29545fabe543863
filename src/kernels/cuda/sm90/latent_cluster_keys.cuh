#pragma once

#include "kernels/cuda/sm90/latent_producer.cuh"

namespace foveal::cuda {

/// What a CTA tells the others of its cluster about its keys.
struct alignas(128) LatentShare {
  uint8_t p[kLatentHeads * kLatentKeys * 2];  ///< probabilities, in units of 2^reference
  float2 totals[kLatentHeads];                ///< a head's reference, a whole number, and sum
};

struct LatentClusterShared {
  static constexpr int kThreads = 512;
  static constexpr int kCtas = kLatentCluster;
  static constexpr int kKeyBlocks = kLatentHeadDim / 64;
  static constexpr int kKeyBlockBytes = kLatentKeys * 128;
  static constexpr int kQueryBlockBytes = kLatentHeads * 128;
  static constexpr int kValueBlocks = kLatentValueDim / 64 / kCtas;  ///< a CTA's channels
  alignas(1024) uint8_t q[kKeyBlocks][kQueryBlockBytes];
  alignas(1024) uint8_t k[kKeyBlocks][kKeyBlockBytes];
  /// The CTA's channels of the others' keys: of rank + 1 first.
  alignas(1024) uint8_t v[kCtas - 1][kValueBlocks][kKeyBlockBytes];
  LatentShare shares[kCtas];            ///< by rank
  int64_t offsets[kCtas][kLatentKeys];  ///< of rows in the pool: this CTA's first, then as v
  Barrier own, others;                  ///< shares
};

/// Looks up where the cluster's keys lie: a thread a key, so that it is one wait and little code.
struct LatentClusterLookup {
  static constexpr int kCtas = kLatentCluster;
  static_assert(kCtas * kLatentKeys <= LatentClusterShared::kThreads);

  LatentClusterShared& shared;
  const LatentKeys& keys;
  int32_t source = static_cast<int32_t>(threadIdx.x) / kLatentKeys;  ///< CTAs further on
  int32_t key = static_cast<int32_t>(threadIdx.x) % kLatentKeys;

  /// What the list names; below 0 where there is nothing.
  __device__ int32_t name(const LatentItem& item, int32_t rank) const {
    const int32_t tile = item.begin + (rank + source) % kCtas;
    return source < kCtas && tile < item.end ? keys.named(tile * kLatentKeys + key) : -1;
  }
  template <int kRowBytes>
  __device__ void put(int32_t name) const {
    if (source < kCtas) shared.offsets[source][key] = keys.offset<kRowBytes>(name);
  }
};

/// bf16 rows, copied straight to their place: eight threads a row, of the CTA's keys the first 384
/// threads, of the others' the last.
struct LatentClusterBf16 {
  static constexpr int kRowBytes = kLatentHeadDim * 2;
  using Shared = LatentClusterShared;

  Shared& shared;
  const uint8_t* pool;
  int32_t rank;
  int32_t thread = static_cast<int32_t>(threadIdx.x);

  __device__ void load() {
    if (thread < kLatentKeys * 8) copy(shared.k, thread / 8, shared.offsets[0], pool);
    cp_async_commit();
    if (thread >= Shared::kThreads - kLatentKeys * 8) {
      const int32_t key = thread / 8 - (Shared::kThreads / 8 - kLatentKeys);
      const uint8_t* from = pool + rank * Shared::kValueBlocks * 128;
#pragma unroll
      for (int i = 1; i < Shared::kCtas; ++i) {
        copy(shared.v[i - 1], key, shared.offsets[i], from);
      }
    }
    cp_async_commit();
  }
  __device__ void put_keys() { cp_async_wait<1>(); }
  __device__ void put_values() { cp_async_wait<0>(); }

 private:
  template <int kBlocks>
  __device__ void copy(uint8_t (&to)[kBlocks][Shared::kKeyBlockBytes], int32_t key,
                       const int64_t* offsets, const uint8_t* from) const {
    const int32_t chunk = thread % 8;
    const int64_t offset = offsets[key];
    const uint32_t at = smem_address(to[0]) + key * 128 + ((chunk ^ (key % 8)) * 16);
    from += max(offset, int64_t{0}) + chunk * 16;
#pragma unroll
    for (int block = 0; block < kBlocks; ++block) {
      cp_async<16>(at + block * Shared::kKeyBlockBytes, from + block * 128, offset < 0 ? 0 : 16);
    }
  }
};

/// Widens 656-byte rows: all of them are loaded at once, which is one wait, then stored. Eight
/// lanes take 64 channels of two neighbouring keys, so that what they store does not meet in a
/// bank.
struct LatentClusterE4m3 {
  static constexpr int kRowBytes = kLatentFp8Row;
  using Shared = LatentClusterShared;
  using Widen = LatentProducerE4m3;
  static constexpr int kPieces = 3;  ///< of 16 channels: of keys, and of values
  static constexpr int kKeysAtOnce = Shared::kThreads / 32;
  static_assert(kKeysAtOnce * kPieces == kLatentKeys && Shared::kCtas - 1 == kPieces);
  static constexpr int kFirst = Shared::kThreads - kLatentKeys * 8;  ///< thread with values

  Shared& shared;
  const uint8_t* pool;
  int32_t rank;
  int32_t thread = static_cast<int32_t>(threadIdx.x);
  int32_t quarter = thread % 4;  ///< of a block of 64 channels
  int32_t key_block = thread / 8 % 8;
  int32_t value_block = thread / 8 % 2;
  /// The first of the CTA's keys, then each kKeysAtOnce-th.
  int32_t key = thread / 64 * 2 + thread / 4 % 2;
  int32_t value_key = (thread - kFirst) / 16 * 2 + thread / 4 % 2;  ///< of each other CTA
  uint4 keys[kPieces], values[kPieces], rope;
  float key_scales[kPieces], value_scales[kPieces];

  __device__ void load() {
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      load_piece(shared.offsets[0][key + i * kKeysAtOnce], key_block, keys[i], key_scales[i]);
    }
    const int64_t offset = thread < kLatentKeys * 8 ? shared.offsets[0][thread / 8] : -1;
    rope = uint4{0, 0, 0, 0};
    if (offset >= 0) {
      rope = *reinterpret_cast<const uint4*>(pool + offset + Widen::kRopeBytes + thread % 8 * 16);
    }
    if (thread < kFirst) return;
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      load_piece(shared.offsets[i + 1][value_key], rank * Shared::kValueBlocks + value_block,
                 values[i], value_scales[i]);
    }
  }

  __device__ void put_keys() const {
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      put(shared.k[key_block], key + i * kKeysAtOnce, keys[i], key_scales[i]);
    }
    if (thread < kLatentKeys * 8) {
      *reinterpret_cast<uint4*>(shared.k[Shared::kKeyBlocks - 1] + thread / 8 * 128 +
                                (thread ^ thread / 8) % 8 * 16) = rope;
    }
  }
  __device__ void put_values() const {
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      put(shared.v[i][value_block], value_key, values[i], value_scales[i]);
    }
  }

 private:
  __device__ void load_piece(int64_t offset, int32_t block, uint4& bytes, float& scale) const {
    bytes = uint4{0, 0, 0, 0};
    scale = 0;
    if (offset < 0) return;
    const uint8_t* row = pool + offset;
    bytes = *reinterpret_cast<const uint4*>(row + block * 64 + quarter * 16);
    scale = *reinterpret_cast<const float*>(row + Widen::kScaleBytes + block / 2 * 4);
  }
  __device__ void put(uint8_t* block, int32_t at, const uint4& bytes, float scale) const {
    const __nv_bfloat162 factor = __float2bfloat162_rn(scale * Widen::kFactor);
    uint8_t* row = block + at * 128;
    *reinterpret_cast<uint4*>(row + ((quarter * 2) ^ (at % 8)) * 16) =
        Widen::widen_words(bytes.x, bytes.y, factor);
    *reinterpret_cast<uint4*>(row + ((quarter * 2 + 1) ^ (at % 8)) * 16) =
        Widen::widen_words(bytes.z, bytes.w, factor);
  }
};

}  // namespace foveal::cuda
