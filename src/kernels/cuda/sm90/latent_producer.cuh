#pragma once

#include <cuda_bf16.h>

#include "kernels/cuda/device/atomic.cuh"
#include "kernels/cuda/device/cp_async.cuh"
#include "kernels/cuda/device/tma.cuh"
#include "kernels/cuda/sm90/latent_keys.cuh"

namespace foveal::cuda {

/// Where the tiles' rows are: looked up one tile ahead, and what the lists name two ahead, so that
/// neither is waited for. One thread a key.
template <class Shared, int kRowBytes>
struct LatentLookup {
  static constexpr int kKeys = kLatentKeys;
  static constexpr uint32_t kBarrier = 2;

  Shared& shared;
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
  /// Which of the tile's keys are none: 32 a warp, by the warp's first lane.
  __device__ void note_none(uint32_t* bits) const {
    if (thread >= 64) return;
    const bool none = thread < kKeys && current(thread) < 0;
    const uint32_t word = __ballot_sync(~0U, none);
    if (thread % 32 == 0) bits[thread / 32] = word;
  }
  __device__ int64_t current(int32_t key) const { return shared.offsets[previous][key]; }
};

/// Copies bf16 rows, 16 bytes a thread, straight to their place in the swizzled tile.
struct LatentProducerBf16 {
  static constexpr int kRowBytes = kLatentHeadDim * 2;
  static constexpr int kArrivals = 2 * 128;  ///< a thread's copies, and itself
  using Traits = LatentTraits<LatentBf16>;
  using Lookup = LatentLookup<LatentShared<Traits>, kRowBytes>;

  LatentShared<Traits>& shared;
  const LatentArgs& args;
  int32_t thread = static_cast<int32_t>(threadIdx.x) % 128;
  Ring<Traits::kStages> ring{};

  __device__ void run_item(const LatentItem& item) {
    const LatentKeys keys(args, item);
    Lookup lookup{shared, keys, item.end, thread};
    lookup.start(item.begin);
    for (int32_t tile = item.begin; tile < item.end; ++tile) {
      lookup.advance(tile);
      barrier_wait(&shared.k_empty[ring.stage], ring.parity ^ 1);
      copy(lookup);
      ring.next();
    }
    named_sync(lookup.kBarrier, 128);
  }

