#pragma once

#include <cuda_bf16.h>

#include "kernels/cuda/device/atomic.cuh"
#include "kernels/cuda/device/cp_async.cuh"
#include "kernels/cuda/device/tma.cuh"
#include "kernels/cuda/sm90/latent_keys.cuh"

namespace foveal::cuda {

/// Where the tiles' rows are: looked up one tile ahead, and what the lists name two ahead, so that
/// neither is waited for. One thread a key.
template <int kRowBytes>
struct LatentLookup {
  static constexpr int kKeys = LatentTraits::kKeys;
  static constexpr uint32_t kBarrier = 2;

  LatentShared& shared;
  const LatentKeys& keys;
  int32_t end;  ///< of tiles
  int32_t thread;
  int32_t named = -1;
  int buffer = 0;
  int previous = 0;

  __device__ void load_names(int32_t tile) {
    named = tile < end && thread < kKeys ? keys.named(tile * kKeys + thread) : -1;
  }
  /// The offsets of the first tile.
  __device__ void start(int32_t tile) {
    load_names(tile);
    put(tile);
  }
  /// Moves on to `tile`. Three buffers: some threads may still be at the tile before.
  __device__ void advance(int32_t tile) {
    previous = buffer;
    buffer = buffer == 2 ? 0 : buffer + 1;
    put(tile + 1);
    named_sync(kBarrier, 128);
  }
  __device__ void put(int32_t tile) {
    if (thread < kKeys) shared.offsets[buffer][thread] = keys.template offset<kRowBytes>(named);
    load_names(tile + 1);
  }
  __device__ int64_t current(int32_t key) const { return shared.offsets[previous][key]; }
  __device__ int64_t next(int32_t key) const { return shared.offsets[buffer][key]; }
};

/// Copies bf16 rows, 16 bytes a thread, straight to their place in the swizzled tile.
struct LatentProducerBf16 {
  static constexpr int kRowBytes = kLatentHeadDim * 2;
  using Traits = LatentTraits;

  LatentShared& shared;
  const LatentArgs& args;
  int32_t thread = static_cast<int32_t>(threadIdx.x) % 128;
  Ring<Traits::kStages> ring{};

  __device__ void run_item(const LatentItem& item) {
    const LatentKeys keys(args, item);
    LatentLookup<kRowBytes> lookup{shared, keys, item.end, thread};
    lookup.start(item.begin);
    for (int32_t tile = item.begin; tile < item.end; ++tile) {
      lookup.advance(tile);
      barrier_wait(&shared.k_empty[ring.stage], ring.parity ^ 1);
      copy(lookup);
      ring.next();
    }
    named_sync(lookup.kBarrier, 128);
  }

  __device__ void copy(const LatentLookup<kRowBytes>& lookup) {
    const int32_t chunk = thread % 8;
    const int32_t first = thread / 8;
    if (thread < Traits::kKeys) {
      shared.valid[ring.stage][thread] = lookup.current(thread) < 0 ? -1 : 0;
    }
    const uint32_t to =
        smem_address(shared.k[ring.stage][0]) + first * 128 + ((chunk ^ (first % 8)) * 16);
#pragma unroll
    for (int j = 0; j < Traits::kKeys / 16; ++j) {
      const int64_t offset = lookup.current(first + j * 16);
      const uint8_t* from = args.kv + max(offset, int64_t{0}) + chunk * 16;
      const uint32_t bytes = offset < 0 ? 0 : 16;
#pragma unroll
      for (int block = 0; block < Traits::kBlocks; ++block) {
        cp_async<16>(to + j * 16 * 128 + block * Traits::kKeyBlockBytes, from + block * 128, bytes);
      }
    }
    cp_async_arrive(&shared.k_full[ring.stage]);
    barrier_arrive(&shared.k_full[ring.stage]);
  }
};

/// Reads 656-byte rows into registers and writes them as bf16. Units of eight keys and half of the
/// latent are dealt to the warps; the next one's loads are under way while one is converted.
struct LatentProducerE4m3 {
  static constexpr int kRowBytes = kLatentFp8Row;
  static constexpr int kScaleBytes = kLatentValueDim;      ///< where a row's scales begin
  static constexpr int kRopeBytes = kLatentValueDim + 16;  ///< and its rotating channels
  static constexpr int kUnits = LatentTraits::kKeys / 16;  ///< a warp
  using Traits = LatentTraits;

  LatentShared& shared;
  const LatentArgs& args;
  int32_t thread = static_cast<int32_t>(threadIdx.x) % 128;
  int32_t lane = static_cast<int32_t>(threadIdx.x) % 32;
  int32_t half = thread / 32 % 2;  ///< of the latent
  Ring<Traits::kStages> ring{};

  /// Of one key, a quarter of its half: 16 channels of each of four blocks.
  struct Unit {
    uint4 values[4];
    uint2 scales;
  };

  __device__ int32_t key_of(int unit) const { return (thread / 64 + 2 * unit) * 8 + lane / 4; }

