#pragma once

#include <cuda_bf16.h>

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

/// Where the producers fetch rows themselves.
template <class Traits>
struct LatentNoFetch {
  LatentShared<Traits>& shared;
  const LatentArgs& args;
  __device__ void start() {}
  __device__ void step() {}
};

/// Copies bf16 rows, 16 bytes a thread, straight to their place in the swizzled tile.
struct LatentProducerBf16 {
  static constexpr int kRowBytes = kLatentHeadDim * 2;
  static constexpr int kArrivals = 2 * 128;  ///< a thread's copies, and itself
  using Traits = LatentTraits<LatentBf16>;
  using Fetch = LatentNoFetch<Traits>;
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

/// Brings 656-byte rows as they are: a bulk copy a row, six a warp of the output's eight, each
/// issued by the lane that looked the row up. Tiles in order, over all items of the CTA; what the
/// lists name is loaded one tile ahead. A row that is none is not fetched.
struct LatentFetchE4m3 {
  static constexpr int kRowBytes = kLatentFp8Row;
  static constexpr int kRows = kLatentKeys / 8;  ///< of a warp
  using Traits = LatentTraits<LatentE4m3>;

  LatentShared<Traits>& shared;
  const LatentArgs& args;
  int32_t lane = static_cast<int32_t>(threadIdx.x) % 32;
  int32_t warp = static_cast<int32_t>(threadIdx.x) / 32 % 8;
  int32_t index = static_cast<int32_t>(blockIdx.x);  ///< of the item whose tile is next
  LatentItem item{};
  int32_t named = -1;
  Ring<Traits::kRawStages> ring{};

  __device__ void start() {
    item = index < latent_items(args) ? latent_item(args, index) : LatentItem{};
    load_names();
#pragma unroll 1
    for (int i = 0; i < Traits::kRawStages; ++i) step();
  }

  /// The next tile, as soon as the tile that was there is widened.
  __device__ void step() {
    if (item.begin >= item.end) return;
    const int64_t offset = lane < kRows ? keys().template offset<kRowBytes>(named) : -1;
    const uint32_t there = __ballot_sync(~0U, offset >= 0);
    ++item.begin;
    load_names();
    barrier_wait(&shared.raw_empty[ring.stage], ring.parity ^ 1);
    Barrier* full = &shared.raw_full[ring.stage];
    if (lane == 0) {
      shared.raw_none[ring.stage][warp] = ~there & ((1U << kRows) - 1);
      barrier_arrive_expect(full, __popc(there) * kRowBytes);
    }
    __syncwarp();
    if (offset >= 0) {
      bulk_load(full, shared.raw[ring.stage] + (warp * kRows + lane) * kRowBytes, args.kv + offset,
                kRowBytes);
    }
    __syncwarp();
    ring.next();
  }

 private:
  __device__ LatentKeys keys() const { return {args, item}; }

  /// Of the next tile, if need be of the next item that has one.
  __device__ void load_names() {
    while (item.begin >= item.end) {
      index += static_cast<int32_t>(gridDim.x);
      if (index >= latent_items(args)) return;
      item = latent_item(args, index);
    }
    if (lane < kRows) named = keys().named(item.begin * kLatentKeys + warp * kRows + lane);
  }
};

/// Writes them as bf16.
struct LatentProducerE4m3 {
  static constexpr int kRowBytes = kLatentFp8Row;
  static constexpr int kScaleBytes = kLatentValueDim;      ///< where a row's scales begin
  static constexpr int kRopeBytes = kLatentValueDim + 16;  ///< and its rotating channels
  static constexpr float kFactor = 1.329227995784916e36F;  ///< 2^120: see `widen`
  static constexpr int kArrivals = 128;
  using Fetch = LatentFetchE4m3;
  using Traits = Fetch::Traits;

  LatentShared<Traits>& shared;
  const LatentArgs& args;
  int32_t thread = static_cast<int32_t>(threadIdx.x) % 128;
  int32_t lane = static_cast<int32_t>(threadIdx.x) % 32;
  int32_t warp = thread / 32;
  Ring<Traits::kStages> ring{};
  Ring<Traits::kRawStages> raw_ring{};
  uint64_t none = 0;  ///< keys of the tile: from this lane's first on