  __device__ void copy(const Lookup& lookup) {
    const int32_t chunk = thread % 8;
    const int32_t first = thread / 8;
    lookup.note_none(shared.none[ring.stage]);
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

/// Brings 656-byte rows as they are, two tiles ahead, and writes them as bf16.
struct LatentProducerE4m3 {
  static constexpr int kRowBytes = kLatentFp8Row;
  static constexpr int kScaleBytes = kLatentValueDim;      ///< where a row's scales begin
  static constexpr int kRopeBytes = kLatentValueDim + 16;  ///< and its rotating channels
  static constexpr int kArrivals = 128;
  static constexpr uint32_t kBarrier = 3;
  using Traits = LatentTraits<LatentE4m3>;
  using Lookup = LatentLookup<LatentShared<Traits>, kRowBytes>;

  LatentShared<Traits>& shared;
  const LatentArgs& args;
  int32_t thread = static_cast<int32_t>(threadIdx.x) % 128;
  int32_t lane = static_cast<int32_t>(threadIdx.x) % 32;
  int32_t warp = thread / 32;
  Ring<Traits::kStages> ring{};
  Ring<Traits::kRawStages> raw_ring{};  ///< of the tile that is widened next
  Ring<Traits::kRawStages> fetch_ring{};

  __device__ void run_item(const LatentItem& item) {
    const LatentKeys keys(args, item);
    Lookup lookup{shared, keys, item.end, thread};
    lookup.start(item.begin);
    int32_t fetched = item.begin;
#pragma unroll 1
    for (int32_t tile = item.begin; tile < item.end; ++tile) {
      // `advance` lets nobody pass before all have widened the tile before.
#pragma unroll 1
      for (; fetched < min(tile + Traits::kRawStages, item.end); ++fetched) {
        lookup.advance(fetched);
        fetch(lookup);
      }
      barrier_wait(&shared.raw_full[raw_ring.stage], raw_ring.parity);
      barrier_wait(&shared.k_empty[ring.stage], ring.parity ^ 1);
      widen_tile();
      async_proxy_fence();
      barrier_arrive(&shared.k_full[ring.stage]);
      ring.next();
      raw_ring.next();
    }
    named_sync(kBarrier, 128);
  }

  /// Eight threads a row, 16 bytes at a time; of its 41 the last alone.
  __device__ void fetch(const Lookup& lookup) {
    const int stage = fetch_ring.stage;
    fetch_ring.next();
    lookup.note_none(shared.raw_none[stage]);
    const int32_t chunk = thread % 8;
    const int32_t first = thread / 8;
    const uint32_t to = smem_address(shared.raw[stage]) + first * kRowBytes + chunk * 16;
#pragma unroll
    for (int j = 0; j < Traits::kKeys / 16; ++j) {
      const int64_t offset = lookup.current(first + j * 16);
      const uint8_t* from = args.kv + max(offset, int64_t{0}) + chunk * 16;
      const uint32_t bytes = offset < 0 ? 0 : 16;
#pragma unroll
      for (int i = 0; i < kRowBytes / 128; ++i) {
        cp_async<16>(to + j * 16 * kRowBytes + i * 128, from + i * 128, bytes);
      }
      if (chunk == 0) {
        constexpr int kLast = kRowBytes / 128 * 128;
        cp_async<16>(to + j * 16 * kRowBytes + kLast, from + kLast, bytes);
      }
    }
    cp_async_arrive(&shared.raw_full[stage]);
  }

  /// The bits of an e4m3 value in a bf16's exponent and mantissa make 2^-120 times it, of its
  /// subnormals too; the factor is in `scale`.
  /// `bytes`: two, in the lower halves of 16 bits. Multiplications, because shifts share a slower
  /// pipe with what else is done here.
  __device__ static uint32_t widen(uint32_t bytes, __nv_bfloat162 scale) {
    const uint32_t bits = (bytes & 0x00800080U) * 240 + bytes * 16;
    const __nv_bfloat162 value = __hmul2(*reinterpret_cast<const __nv_bfloat162*>(&bits), scale);
    return *reinterpret_cast<const uint32_t*>(&value);
  }
  __device__ static uint4 widen_words(uint32_t low, uint32_t high, __nv_bfloat162 scale) {
    return {widen(__byte_perm(low, 0, 0x4140), scale), widen(__byte_perm(low, 0, 0x4342), scale),
            widen(__byte_perm(high, 0, 0x4140), scale), widen(__byte_perm(high, 0, 0x4342), scale)};
  }

  /// Eight lanes take eight keys at once, so that neither rows of 656 bytes nor swizzled ones
  /// meet in a bank; rows that are none hold zeros, scales included. A warp widens the 128 channels
  /// of one scale, of sixteen keys at a time; a loop, for at small batches each instruction is
  /// fetched once.
  __device__ void widen_tile() {
    const uint8_t* raw = shared.raw[raw_ring.stage];
    const int32_t row = lane % 8;
    const int32_t quarter = lane / 8;
    if (thread < 64 && lane == 0) {
      shared.none[ring.stage][warp] = shared.raw_none[raw_ring.stage][warp];
    }
    const uint8_t* from = raw + row * kRowBytes;
    uint8_t* to = shared.k[ring.stage][0] + row * 128;
    uint8_t* first = to + warp * 2 * Traits::kKeyBlockBytes + ((quarter * 2) ^ row) * 16;
    uint8_t* second = to + warp * 2 * Traits::kKeyBlockBytes + ((quarter * 2 + 1) ^ row) * 16;
    constexpr float kFactor = 1.329227995784916e36F;  // 2^120
#pragma unroll 1
    for (int group = 0; group < Traits::kKeys / 8; group += 2) {
      uint4 x[2][2];
      float factor[2];
#pragma unroll
      for (int g = 0; g < 2; ++g) {
        const uint8_t* key = from + (group + g) * 8 * kRowBytes;
#pragma unroll
        for (int block = 0; block < 2; ++block) {
          x[g][block] =
              *reinterpret_cast<const uint4*>(key + (warp * 2 + block) * 64 + quarter * 16);
        }
        factor[g] = *reinterpret_cast<const float*>(key + kScaleBytes + warp * 4) * kFactor;
      }
#pragma unroll
      for (int g = 0; g < 2; ++g) {
        const __nv_bfloat162 scale = __float2bfloat162_rn(factor[g]);
#pragma unroll
        for (int block = 0; block < 2; ++block) {
          const int at = (group + g) * 1024 + block * Traits::kKeyBlockBytes;
          const uint4& bytes = x[g][block];
          *reinterpret_cast<uint4*>(first + at) = widen_words(bytes.x, bytes.y, scale);
          *reinterpret_cast<uint4*>(second + at) = widen_words(bytes.z, bytes.w, scale);
        }
      }
    }
    copy_rope(raw, to + (Traits::kBlocks - 1) * Traits::kKeyBlockBytes, row, quarter);
  }

  /// The rotating channels as they are: half of eight keys' at a time.
  __device__ void copy_rope(const uint8_t* raw, uint8_t* to, int32_t row, int32_t quarter) const {
    uint4 x[Traits::kKeys / 16];
#pragma unroll
    for (int i = 0; i < Traits::kKeys / 16; ++i) {
      const int32_t unit = warp * (Traits::kKeys / 16) + i;
      const int32_t chunk = unit % 2 * 4 + quarter;
      x[i] = *reinterpret_cast<const uint4*>(raw + (unit / 2 * 8 + row) * kRowBytes + kRopeBytes +
                                             chunk * 16);
    }
#pragma unroll
    for (int i = 0; i < Traits::kKeys / 16; ++i) {
      const int32_t unit = warp * (Traits::kKeys / 16) + i;
      const int32_t chunk = unit % 2 * 4 + quarter;
      *reinterpret_cast<uint4*>(to + unit / 2 * 1024 + (chunk ^ row) * 16) = x[i];
    }
  }
};

}  // namespace foveal::cuda