  __device__ Unit load(int64_t offset) const {
    Unit unit;
    if (offset < 0) {
#pragma unroll
      for (uint4& x : unit.values) x = uint4{0, 0, 0, 0};
      unit.scales = uint2{0, 0};
      return unit;
    }
    const uint8_t* row = args.kv + offset;
    const auto* from = reinterpret_cast<const uint4*>(row + half * 256 + lane % 4 * 16);
#pragma unroll
    for (int i = 0; i < 4; ++i) unit.values[i] = load_now(from + i * 4);
    unit.scales = load_now(reinterpret_cast<const uint2*>(row + kScaleBytes + half * 8));
    return unit;
  }

  /// The bits of an e4m3 value in a bf16's exponent and mantissa make 2^-120 times it, of its
  /// subnormals too; the factor is in `scale`.
  __device__ static uint32_t widen(uint32_t bytes, __nv_bfloat162 scale) {
    const uint32_t bits = (bytes & 0x80008000U) | (bytes >> 4 & 0x07f007f0U);
    const __nv_bfloat162 value = __hmul2(*reinterpret_cast<const __nv_bfloat162*>(&bits), scale);
    return *reinterpret_cast<const uint32_t*>(&value);
  }
  __device__ static uint2 widen_word(uint32_t word, __nv_bfloat162 scale) {
    return {widen(__byte_perm(word, 0, 0x1404), scale), widen(__byte_perm(word, 0, 0x3424), scale)};
  }

  __device__ void convert(const Unit& unit, int32_t key) const {
    const uint32_t swizzle = key % 8;
    const uint32_t row = smem_address(shared.k[ring.stage][half * 4]) + key * 128;
    constexpr float kFactor = 1.329227995784916e36F;  // 2^120
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float scale = __uint_as_float(i < 2 ? unit.scales.x : unit.scales.y);
      const __nv_bfloat162 factor = __float2bfloat162_rn(scale * kFactor);
      const uint32_t to = row + i * Traits::kKeyBlockBytes;
      const uint32_t chunk = lane % 4 * 2;
      const uint2 a = widen_word(unit.values[i].x, factor);
      const uint2 b = widen_word(unit.values[i].y, factor);
      store_shared_16(to + ((chunk ^ swizzle) * 16), uint4{a.x, a.y, b.x, b.y});
      const uint2 c = widen_word(unit.values[i].z, factor);
      const uint2 d = widen_word(unit.values[i].w, factor);
      store_shared_16(to + (((chunk + 1) ^ swizzle) * 16), uint4{c.x, c.y, d.x, d.y});
    }
  }

  __device__ void run_item(const LatentItem& item) {
    const LatentKeys keys(args, item);
    LatentLookup<kRowBytes> lookup{shared, keys, item.end, thread};
    lookup.start(item.begin);
    Unit unit;
#pragma unroll 1
    for (int32_t tile = item.begin; tile < item.end; ++tile) {
      lookup.advance(tile);
      prefetch(lookup);
      if (tile == item.begin) unit = load(lookup.current(key_of(0)));
      barrier_wait(&shared.k_empty[ring.stage], ring.parity ^ 1);
      copy_rope(lookup);
#pragma unroll
      for (int i = 0; i < kUnits; ++i) {
        const Unit ahead =
            load(i + 1 < kUnits ? lookup.current(key_of(i + 1)) : lookup.next(key_of(0)));
        convert(unit, key_of(i));
        unit = ahead;
      }
      async_proxy_fence();
      barrier_arrive(&shared.k_full[ring.stage]);
      ring.next();
    }
    named_sync(lookup.kBarrier, 128);
  }

  /// Brings the next tile's rows into L2.
  __device__ void prefetch(const LatentLookup<kRowBytes>& lookup) const {
    if (thread >= Traits::kKeys * 2) return;
    const int64_t offset = lookup.next(thread / 2);
    if (offset < 0) return;
    const uint8_t* from = args.kv + offset + thread % 2 * 384;
#pragma unroll
    for (int i = 0; i < 3; ++i) prefetch_l2(from + min(i * 128, kRowBytes - 384 - 16));
  }

  __device__ void copy_rope(const LatentLookup<kRowBytes>& lookup) {
    if (thread < Traits::kKeys) {
      shared.valid[ring.stage][thread] = lookup.current(thread) < 0 ? -1 : 0;
    }
    const int32_t chunk = thread % 8;
    const int32_t first = thread / 8;
    const uint32_t to = smem_address(shared.k[ring.stage][Traits::kBlocks - 1]) + first * 128 +
                        ((chunk ^ (first % 8)) * 16);
#pragma unroll
    for (int j = 0; j < Traits::kKeys / 16; ++j) {
      const int64_t offset = lookup.current(first + j * 16);
      cp_async<16>(to + j * 16 * 128, args.kv + max(offset, int64_t{0}) + kRopeBytes + chunk * 16,
                   offset < 0 ? 0 : 16);
    }
    cp_async_arrive(&shared.k_full[ring.stage]);
  }
};

}  // namespace foveal::cuda
