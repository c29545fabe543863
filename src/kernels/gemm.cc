#include "kernels/gemm.h"

#include <algorithm>

#include "base/check.h"
#include "base/math.h"
#include "kernels/cpu/gemm_kernels.h"
#include "kernels/cpu/gemm_ranges.h"

namespace foveal::kernels {
namespace {

using cpu::DotTask;
using cpu::GemmKernels;
using cpu::GemmSlice;
using cpu::PrefillTask;
using cpu::WorkRanges;

constexpr auto kBad = ErrorKind::kInvalidArgument;
/// Rows of x packed at a time: bounds the scratch; an expanded panel serves this many rows.
constexpr int64_t kRowBlock = 512;
/// Prefill tasks a worker should get, for balance, before tasks grow to several panels.
constexpr int64_t kPrefillTasks = 16;
/// Weight bytes a decode task should read: long enough to hide the hand-out, short enough that the
/// last one does not leave the others waiting (about 0.7 us of streaming).
constexpr int64_t kTaskBytes = 16 * 1024;
/// Columns of a task are a multiple of this, so that reductions of whole vectors stay whole.
constexpr int64_t kTaskCols = 16;

void check_output(const GemmParams& p, const GemmOutput& out) {
  const WeightView& w = out.weight;
  FOVEAL_CHECK(is_weight_dtype(w.dtype), ErrorKind::kUnsupported, "gemm",
               "got a weight of dtype {}; need a float or quantised weight dtype",
               dtype_name(w.dtype));
  FOVEAL_CHECK(w.cols == p.k, kBad, "gemm", "got a weight [{}, {}]; need {} columns", w.rows,
               w.cols, p.k);
  const auto bytes = row_bytes(w.dtype, p.k);
  FOVEAL_CHECK(bytes.has_value(), kBad, "gemm", "got k {} for {}; need whole blocks of {}", p.k,
               dtype_name(w.dtype), dtype_info(w.dtype).block);
  FOVEAL_CHECK(w.rows >= 0 && w.row_bytes >= *bytes, kBad, "gemm",
               "got {} weight rows of {} bytes; need rows of at least {}", w.rows, w.row_bytes,
               *bytes);
  FOVEAL_CHECK(w.rows == 0 || (w.data != nullptr && out.y != nullptr), kBad, "gemm",
               "got a null weight or y; need both");
  FOVEAL_CHECK(out.y_stride >= w.rows, kBad, "gemm", "got y_stride {}; need at least {}",
               out.y_stride, w.rows);
}

void check(const GemmParams& p, const Stream& stream) {
  FOVEAL_CHECK(stream.device().kind == DeviceKind::kCpu, ErrorKind::kUnsupported, "gemm",
               "got a stream on {}; need a CPU", device_name(stream.device()));
  FOVEAL_CHECK(p.m >= 0 && p.k >= 1, kBad, "gemm", "got m {} and k {}; need m >= 0 and k >= 1", p.m,
               p.k);
  FOVEAL_CHECK(p.m == 0 || p.x != nullptr, kBad, "gemm", "got a null x; need [{}, {}]", p.m, p.k);
  FOVEAL_CHECK(p.x_stride >= p.k, kBad, "gemm", "got x_stride {}; need at least k = {}", p.x_stride,
               p.k);
  for (const GemmOutput& out : p.outputs) check_output(p, out);
}

size_t checked_bytes(int64_t rows, int64_t row_size) {
  const auto bytes = checked_mul(rows, row_size);
  FOVEAL_CHECK(bytes.has_value(), kBad, "gemm", "got {} rows of {} bytes; need a size that fits",
               rows, row_size);
  return static_cast<size_t>(*bytes);
}

/// Columns [begin, begin + n) and rows from `row` of one output.
GemmSlice slice_of(const GemmOutput& out, int64_t begin, int64_t n, int64_t row) {
  return {.weight = reinterpret_cast<const uint8_t*>(out.weight.row(begin)),
          .row_bytes = out.weight.row_bytes,
          .dtype = out.weight.dtype,
          .n = n,
          .bias = out.bias == nullptr ? nullptr : out.bias + begin,
          .y = out.y + row * out.y_stride + begin,
          .y_stride = out.y_stride,
          .accumulate = out.accumulate};
}

/// The outputs' columns as one list of tasks.
template <class WidthFn>
int64_t count_tasks(std::span<const GemmOutput> outputs, WidthFn width) {
  int64_t count = 0;
  for (const GemmOutput& out : outputs) count += ceil_div(out.weight.rows, width(out));
  return count;
}

template <class WidthFn>
GemmSlice find_task(std::span<const GemmOutput> outputs, WidthFn width, int64_t task, int64_t row) {
  for (const GemmOutput& out : outputs) {
    const int64_t cols = width(out);
    const int64_t here = ceil_div(out.weight.rows, cols);
    if (task < here) {
      const int64_t begin = task * cols;
      return slice_of(out, begin, std::min(cols, out.weight.rows - begin), row);
    }
    task -= here;
  }
  fail(ErrorKind::kInternal, "gemm", "got no task {}; need fewer", task);
}

void prefill_block(const GemmParams& p, int64_t row, int64_t m, const GemmKernels& kernels,
                   Stream& stream) {
  const int64_t steps = ceil_div(p.k, kernels.step);
  const int64_t tiles = ceil_div(m, kernels.tile_rows);
  const int64_t rows = tiles * kernels.tile_rows;
  const int64_t panel_words = cpu::kTaskPanels * cpu::kPanelSteps * kernels.tile_cols;
  const int64_t partial_words = cpu::kTaskPanels * rows * kernels.tile_cols;
  const int64_t worker_words = panel_words + partial_words + cpu::kRowFloats;
  const size_t x_bytes = checked_bytes(rows, round_up(steps, 16) * 4);
  ThreadPool& pool = stream.pool();
  std::byte* scratch =
      stream.scratch(x_bytes + checked_bytes(pool.num_threads(), worker_words * 4));
  auto* x = reinterpret_cast<uint32_t*>(scratch);
  auto* workers = reinterpret_cast<uint32_t*>(scratch + x_bytes);

  pool.run(tiles, [&](int64_t tile, int) {
    const int64_t first = tile * kernels.tile_rows;
    kernels.pack_rows(p.x + (row + first) * p.x_stride, p.x_stride,
                      std::min<int64_t>(kernels.tile_rows, m - first), p.k, x + first * steps);
  });
  const auto panel = [&](const GemmOutput&) -> int64_t { return kernels.tile_cols; };
  const int64_t share = count_tasks(p.outputs, panel) / (pool.num_threads() * kPrefillTasks);
  const int64_t panels = std::clamp<int64_t>(share, 1, cpu::kTaskPanels);
  const auto width = [&](const GemmOutput&) -> int64_t { return panels * kernels.tile_cols; };
  pool.run(count_tasks(p.outputs, width), [&](int64_t idx, int worker) {
    uint32_t* mine = workers + worker * worker_words;
    auto* floats = reinterpret_cast<float*>(mine + panel_words);
    kernels.prefill({.slice = find_task(p.outputs, width, idx, row),
                     .x = x,
                     .m = m,
                     .k = p.k,
                     .panel = mine,
                     .partial = floats,
                     .row = floats + partial_words});
  });
}

/// A decode call's scratch: x padded (only where k is no multiple of 32), and x rounded with sums.
struct DotInput {
  const float* x;
  int64_t x_stride;
  uint16_t* x_bf16 = nullptr;
  float* x_sums = nullptr;
  float* workers = nullptr;
};

DotInput prepare_dot(const GemmParams& p, const GemmKernels& kernels, bool rounded,
                     Stream& stream) {
  const int64_t padded = round_up(p.k, 32);
  const int64_t groups = padded / 32;
  const bool pad = padded != p.k;
  const size_t pad_bytes = pad ? checked_bytes(p.m, padded * 4) : 0;
  const size_t bf16_bytes = rounded ? checked_bytes(p.m, padded * 2) : 0;
  const size_t sum_bytes =
      rounded ? checked_bytes(1, round_up(static_cast<int64_t>(checked_bytes(p.m, groups * 4)), 64))
              : 0;
  const size_t worker_bytes =
      checked_bytes(stream.pool().num_threads(), cpu::kDotScratchFloats * 4);
  std::byte* scratch = stream.scratch(pad_bytes + bf16_bytes + sum_bytes + worker_bytes);
  DotInput in{.x = p.x, .x_stride = p.x_stride};
  if (pad) {
    auto* x = reinterpret_cast<float*>(scratch);
    for (int64_t row = 0; row < p.m; ++row) {
      std::copy_n(p.x + row * p.x_stride, p.k, x + row * padded);
      std::fill_n(x + row * padded + p.k, padded - p.k, 0.0F);
    }
    in.x = x;
    in.x_stride = padded;
  }
  if (rounded) {
    in.x_bf16 = reinterpret_cast<uint16_t*>(scratch + pad_bytes);
    in.x_sums = reinterpret_cast<float*>(scratch + pad_bytes + bf16_bytes);
    const auto round_row = [&](int64_t row) {
      kernels.round_row(in.x + row * in.x_stride, p.k, padded, in.x_bf16 + row * padded,
                        in.x_sums + row * groups);
    };
    // a region costs about as much as rounding a few thousand elements
    if (p.m * p.k < 16384) {
      for (int64_t row = 0; row < p.m; ++row) round_row(row);
    } else {
      stream.pool().run(p.m, [&](int64_t row, int) { round_row(row); });
    }
  }
  in.workers = reinterpret_cast<float*>(scratch + pad_bytes + bf16_bytes + sum_bytes);
  return in;
}

void dot(const GemmParams& p, const GemmKernels& kernels, Stream& stream) {
  const bool rounded = p.path == GemmPath::kDecode && kernels.bf16_decode;
  const DotInput in = prepare_dot(p, kernels, rounded, stream);
  const auto run = p.path == GemmPath::kDecode ? kernels.decode : kernels.exact;
  const int64_t padded = round_up(p.k, 32);
  const auto width = [&](const GemmOutput& out) -> int64_t {
    const int64_t cols = kTaskBytes / out.weight.row_bytes / kTaskCols * kTaskCols;
    return std::max(cols, kTaskCols);
  };
  WorkRanges ranges(count_tasks(p.outputs, width), stream.pool().num_threads());
  stream.pool().run(ranges.callers(), [&](int64_t home, int worker) {
    bool first = true;
    for (int64_t idx = ranges.take(home); idx >= 0; idx = ranges.take(home)) {
      const GemmSlice slice = find_task(p.outputs, width, idx, 0);
      if (first) kernels.warm(slice.weight, slice.n * slice.row_bytes);
      first = false;
      run({.slice = slice,
           .x = in.x,
           .x_bf16 = in.x_bf16,
           .x_sums = in.x_sums,
           .sums_stride = padded / 32,
           .m = p.m,
           .k = p.k,
           .padded_k = padded,
           .x_stride = in.x_stride,
           .scratch = in.workers + worker * cpu::kDotScratchFloats});
    }
  });
}

}  // namespace

void gemm(const GemmParams& params, Stream& stream) {
  check(params, stream);
  if (params.m == 0) return;
  const GemmKernels& kernels = cpu::gemm_kernels();
  if (params.path != GemmPath::kPrefill) {
    dot(params, kernels, stream);
    return;
  }
  for (int64_t row = 0; row < params.m; row += kRowBlock) {
    prefill_block(params, row, std::min(kRowBlock, params.m - row), kernels, stream);
  }
}

}  // namespace foveal::kernels
