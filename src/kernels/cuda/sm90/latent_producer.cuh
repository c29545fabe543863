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
  __device__ int64_t current(int32_t key) const { return shared.offsets[previous][key]; }
  __device__ int64_t next(int32_t key) const { return shared.offsets[buffer][key]; }
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

/// Brings 656-byte rows by bulk copies, two tiles ahead, and writes them as bf16.
struct LatentProducerE4m3 {
  static constexpr int kRowBytes = kLatentFp8Row;
  static constexpr int kScaleBytes = kLatentValueDim;      ///< where a row's scales begin
  static constexpr int kRopeBytes = kLatentValueDim + 16;  ///< and its rotating channels
  static constexpr int kArrivals = 128;
  static constexpr uint32_t kBarrier = 2;
  using Traits = LatentTraits<LatentE4m3>;

  LatentShared<Traits>& shared;
  const LatentArgs& args;
  int32_t thread = static_cast<int32_t>(threadIdx.x) % 128;
  int32_t lane = static_cast<int32_t>(threadIdx.x) % 32;
  int32_t warp = thread / 32;
  Ring<Traits::kStages> ring{};
  Ring<Traits::kRawStages> raw_ring{};  ///< of the tile that is widened next
  Ring<Traits::kRawStages> fetch_ring{};

  /// Of this thread's key: where the next tile's row is, and what the list names in the one after;
  /// so neither is waited for.
  struct Ahead {
    const LatentKeys& keys;
    int32_t end, thread, tile;
    int32_t named = -1;
    int64_t offset = -1;

    __device__ void next() {
      offset = keys.template offset<kRowBytes>(named);
      ++tile;
      const bool there = tile < end && thread < Traits::kKeys;
      named = there ? keys.named(tile * Traits::kKeys + thread) : -1;
    }
  };

  __device__ void run_item(const LatentItem& item) {
    const LatentKeys keys(args, item);
    Ahead ahead{keys, item.end, thread, item.begin - 1};
    ahead.next();
    ahead.next();
    int32_t fetched = item.begin;
    for (int i = 0; i < Traits::kRawStages && fetched < item.end; ++i, ++fetched) fetch(ahead);
#pragma unroll 1
    for (int32_t tile = item.begin; tile < item.end; ++tile) {
      barrier_wait(&shared.raw_full[raw_ring.stage], raw_ring.parity);
      barrier_wait(&shared.k_empty[ring.stage], ring.parity ^ 1);
      widen_tile();
      async_proxy_fence();
      barrier_arrive(&shared.k_full[ring.stage]);
      ring.next();
      raw_ring.next();
      named_sync(kBarrier, 128);  // what was widened may be overwritten
      if (fetched < item.end) {
        fetch(ahead);
        ++fetched;
      }
    }
  }

  __device__ void fetch(Ahead& ahead) {
    const int stage = fetch_ring.stage;
    fetch_ring.next();
    if (thread < Traits::kKeys) {
      shared.raw_valid[stage][thread] = ahead.offset < 0 ? -1 : 0;
      if (ahead.offset < 0) {
        barrier_arrive(&shared.raw_full[stage]);
      } else {
        barrier_arrive_expect(&shared.raw_full[stage], kRowBytes);
        bulk_load(&shared.raw_full[stage], &shared.raw[stage][thread * kRowBytes],
                  args.kv + ahead.offset, kRowBytes);
      }
    }
    ahead.next();
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

  /// Eight lanes take eight keys at once, so that neither rows of 656 bytes nor swizzled ones
  /// meet in a bank. A warp widens the 128 channels of one scale.
  __device__ void widen_tile() {
    const uint8_t* raw = shared.raw[raw_ring.stage];
    const int32_t* valid = shared.raw_valid[raw_ring.stage];
    if (thread < Traits::kKeys) shared.valid[ring.stage][thread] = valid[thread];
    const uint32_t row = lane % 8;
    const uint32_t quarter = lane / 8;
    const uint32_t from = smem_address(raw) + row * kRowBytes + quarter * 16;
    const uint32_t to = smem_address(shared.k[ring.stage][0]) + row * 128;
    constexpr float kFactor = 1.329227995784916e36F;  // 2^120
#pragma unroll
    for (int group = 0; group < Traits::kKeys / 8; ++group) {
      const int32_t key = group * 8 + static_cast<int32_t>(row);
      const float scale =
          *reinterpret_cast<const float*>(raw + key * kRowBytes + kScaleBytes + warp * 4);
      const __nv_bfloat162 factor = __float2bfloat162_rn(valid[key] < 0 ? 0.0F : scale * kFactor);
#pragma unroll
      for (int block = 0; block < 2; ++block) {
        const uint4 bytes = load_shared_16(from + group * 8 * kRowBytes + (warp * 2 + block) * 64);
        const uint32_t line = to + group * 1024 + (warp * 2 + block) * Traits::kKeyBlockBytes;
        const uint2 a = widen_word(bytes.x, factor);
        const uint2 b = widen_word(bytes.y, factor);
        store_shared_16(line + (((quarter * 2) ^ row) * 16), uint4{a.x, a.y, b.x, b.y});
        const uint2 c = widen_word(bytes.z, factor);
        const uint2 d = widen_word(bytes.w, factor);
        store_shared_16(line + (((quarter * 2 + 1) ^ row) * 16), uint4{c.x, c.y, d.x, d.y});
      }
    }
    // The rotating channels as they are: half of eight keys' at a time.
#pragma unroll
    for (int i = 0; i < Traits::kKeys / 16; ++i) {
      const int32_t unit = warp * (Traits::kKeys / 16) + i;
      const int32_t group = unit / 2;
      const uint32_t chunk = unit % 2 * 4 + quarter;
      uint4 x = load_shared_16(smem_address(raw) + (group * 8 + row) * kRowBytes + kRopeBytes +
                               chunk * 16);
      if (valid[group * 8 + row] < 0) x = uint4{0, 0, 0, 0};
      store_shared_16(
          to + group * 1024 + (Traits::kBlocks - 1) * Traits::kKeyBlockBytes + ((chunk ^ row) * 16),
          x);
    }
  }
};

}  // namespace foveal::cuda
