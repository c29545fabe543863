#include "kernels/cpu/gemm_parts.h"
#include "kernels/cpu/simd/float_pairs.h"
#include "kernels/cpu/simd/quant_words.h"
#include "kernels/cpu/simd/transpose16.h"
#include "kernels/cpu/simd/unpack.h"

// Computes:  the packed operands of gemm_prefill_cpu.cc: x as [steps, kTileRows], a panel of W as
//            [steps, kTileCols].
// In/out:    x f32, row stride; W [n, k] as stored, any weight dtype, unaligned; out words of one
//            f32 or two bf16.
// Units:     steps of the reduction; groups of 32 elements.
// Launch:    by the task that owns the tile or the panel.
// Needs:     nothing beyond the level.
// Numerics:  W is scale * quant + minimum in f32, then both are rounded to nearest even bf16 (level
//            avx512bf16) or kept. Past the end of k there are zeros.
// Source:    ours.
// Measured:  docs/kernels/gemm.md.
namespace foveal::kernels::cpu::FOVEAL_ISA_NS {
namespace {

int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/// Any dtype at any level: a column at a time, through f32.
[[maybe_unused]] void pack_by_column(const PrefillTask& task, int64_t begin, int64_t steps) {
  const GemmSlice& slice = task.slice;
  const int64_t from = begin * kStep;
  const int64_t len = smaller(task.k - from, steps * kStep);
  const int64_t groups = (steps + kLanes - 1) / kLanes;
  for (int64_t col = 0; col < kTileCols; ++col) {
    // past the last column the last is packed again and its results are not stored
    const uint8_t* weight = slice.weight + smaller(col, slice.n - 1) * slice.row_bytes;
    unpack_row(slice.dtype, weight, from, len, groups * kLanes * kStep, task.row);
    for (int64_t group = 0; group < groups; ++group) {
      uint32_t words[kLanes];
      store_steps(words, to_steps(task.row + group * kLanes * kStep));
      uint32_t* out = task.panel + group * kLanes * kTileCols + col;
      for (int64_t idx = 0; idx < kLanes; ++idx) out[idx * kTileCols] = words[idx];
    }
  }
}

#if FOVEAL_ISA_LEVEL >= 3

constexpr int kHalf = 16;  // columns transposed together

struct HalfPanel {
  const uint8_t* weight[kHalf];
};

struct alignas(64) HalfScales {
  float scale[kHalf][kScaleFloats];
  float min[kHalf][kChunkGroups];
};

/// Up to 16 groups of 16 quantised columns; one group becomes 16 rows of the panel.
template <class Format>
void pack_chunk(const HalfPanel& half, int64_t begin, int groups, uint32_t* panel) {
  HalfScales chunk;
  const uint8_t* at[kHalf];
  for (int col = 0; col < kHalf; ++col) {
    at[col] = half.weight[col] + begin / Format::kGroups * Format::kBytes;
    Format::scales(at[col], groups, chunk.scale[col], chunk.min[col]);
  }
  alignas(64) uint32_t pairs[Format::kUnit][kHalf * kHalf];
  for (int group = 0; group < groups; group += Format::kUnit) {
    for (int col = 0; col < kHalf; ++col) {
      Pairs words[Format::kUnit];
      Format::words(at[col], group, words);
#pragma GCC unroll 4
      for (int unit = 0; unit < Format::kUnit; ++unit) {
        const F32 scale = Format::scale_at(chunk.scale[col], group + unit);
        const Pairs quants = words[unit];
        // the product is exact, so fusing changes nothing
        const F32 min = Format::kMin ? set1(chunk.min[col][group + unit]) : zero();
        const F32 even = fma(widen_even(quants), scale, min);
        const F32 odd = fma(widen_odd(quants), scale, min);
        store_pairs(pairs[unit] + col * kHalf, pack_pairs(even, odd));
      }
    }
#pragma GCC unroll 4
    for (int unit = 0; unit < Format::kUnit; ++unit) {
      transpose16(pairs[unit], panel + (group + unit) * kHalf * kTileCols, kTileCols, kHalf);
    }
  }
}

template <DType kType>
void pack_float(const HalfPanel& half, int64_t begin, int64_t len, uint32_t* panel) {
  alignas(64) uint32_t pairs[kHalf * kHalf];
  for (int64_t k = 0; k < len; k += 32) {
    for (int col = 0; col < kHalf; ++col) {
      store_pairs(pairs + col * kHalf, float_pairs<kType>(half.weight[col], begin + k, len - k));
    }
    transpose16(pairs, panel + k / 2 * kTileCols, kTileCols, kHalf);
  }
}

template <class Format>
void pack_quant(const HalfPanel& half, int64_t begin, int64_t len, uint32_t* panel) {
  for (int64_t group = 0; group < len / 32; group += kChunkGroups) {
    const auto groups = static_cast<int>(smaller(kChunkGroups, len / 32 - group));
    pack_chunk<Format>(half, begin / 32 + group, groups, panel + group * 16 * kTileCols);
  }
}

using PackFn = void (*)(const HalfPanel&, int64_t, int64_t, uint32_t*);

PackFn pack_for(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return pack_float<DType::kF32>;
    case DType::kF16:
      return pack_float<DType::kF16>;
    case DType::kBF16:
      return pack_float<DType::kBF16>;
    case DType::kQ4_0:
      return pack_quant<WordsQ4_0>;
    case DType::kQ4_1:
      return pack_quant<WordsQ4_1>;
    case DType::kQ5_0:
      return pack_quant<WordsQ5_0>;
    case DType::kQ5_1:
      return pack_quant<WordsQ5_1>;
    case DType::kQ8_0:
      return pack_quant<WordsQ8_0>;
    case DType::kE4M3x32:
      return pack_quant<WordsE4M3>;
    case DType::kQ4_K:
      return pack_quant<WordsQ4_K>;
    case DType::kQ5_K:
      return pack_quant<WordsQ5_K>;
    default:
      return pack_quant<WordsQ6_K>;
  }
}

#endif

/// kLanes steps from the `left` floats at `src`, zeros after them.
FOVEAL_SIMD Step steps_from(const float* src, int64_t left) {
  constexpr int64_t kGroup = kLanes * kStep;
  if (left >= kGroup) return to_steps(src);
  float tail[kGroup];
  for (int64_t idx = 0; idx < kGroup; ++idx) tail[idx] = idx < left ? src[idx] : 0;
  return to_steps(tail);
}

/// words[row, step] to out[step, row] for `count` <= kLanes steps.
void store_tile(const uint32_t* words, int64_t count, uint32_t* out) {
#if FOVEAL_ISA_LEVEL >= 2
  if (count == kLanes) {
    transpose16(words, out, kTileRows, kTileRows);
    return;
  }
#endif
  for (int64_t step = 0; step < count; ++step) {
    for (int row = 0; row < kTileRows; ++row)
      out[step * kTileRows + row] = words[row * kLanes + step];
  }
}

}  // namespace