  __device__ void run_item(const LatentItem& item) {
#pragma unroll 1
    for (int32_t tile = item.begin; tile < item.end; ++tile) {
      barrier_wait(&shared.raw_full[raw_ring.stage], raw_ring.parity);
      barrier_wait(&shared.k_empty[ring.stage], ring.parity ^ 1);
      widen_tile();
      // Whoever waits for the tile puts it before its products by a fence.
      barrier_arrive(&shared.k_full[ring.stage]);
      __syncwarp();
      if (lane == 0) barrier_arrive(&shared.raw_empty[raw_ring.stage]);
      ring.next();
      raw_ring.next();
    }
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
  /// meet in a bank. A warp widens the 128 channels of one scale.
  __device__ void widen_tile() {
    const uint8_t* raw = shared.raw[raw_ring.stage];
    const int32_t row = lane % 8;
    const int32_t quarter = lane / 8;
    none = 0;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      none |= uint64_t{shared.raw_none[raw_ring.stage][i]} << (i * Fetch::kRows);
    }
    if (thread < 2) shared.none[ring.stage][thread] = static_cast<uint32_t>(none >> (thread * 32));
    none >>= row;
    uint8_t* to = shared.k[ring.stage][0] + row * 128;
    widen_channels(raw + row * kRowBytes + quarter * 16, to + warp * 2 * Traits::kKeyBlockBytes,
                   row, quarter);
    copy_rope(raw, to + (Traits::kBlocks - 1) * Traits::kKeyBlockBytes, row, quarter);
  }

  /// Where this lane's key of a group of eight is none, whatever lies there counts as zeros.
  __device__ bool is_none(int32_t group) const { return (none >> (group * 8) & 1) != 0; }

  /// Some keys at a time, in a loop: at small batches each instruction is fetched once.
  __device__ void widen_channels(const uint8_t* from, uint8_t* to, int32_t row,
                                 int32_t quarter) const {
    constexpr int kAtOnce = 2;  // times eight keys
    uint8_t* first = to + ((quarter * 2) ^ row) * 16;
    uint8_t* second = to + ((quarter * 2 + 1) ^ row) * 16;
#pragma unroll 1
    for (int group = 0; group < Traits::kKeys / 8; group += kAtOnce) {
      uint4 x[kAtOnce][2];
      float factor[kAtOnce];
#pragma unroll
      for (int g = 0; g < kAtOnce; ++g) {
        const uint8_t* key = from + (group + g) * 8 * kRowBytes;
#pragma unroll
        for (int block = 0; block < 2; ++block) {
          x[g][block] = *reinterpret_cast<const uint4*>(key + (warp * 2 + block) * 64);
        }
        const uint8_t* scales = key + kScaleBytes - lane / 8 * 16;
        factor[g] = *reinterpret_cast<const float*>(scales + warp * 4) * kFactor;
        if (is_none(group + g)) factor[g] = 0;
      }
#pragma unroll
      for (int g = 0; g < kAtOnce; ++g) {
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
  }

  /// The rotating channels as they are: half of eight keys' at a time.
  __device__ void copy_rope(const uint8_t* raw, uint8_t* to, int32_t row, int32_t quarter) const {
    uint4 x[Traits::kKeys / 16];
#pragma unroll
    for (int i = 0; i < Traits::kKeys / 16; ++i) {
      const int32_t unit = i * 4 + warp;
      const int32_t chunk = unit % 2 * 4 + quarter;
      x[i] = *reinterpret_cast<const uint4*>(raw + (unit / 2 * 8 + row) * kRowBytes + kRopeBytes +
                                             chunk * 16);
      if (is_none(unit / 2)) x[i] = uint4{0, 0, 0, 0};
    }
#pragma unroll
    for (int i = 0; i < Traits::kKeys / 16; ++i) {
      const int32_t unit = i * 4 + warp;
      const int32_t chunk = unit % 2 * 4 + quarter;
      *reinterpret_cast<uint4*>(to + unit / 2 * 1024 + (chunk ^ row) * 16) = x[i];
    }
  }
};

}  // namespace foveal::cuda
