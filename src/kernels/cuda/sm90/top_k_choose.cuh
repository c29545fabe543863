#pragma once

#include "kernels/cuda/sm90/top_k_gate.cuh"

namespace foveal::kernels::cuda::top_k {

/// Before a CTA's candidates: 16 bytes, for all of it is sent at once.
struct Header {
  uint32_t count;  ///< may be more than fit
  uint32_t gate;
  uint32_t high;
  uint32_t unused;
};

/// What all CTAs of a row found not below their gates, in one's shared memory.
struct Candidates {
  unsigned char* base;
  int32_t log2_ctas;
  int32_t capacity;  ///< of each CTA; even

  __host__ __device__ static size_t region_bytes(int32_t capacity) {
    return sizeof(Header) + static_cast<size_t>(capacity) * sizeof(uint2);
  }
  __device__ Header* header(int32_t cta) const {
    return reinterpret_cast<Header*>(base + cta * region_bytes(capacity));
  }

  /// visit(key, index) of this thread's share.
  template <class Visit>
  __device__ void for_each(Visit visit) const {
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int log2_warps = max(kLog2Warps - log2_ctas, 0);  // of each CTA's candidates
    const int step = 64 << log2_warps;
    const int first = ((warp & ((1 << log2_warps) - 1)) * 32 + lane) * 2;
#pragma unroll 1
    for (int cta = warp >> log2_warps; cta < 1 << log2_ctas; cta += kWarps) {
      const Header* from = header(cta);
      const auto count = static_cast<int32_t>(from->count);
      const auto* entries = reinterpret_cast<const uint2*>(from + 1);
#pragma unroll 1
      for (int32_t at = first; at < count; at += step) {
        const uint4 two = *reinterpret_cast<const uint4*>(entries + at);  // (value, index) each
        visit(number_key(__uint_as_float(two.x)), two.y);
        if (at + 1 < count) visit(number_key(__uint_as_float(two.z)), two.w);
      }
    }
  }

 private:
  static constexpr int kLog2Warps = 4;
  static_assert(1 << kLog2Warps == kWarps);
};

/// What all CTAs' headers say together.
struct Found {
  uint32_t gate;  ///< whatever is not below this is a candidate
  uint32_t high;
  bool overflow;

  __device__ static Found of(const Candidates& candidates) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const Header own = *candidates.header(lane & ((1 << candidates.log2_ctas) - 1));
    return {__reduce_max_sync(~0U, own.gate), __reduce_max_sync(~0U, own.high),
            __any_sync(~0U, own.count > static_cast<uint32_t>(candidates.capacity)) != 0};
  }
};

/// The last that is taken: what has a greater key, and of equals what has no greater index.
struct Threshold {
  uint32_t key;
  uint32_t index;
  __device__ bool takes(uint32_t other, uint32_t at) const {
    return (other > key) | ((other == key) & (at <= index));
  }
};

inline constexpr uint32_t kAnyIndex = ~0U;
inline constexpr uint32_t kRanked = 64;  ///< candidates that are put into order by comparing all

struct ChooseScratch {
  uint2 list[kRanked];
  Threshold chosen;
  uint32_t listed;  ///< 0 before
};

/// Of candidates with this key the `need` of the lowest indices, more than are ranked: where the
/// last of them is.
__device__ __noinline__ Threshold choose_equals(Candidates candidates, uint32_t key, uint32_t need,
                                                uint32_t* counter) {
  uint32_t low = 0;
  uint32_t high = kMostValues - 1;
#pragma unroll 1
  while (low < high) {
    const uint32_t middle = (low + high) / 2;
    __syncthreads();
    if (threadIdx.x == 0) *counter = 0;
    __syncthreads();
    candidates.for_each([&](uint32_t other, uint32_t index) {
      if (other == key && index <= middle) atomicAdd(counter, 1U);
    });
    __syncthreads();
    if (*counter >= need) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return {key, low};
}

/// The last of the `k` greatest candidates that are not below `low`. Histograms of the bracket that
/// holds it, each over the bin that the one before found, until few are left. The first has its
/// bins below `high`, and counts in the last what lies above. `first(found)` is told once whether
/// there are k at all; if not, nothing is chosen. `bins` are 0 and scratch.bin is kNoBin before.
template <class First>
__device__ Threshold choose(const Candidates& candidates, uint32_t low, uint32_t high, uint32_t k,
                            uint32_t* bins, Scratch& scratch, ChooseScratch& own, First first) {
  const auto thread = static_cast<int>(threadIdx.x);
  uint32_t top = ~0U;
  uint32_t need = k;
#pragma unroll 1
  for (bool again = false;; again = true) {
    const int shift = shift_of(high - low);
    candidates.for_each([&](uint32_t key, uint32_t) {
      if ((key >= low) & (key <= top)) {
        atomicAdd(&bins[min((key - low) >> shift, static_cast<uint32_t>(kBins - 1))], 1U);
      }
    });
    __syncthreads();
    find_bin(bins, need, scratch);
    const uint32_t bin = scratch.bin;
    if (!again) first(bin != kNoBin);
    if (bin == kNoBin) return {};
    const uint32_t inside = scratch.inside;
    need -= scratch.above;
    low += bin << shift;
    if (bin != kBins - 1) top = min(top, low + (1U << shift) - 1);
    if (inside == need) return {low, kAnyIndex};
    if (inside <= kRanked) break;
    if (low == top) return choose_equals(candidates, low, need, &own.listed);
    high = top;
    __syncthreads();  // all have read what find_bin found
    reinterpret_cast<uint4*>(bins)[thread] = {0, 0, 0, 0};
    if (thread == 0) scratch.bin = kNoBin;
    __syncthreads();
  }
  candidates.for_each([&](uint32_t key, uint32_t index) {
    if ((key >= low) & (key <= top)) own.list[atomicAdd(&own.listed, 1U)] = {key, index};
  });
  __syncthreads();
  const auto listed = static_cast<int>(own.listed);
  if (thread < listed) {
    const uint2 mine = own.list[thread];
    uint32_t before = 0;
#pragma unroll 1
    for (int i = 0; i < listed; ++i) {
      const uint2 other = own.list[i];
      before += other.x > mine.x || (other.x == mine.x && other.y < mine.y) ? 1 : 0;
    }
    if (before == need - 1) own.chosen = {mine.x, mine.y};
  }
  __syncthreads();
  return own.chosen;
}

}  // namespace foveal::kernels::cuda::top_k
