#include "kernels/cpu/gemm_parts.h"
#include "kernels/cpu/simd/gemm_vec.h"

// Computes:  y[m, n] = x[m, k] W[n, k]^T + bias for up to kTaskPanels panels of kTileCols
//            columns of W.
// In/out:    x packed by pack_rows: [ceil(m / kTileRows), steps, kTileRows] words, a word being one
//            f32 or two bf16; W [n, k] as stored, any weight dtype, unaligned; y f32, row stride.
// Units:     steps of the reduction (kStep elements each); panels of kPanelSteps steps.
// Launch:    some panels a task, any worker; scratch belongs to the worker.
// Needs:     nothing beyond the level; every tail is padded with zeros.
// Numerics:  W and x rounded to bf16 (level avx512bf16) or kept f32; every output is one chain of
//            f32 additions in ascending k, whatever m is.
// Source:    ours; the packed-panel shape is Goto and van de Geijn's (2008).
// Measured:  docs/kernels/gemm.md.
namespace foveal::kernels::cpu::FOVEAL_ISA_NS {
namespace {

/// c[R, kTileCols] (+)= the product of R rows and one panel.
template <int R>
void tile(const uint32_t* x, const uint32_t* panel, int64_t steps, bool first, float* c) {
  F32 acc[R][2];
#pragma GCC unroll 12
  for (int row = 0; row < R; ++row) {
    acc[row][0] = first ? zero() : load(c + row * kTileCols);
    acc[row][1] = first ? zero() : load(c + row * kTileCols + kLanes);
  }
  for (int64_t step = 0; step < steps; ++step) {
    const Step w0 = load_step(panel);
    const Step w1 = load_step(panel + kLanes);
#pragma GCC unroll 12
    for (int row = 0; row < R; ++row) {
      const Step xv = broadcast_step(x + row);
      acc[row][0] = step_add(acc[row][0], w0, xv);
      acc[row][1] = step_add(acc[row][1], w1, xv);
    }
    panel += kTileCols;
    x += kTileRows;
  }
#pragma GCC unroll 12
  for (int row = 0; row < R; ++row) {
    store(c + row * kTileCols, acc[row][0]);
    store(c + row * kTileCols + kLanes, acc[row][1]);
  }
}

using TileFn = void (*)(const uint32_t*, const uint32_t*, int64_t, bool, float*);

TileFn tile_for(int64_t rows) {
  switch (rows) {
    case 1:
      return tile<1>;
    case 2:
      return tile<2>;
    case 3:
      return tile<3>;
#if FOVEAL_ISA_LEVEL >= 1
    case 4:
      return tile<4>;
    case 5:
      return tile<5>;
#endif
#if FOVEAL_ISA_LEVEL >= 2
    case 6:
      return tile<6>;
    case 7:
      return tile<7>;
    case 8:
      return tile<8>;
    case 9:
      return tile<9>;
    case 10:
      return tile<10>;
    case 11:
      return tile<11>;
#endif
    default:
      return tile<kTileRows>;
  }
}

/// One row of a finished tile to y.
void finish(const GemmSlice& slice, int64_t row, const float* c) {
  float* y = slice.y + row * slice.y_stride;
  for (int begin = 0; begin < kTileCols && begin < slice.n; begin += kLanes) {
    const int64_t left = slice.n - begin;
    const int count = left < kLanes ? static_cast<int>(left) : kLanes;
    F32 value = load(c + begin);
    if (slice.bias != nullptr) value = value + load_n(slice.bias + begin, count);
    if (slice.accumulate) value = load_n(y + begin, count) + value;
    store_n(y + begin, value, count);
  }
}

/// The task's panel that begins at column `col`.
PrefillTask panel_task(const PrefillTask& task, int64_t col) {
  PrefillTask part = task;
  GemmSlice& slice = part.slice;
  slice.n = slice.n - col < kTileCols ? slice.n - col : kTileCols;
  slice.weight += col * slice.row_bytes;
  if (slice.bias != nullptr) slice.bias += col;
  slice.y += col;
  return part;
}

/// Rows [row, row + kTileRows) times steps [begin, begin + steps) of a packed panel; to y when
/// these are the last.
void run_tile(const PrefillTask& task, int64_t row, int64_t begin, int64_t steps, int64_t total) {
  const int64_t rows = task.m - row < kTileRows ? task.m - row : kTileRows;
  const uint32_t* x = task.x + row * total + begin * kTileRows;
  // one tile's worth serves all when nothing has to wait for the next steps
  float* c = total <= kPanelSteps ? task.partial : task.partial + row * kTileCols;
  tile_for(rows)(x, task.panel, steps, begin == 0, c);
  if (begin + steps < total) return;
  for (int64_t idx = 0; idx < rows; ++idx) finish(task.slice, row + idx, c + idx * kTileCols);
}

}  // namespace

void prefill_panels(const PrefillTask& task) {
  PrefillTask parts[kTaskPanels];
  int count = 0;
  const int64_t tiles = (task.m + kTileRows - 1) / kTileRows;
  for (int64_t col = 0; col < task.slice.n; col += kTileCols) {
    parts[count] = panel_task(task, col);
    parts[count].panel += count * kPanelSteps * kTileCols;
    parts[count].partial += count * tiles * kTileRows * kTileCols;
    ++count;
  }
  const int64_t total = (task.k + kStep - 1) / kStep;
  for (int64_t begin = 0; begin < total; begin += kPanelSteps) {
    const int64_t steps = total - begin < kPanelSteps ? total - begin : kPanelSteps;
    for (int part = 0; part < count; ++part) pack_panel(parts[part], begin, steps);
    for (int64_t row = 0; row < task.m; row += kTileRows) {
      for (int part = 0; part < count; ++part) run_tile(parts[part], row, begin, steps, total);
    }
  }
}

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS
