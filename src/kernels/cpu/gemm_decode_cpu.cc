#include "kernels/cpu/gemm_parts.h"
#include "kernels/cpu/simd/float_pairs.h"
#include "kernels/cpu/simd/quant_words.h"
#include "kernels/cpu/simd/reduce4.h"

// Computes:  y[m, n] = x[m, k] W[n, k]^T + bias for few rows, some columns of W.
// In/out:    x rounded to bf16 [m, padded_k] with sums of 32 elements each; W [n, k] as stored,
// bf16
//            or quantised, unaligned, read once for 4 rows; y f32, row stride.
// Units:     groups of 32 elements; chunks of 16 groups, whose scales are read together.
// Launch:    some columns a task, any worker.
// Needs:     AVX-512 BF16 and VBMI; other levels and float32 or float16 weights take dot_exact.
// Numerics:  quants and rounded x are exact in bf16; a group's products are summed in f32 (two a
//            lane), then times the scale added to 16 f32 lanes an output, ascending in k; minima
//            times sums of x go into the same lanes. One order for every m.
// Source:    ours.
// Measured:  docs/kernels/gemm.md.
namespace foveal::kernels::cpu::FOVEAL_ISA_NS {

#if FOVEAL_ISA_LEVEL >= 3
namespace {

constexpr int kCols = 4;

/// Where kCols columns start.
struct Columns {
  const uint8_t* weight[kCols];
};

struct alignas(64) ChunkScales {
  float scale[kCols][kScaleFloats];
  float min[kCols][kChunkGroups];
};

template <class Format>
FOVEAL_SIMD const uint8_t* chunk_at(const uint8_t* row, int64_t group) {
  return row + group / Format::kGroups * Format::kBytes;
}

/// acc[R, kCols] += one chunk of `groups` groups from `begin`.
template <class Format, int R>
FOVEAL_SIMD void add_chunk(const DotTask& task, const Columns& cols, int64_t row, int64_t begin,
                           int groups, F32 (&acc)[R][kCols]) {
  ChunkScales chunk;
  const uint8_t* at[kCols];
#pragma GCC unroll 4
  for (int col = 0; col < kCols; ++col) {
    at[col] = chunk_at<Format>(cols.weight[col], begin);
    Format::scales(at[col], groups, chunk.scale[col], chunk.min[col]);
    if (row == 0) fetch_ahead(at[col], groups * Format::kBytes / Format::kGroups);
  }
  if (Format::kMin) {
#pragma GCC unroll 4
    for (int idx = 0; idx < R; ++idx) {
      const F32 sums = load_n(task.x_sums + (row + idx) * task.sums_stride + begin, groups);
#pragma GCC unroll 4
      for (int col = 0; col < kCols; ++col) {
        acc[idx][col] = fma(load(chunk.min[col]), sums, acc[idx][col]);
      }
    }
  }
  const uint16_t* x = task.x_bf16 + row * task.padded_k + begin * 32;
  for (int group = 0; group < groups; group += Format::kUnit) {
#pragma GCC unroll 4
    for (int col = 0; col < kCols; ++col) {
      Pairs words[Format::kUnit];
      Format::words(at[col], group, words);
#pragma GCC unroll 4
      for (int unit = 0; unit < Format::kUnit; ++unit) {
        const F32 scale = Format::scale_at(chunk.scale[col], group + unit);
#pragma GCC unroll 4
        for (int idx = 0; idx < R; ++idx) {
          const Pairs xv = load_pairs(x + idx * task.padded_k + (group + unit) * 32);
          acc[idx][col] = fma(dot(zero(), words[unit], xv), scale, acc[idx][col]);
        }
      }
    }
  }
}

template <int R>
FOVEAL_SIMD void finish(const DotTask& task, int64_t col, int64_t row, F32 (&acc)[R][kCols]) {
  const GemmSlice& slice = task.slice;
  const float* bias = slice.bias == nullptr ? nullptr : slice.bias + col;
#pragma GCC unroll 4
  for (int idx = 0; idx < R; ++idx) {
    store_sums4(slice.y + (row + idx) * slice.y_stride + col, slice.n - col, bias, slice.accumulate,
                acc[idx]);
  }
}

template <class Format, int R>
void quant_rows(const DotTask& task, const Columns& cols, int64_t col, int64_t row) {
  F32 acc[R][kCols];
#pragma GCC unroll 4
  for (int idx = 0; idx < R; ++idx) {
#pragma GCC unroll 4
    for (int each = 0; each < kCols; ++each) acc[idx][each] = zero();
  }
  const int64_t groups = task.k / 32;
  int64_t begin = 0;
  for (; begin + kChunkGroups <= groups; begin += kChunkGroups) {
    add_chunk<Format, R>(task, cols, row, begin, kChunkGroups, acc);
  }
  if (begin < groups) {
    add_chunk<Format, R>(task, cols, row, begin, static_cast<int>(groups - begin), acc);
  }
  finish<R>(task, col, row, acc);
}

/// bf16 weights are words already; the end of a row that is no multiple of 32 is masked.
struct WordsBF16 {
  static constexpr bool kPlain = true;
};

template <class Format, int R>
  requires(Format::kPlain)
void quant_rows(const DotTask& task, const Columns& cols, int64_t col, int64_t row) {
  F32 acc[R][kCols];
#pragma GCC unroll 4
  for (int idx = 0; idx < R; ++idx) {
#pragma GCC unroll 4
    for (int each = 0; each < kCols; ++each) acc[idx][each] = zero();
  }
  const uint16_t* x = task.x_bf16 + row * task.padded_k;
  for (int64_t k = 0; k < task.padded_k; k += 32) {
    if (row == 0) {
      for (const uint8_t* weight : cols.weight) fetch_ahead(weight + 2 * k, 64);
    }
    const int64_t left = task.k - k;
#pragma GCC unroll 4
    for (int each = 0; each < kCols; ++each) {
      const Pairs words = float_pairs<DType::kBF16>(cols.weight[each], k, left);
#pragma GCC unroll 4
      for (int idx = 0; idx < R; ++idx) {
        acc[idx][each] = dot(acc[idx][each], words, load_pairs(x + idx * task.padded_k + k));
      }
    }
  }
  finish<R>(task, col, row, acc);
}

template <class Format>
void decode(const DotTask& task) {
  const GemmSlice& slice = task.slice;
  for (int64_t col = 0; col < slice.n; col += kCols) {
    Columns cols;
    for (int idx = 0; idx < kCols; ++idx) {
      // past the last column the last is read again and not stored
      const int64_t from = col + idx < slice.n ? col + idx : slice.n - 1;
      cols.weight[idx] = slice.weight + from * slice.row_bytes;
    }
    int64_t row = 0;
    for (; row + 4 <= task.m; row += 4) quant_rows<Format, 4>(task, cols, col, row);
    if (row + 2 <= task.m) {
      quant_rows<Format, 2>(task, cols, col, row);
      row += 2;
    }
    if (row < task.m) quant_rows<Format, 1>(task, cols, col, row);
  }
}

}  // namespace

void decode_bf16(const DotTask& task) {
  switch (task.slice.dtype) {
    case DType::kBF16:
      return decode<WordsBF16>(task);
    case DType::kQ4_0:
      return decode<WordsQ4_0>(task);
    case DType::kQ4_1:
      return decode<WordsQ4_1>(task);
    case DType::kQ5_0:
      return decode<WordsQ5_0>(task);
    case DType::kQ5_1:
      return decode<WordsQ5_1>(task);
    case DType::kQ8_0:
      return decode<WordsQ8_0>(task);
    case DType::kE4M3x32:
      return decode<WordsE4M3>(task);
    case DType::kQ4_K:
      return decode<WordsQ4_K>(task);
    case DType::kQ5_K:
      return decode<WordsQ5_K>(task);
    case DType::kQ6_K:
      return decode<WordsQ6_K>(task);
    default:
      return dot_exact(task);
  }
}

void round_row(const float* x, int64_t k, int64_t padded_k, uint16_t* x_bf16, float* x_sums) {
  for (int64_t at = 0; at < padded_k; at += 32) {
    const int64_t left = k - at < 32 ? k - at : 32;
    float tail[32];
    const float* src = x + at;
    if (left < 32) {
      for (int64_t idx = 0; idx < 32; ++idx) tail[idx] = idx < left ? src[idx] : 0;
      src = tail;
    }
    const Pairs pairs = to_steps(src);
    store_pairs(x_bf16 + at, pairs);
    x_sums[at / 32] = reduce_add(widen_even(pairs) + widen_odd(pairs));
  }
}

#else

void decode_bf16(const DotTask& task) { dot_exact(task); }
void round_row(const float*, int64_t, int64_t, uint16_t*, float*) {}

#endif

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS
