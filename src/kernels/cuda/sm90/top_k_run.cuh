#pragma once

#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/sm90/top_k_row.cuh"

namespace foveal::kernels::cuda::top_k {

/// order_key in fewer instructions.
__device__ inline uint32_t any_key(float value) { return number_key(fmaxf(value, -INFINITY)); }

struct Entry {
  uint32_t key;
  uint32_t index;
  /// What is taken before what: greater keys, and of equals lower indices.
  __device__ bool beats(const Entry& other) const {
    return (key > other.key) | ((key == other.key) & (index < other.index));
  }
};

/// The values of a warp, as many in a row as its loads hold: in registers, and in shared memory,
/// where a bit's can be had. A thread's bits are its values in ascending order of indices.
class Run {
 public:
  /// `values` [kLoads][kThreads] are the CTA's.
  __device__ Run(const TopKArgs& args, float4* values, int32_t run)
      : values_(values + threadIdx.x),
        lane_(static_cast<int32_t>(threadIdx.x % 32)),
        log2_loads_(args.log2_loads),
        run_(run) {}

  __device__ void load(const Row& row) {
    first_ = run_ * size() - row.before();
    const int loads = 1 << log2_loads_;
    if (first_ >= 0 && first_ + size() <= row.loaded) {
      const auto* from = reinterpret_cast<const float4*>(row.values + first(0));
      const float4 none{no_value(), no_value(), no_value(), no_value()};
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        loads_[i] = i < loads ? __ldcg(from + i * (kBlock / 4)) : none;
      }
      return;
    }
#pragma unroll
    for (int i = 0; i < kLoads; ++i) loads_[i] = row.load(i < loads ? first(i) : -kBlock);
#pragma unroll 1
    for (int load = 0; load < loads; ++load) {
      const int32_t at = first(load);
      if (row.whole(at) || at <= -4 || at >= row.loaded) continue;
      const float4 part = load_part(row, at);
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        if (i == load) loads_[i] = part;
      }
    }
  }
  /// How long the row is: more may have been loaded.
  __device__ void end(int32_t length) {
    const int bits = 4 << log2_loads_;
    inside_ = (1U << bits) - 1;
    if (first_ >= 0 && first_ + size() <= length) return;
    inside_ = 0;
    if (first_ >= length) return;
#pragma unroll 1
    for (int bit = bits - 1; bit >= 0; --bit) {
      const int32_t at = index(bit);
      inside_ = inside_ << 1 | ((at >= 0) & (at < length) ? 1U : 0U);
    }
  }
  __device__ void keep() {
#pragma unroll
    for (int i = 0; i < kLoads; ++i) values_[i * kThreads] = loads_[i];
  }

  __device__ int32_t size() const { return kBlock << log2_loads_; }
  __device__ int32_t begin() const { return first_; }  ///< below 0 where that is not the row's
  __device__ const float4& load(int i) const { return loads_[i]; }

  /// Bits of this thread's values with keys from low to top, and above that.
  struct Split {
    uint32_t inside;
    uint32_t above;
  };
  __device__ Split split(uint32_t low, uint32_t top) const {
    // Nothing is greater than what is no number.
    const float below_low = low > kInfinityBelow ? float_below(low) : no_value();
    const float below_above = top != ~0U ? float_below(top + 1) : no_value();
    uint32_t from_low = 0;
    uint32_t above = 0;
    const auto push = [&](float value) {
      from_low = push_greater(from_low, value, below_low);
      above = push_greater(above, value, below_above);
    };
#pragma unroll
    for (int i = kLoads - 1; i >= 0; --i) {
      if (i >= 1 << log2_loads_) continue;
      push(loads_[i].w);
      push(loads_[i].z);
      push(loads_[i].y);
      push(loads_[i].x);
    }
    if (low <= kInfinityBelow) from_low = ~0U;
    return {from_low & ~above & inside_, above & inside_};
  }
  __device__ int32_t index(int bit) const { return first(bit / 4) + bit % 4; }
  __device__ uint32_t key(int bit) const {
    return any_key(reinterpret_cast<const float*>(values_ + bit / 4 * kThreads)[bit % 4]);
  }
  __device__ Entry entry(int bit) const { return {key(bit), static_cast<uint32_t>(index(bit))}; }

  template <class Visit>
  __device__ static void each(uint32_t bits, Visit visit) {
#pragma unroll 1
    for (; bits != 0; bits &= bits - 1) visit(__ffs(static_cast<int>(bits)) - 1);
  }

 private:
  /// Of four values that are not all the row's.
  __device__ static float4 load_part(const Row& row, int32_t at) {
    float own[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      own[j] = no_value();
      if (at + j >= 0 && at + j < row.loaded) own[j] = __ldcg(row.values + at + j);
    }
    return {own[0], own[1], own[2], own[3]};
  }
  /// Index of this thread's first value of a load.
  __device__ int32_t first(int load) const { return first_ + load * kBlock + lane_ * 4; }

  float4* values_;
  int32_t lane_;
  int32_t log2_loads_;
  int32_t run_;
  int32_t first_ = 0;
  uint32_t inside_ = 0;  ///< bits of the values that are the row's
  float4 loads_[kLoads];
};

/// Where each of a warp's bits is among them all, in ascending order of indices.
struct Places {
  uint32_t bits;
  uint32_t before;  ///< of the lanes before this one, a byte a load
  uint32_t total;   ///< of all lanes

  __device__ static Places of(uint32_t bits, int lane) {
    const uint32_t pairs = bits - (bits >> 1 & 0x5555U);
    const uint32_t fours = (pairs & 0x3333U) + (pairs >> 2 & 0x3333U);
    // Of a warp's 128 values of a load no byte overflows.
    const uint32_t own =
        (fours & 0xfU) | (fours & 0xf0U) << 4 | (fours & 0xf00U) << 8 | (fours & 0xf000U) << 12;
    const uint32_t through = warp_prefix_sum(own, lane);
    return {bits, through - own, __shfl_sync(~0U, through, 31)};
  }
  __device__ uint32_t at(int bit) const {
    const int load = bit / 4;
    const uint32_t earlier = total & ((1U << 8 * load) - 1);
    const uint32_t loads = (earlier & 0xffU) + (earlier >> 8 & 0xffU) + (earlier >> 16);
    const uint32_t same = __popc(bits >> 4 * load & ((1U << bit % 4) - 1));
    return loads + (before >> 8 * load & 0xffU) + same;
  }
};

}  // namespace foveal::kernels::cuda::top_k