void pack_panel(const PrefillTask& task, int64_t begin, int64_t steps) {
#if FOVEAL_ISA_LEVEL >= 3
  const GemmSlice& slice = task.slice;
  const PackFn pack = pack_for(slice.dtype);
  const int64_t from = begin * kStep;
  for (int first = 0; first < kTileCols && first < slice.n; first += kHalf) {
    HalfPanel half;
    for (int col = 0; col < kHalf; ++col) {
      half.weight[col] = slice.weight + smaller(first + col, slice.n - 1) * slice.row_bytes;
    }
    pack(half, from, smaller(task.k - from, steps * kStep), task.panel + first);
  }
#else
  pack_by_column(task, begin, steps);
#endif
}

void pack_rows(const float* x, int64_t x_stride, int64_t rows, int64_t k, uint32_t* out) {
  const int64_t total = (k + kStep - 1) / kStep;
  // 2 KiB of a row at a time: rows may lie a power of two apart, in the same few cache sets
  constexpr int64_t kRun = 16 * kLanes;
  constexpr int64_t kBlock = (kTileRows > kLanes ? kTileRows : kLanes) * kLanes;
  alignas(64) uint32_t words[16][kBlock];
  __builtin_memset(words, 0, sizeof(words));
  for (int64_t step = 0; step < total; step += kRun) {
    const int64_t count = smaller(total - step, kRun);
    for (int64_t row = 0; row < rows; ++row) {
      const float* src = x + row * x_stride + step * kStep;
      const int64_t len = smaller(k - step * kStep, kRun * kStep);
      // the next run of this row, which begins after all other rows' runs
      fetch(src, 4 * kRun * kStep, 4 * kRun * kStep);
      for (int64_t at = 0; at < count; at += kLanes) {
        store_steps(words[at / kLanes] + row * kLanes,
                    steps_from(src + at * kStep, len - at * kStep));
      }
    }
    for (int64_t at = 0; at < count; at += kLanes) {
      store_tile(words[at / kLanes], smaller(count - at, kLanes), out + (step + at) * kTileRows);
    }
  }
}

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS
