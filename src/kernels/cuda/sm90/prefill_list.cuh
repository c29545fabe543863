#pragma once

#include "kernels/cuda/sm90/prefill_traits.cuh"

namespace foveal::cuda {

/// The key tiles of a query block, as one warp reads them: those that any of its vote units keeps,
/// ascending. A lane looks at one word of 32 tiles.
template <class Traits>
struct PrefillList {
  static constexpr int kUnits = Traits::kWarpgroups;

  const PrefillArgs& args;
  const PrefillItem& item;
  int32_t lane = threadIdx.x % 32;
  int32_t first_word = item.first_tile / 32;
  int32_t end_word = (item.end_tile + 31) / 32;

  __device__ PrefillList(const PrefillArgs& with, const PrefillItem& of) : args(with), item(of) {}

  struct Words {
    uint32_t any = 0;  ///< of all units
    uint32_t own[kUnits] = {};
  };

  /// Words of a unit that sees nothing of them are not there.
  __device__ bool has(int unit, int32_t word) const {
    const int32_t rows = min(kKeptRows, item.num_rows - unit * kKeptRows);
    const int32_t position = item.position + unit * kKeptRows;
    const int32_t low = args.window > 0 ? max(0, position - args.window + 1) : 0;
    return rows > 0 && position + rows > 0 && word >= low / Traits::kKeys / 32 &&
           word * 32 * Traits::kKeys < position + rows;
  }

  __device__ Words read(int32_t word) const {
    Words out;
    const int32_t q_begin = args.cu_q[item.seq];
    const int64_t block =
        kept_first_block(q_begin, item.seq) + (item.first_row - q_begin) / kKeptRows;
#pragma unroll
    for (int unit = 0; unit < kUnits; ++unit) {
      if (word >= end_word || !has(unit, word)) continue;
      out.own[unit] = kept_unit(args.kept, block + unit, args.num_heads, item.head)[word];
      out.any |= out.own[unit];
    }
    return out;
  }

  /// A block that keeps nothing has one entry that nobody wants: every role counts one at least.
  __device__ PrefillEntry first() const {
    for (int32_t base = first_word; base < end_word; base += 32) {
      const Words words = read(base + lane);
      const uint32_t filled = __ballot_sync(~0U, words.any != 0);
      if (filled == 0) continue;
      const int source = __ffs(static_cast<int>(filled)) - 1;
      const int bit = __ffs(static_cast<int>(words.any)) - 1;
      const PrefillEntry entry = PrefillEntry::make((base + lane) * 32 + bit, wants(words, bit));
      return {__shfl_sync(~0U, entry.packed, source)};
    }
    return PrefillEntry::make(item.first_tile, 0);
  }

  /// `act(entry, the one after it)` by all lanes; `item.first` is known.
  template <class Act>
  __device__ void for_each(const Act& act) const {
    PrefillEntry last = item.first;
    for (int32_t base = first_word; base < end_word; base += 32) {
      const Words mine = read(base + lane);
      uint32_t filled = __ballot_sync(~0U, mine.any != 0);
      for (; filled != 0; filled &= filled - 1) {
        const int source = __ffs(static_cast<int>(filled)) - 1;
        Words words;
        words.any = __shfl_sync(~0U, mine.any, source);
#pragma unroll
        for (int unit = 0; unit < kUnits; ++unit) {
          words.own[unit] = __shfl_sync(~0U, mine.own[unit], source);
        }
        for (; words.any != 0; words.any &= words.any - 1) {
          const int bit = __ffs(static_cast<int>(words.any)) - 1;
          const PrefillEntry entry =
              PrefillEntry::make((base + source) * 32 + bit, wants(words, bit));
          if (entry.packed != item.first.packed) act(last, entry);
          last = entry;
        }
      }
    }
    act(last, PrefillEntry{});
  }

  __device__ static uint32_t wants(const Words& words, int bit) {
    uint32_t out = 0;
#pragma unroll
    for (int unit = 0; unit < kUnits; ++unit) out |= (words.own[unit] >> bit & 1) << unit;
    return out;
  }
};

}  // namespace foveal::cuda
