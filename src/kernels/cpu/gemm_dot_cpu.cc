#include "kernels/cpu/gemm_parts.h"
#include "kernels/cpu/simd/gemm_vec.h"
#include "kernels/cpu/simd/unpack.h"

// Computes:  y[m, n] = x[m, k] W[n, k]^T + bias in float32, for some columns of W.
// In/out:    x f32 [m, padded_k], row stride, zeros from k to padded_k; W [n, k] as stored, any
//            weight dtype, unaligned; y f32, row stride.
// Units:     elements; W is expanded kDotChunk elements of kDotCols columns at a time.
// Launch:    some columns a task, any worker; scratch belongs to the worker.
// Needs:     nothing beyond the level.
// Numerics:  f32 products and sums (fused where the level can); kLanes lanes a dot product, each
//            ascending in k, added at the end as a tree of halves: the same whatever m is.
// Source:    ours.
// Measured:  docs/kernels/gemm.md.
namespace foveal::kernels::cpu::FOVEAL_ISA_NS {
namespace {

/// acc[R, kDotCols, kLanes] += lanes of x rows times `len` (a multiple of 32) expanded elements of
/// kDotCols columns.
template <int R>
void accumulate(const float* x, int64_t x_stride, const float* w, int64_t len, float* acc) {
  F32 sum[R][kDotCols];
#pragma GCC unroll 4
  for (int row = 0; row < R; ++row) {
#pragma GCC unroll 4
    for (int col = 0; col < kDotCols; ++col)
      sum[row][col] = load(acc + (row * kDotCols + col) * kLanes);
  }
  for (int64_t k = 0; k < len; k += kLanes) {
    F32 wv[kDotCols];
#pragma GCC unroll 4
    for (int col = 0; col < kDotCols; ++col) wv[col] = load(w + col * kDotChunk + k);
#pragma GCC unroll 4
    for (int row = 0; row < R; ++row) {
      const F32 xv = load(x + row * x_stride + k);
#pragma GCC unroll 4
      for (int col = 0; col < kDotCols; ++col) sum[row][col] = fma(xv, wv[col], sum[row][col]);
    }
  }
#pragma GCC unroll 4
  for (int row = 0; row < R; ++row) {
#pragma GCC unroll 4
    for (int col = 0; col < kDotCols; ++col)
      store(acc + (row * kDotCols + col) * kLanes, sum[row][col]);
  }
}

void finish(const DotTask& task, int64_t row, int64_t col, const float* acc) {
  const GemmSlice& slice = task.slice;
  for (int64_t idx = 0; idx < kDotCols && col + idx < slice.n; ++idx) {
    float value = reduce_add(load(acc + idx * kLanes));
    if (slice.bias != nullptr) value += slice.bias[col + idx];
    float* y = slice.y + row * slice.y_stride + col + idx;
    *y = slice.accumulate ? *y + value : value;
  }
}

/// Up to kDotCols columns from `col`, rows [begin, begin + rows).
void columns(const DotTask& task, int64_t col, int64_t begin, int64_t rows) {
  const GemmSlice& slice = task.slice;
  float* w = task.scratch;
  float* acc = task.scratch + kDotCols * kDotChunk;
  constexpr int64_t kAccRow = kDotCols * kLanes;
  for (int64_t idx = 0; idx < rows * kAccRow; ++idx) acc[idx] = 0;
  for (int64_t k = 0; k < task.k; k += kDotChunk) {
    const int64_t len = task.k - k < kDotChunk ? task.k - k : kDotChunk;
    const int64_t padded = task.padded_k - k < kDotChunk ? task.padded_k - k : kDotChunk;
    for (int64_t idx = 0; idx < kDotCols; ++idx) {
      // past the last column any column will do: its sums are not stored
      const int64_t from = col + idx < slice.n ? col + idx : col;
      const uint8_t* weight = slice.weight + from * slice.row_bytes;
      if (begin == 0)
        fetch_ahead(weight + slice.row_bytes * k / task.k, slice.row_bytes * len / task.k);
      unpack_row(slice.dtype, weight, k, len, padded, w + idx * kDotChunk);
    }
    const float* x = task.x + begin * task.x_stride + k;
    int64_t row = 0;
    for (; row + kDotRows <= rows; row += kDotRows) {
      accumulate<kDotRows>(x + row * task.x_stride, task.x_stride, w, padded, acc + row * kAccRow);
    }
    for (; row < rows; ++row) {
      accumulate<1>(x + row * task.x_stride, task.x_stride, w, padded, acc + row * kAccRow);
    }
  }
  for (int64_t row = 0; row < rows; ++row) finish(task, begin + row, col, acc + row * kAccRow);
}

}  // namespace

void dot_exact(const DotTask& task) {
  for (int64_t begin = 0; begin < task.m; begin += kDotRowBlock) {
    const int64_t rows = task.m - begin < kDotRowBlock ? task.m - begin : kDotRowBlock;
    for (int64_t col = 0; col < task.slice.n; col += kDotCols) columns(task, col, begin, rows);
  }
}

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS
