#include "kernels/elementwise.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/check.h"
#include "base/math.h"
#include "kernels/cpu/elementwise_cpu.h"

namespace foveal::kernels {
namespace {

// A fork-join costs about a microsecond awake and tens of them when workers sleep, an element a
// quarter to one nanosecond: below this many elements (every decode step of a small batch) the
// caller's thread is done sooner alone.
constexpr int64_t kMinParallelElements = 32768;
// Blocks a worker, so that one delayed worker does not hold the others for a whole share.
constexpr int64_t kBlocksPerWorker = 4;

void require_cpu(const Stream& stream, const char* where) {
  FOVEAL_CHECK(stream.device().kind == DeviceKind::kCpu, ErrorKind::kUnsupported, where,
               "got device {}; need cpu", device_name(stream.device()));
}

/// Calls work(begin, end) for ranges that cover [0, count) once. `elements` is the whole work.
template <class Work>
void for_blocks(int64_t count, int64_t elements, Stream& stream, const Work& work) {
  const int64_t workers = stream.pool().num_threads();
  if (workers == 1 || count == 1 || elements < kMinParallelElements) {
    work(0, count);
    return;
  }
  const int64_t block = ceil_div(count, std::min(count, workers * kBlocksPerWorker));
  stream.pool().run(ceil_div(count, block), [&](int64_t idx, int) {
    work(idx * block, std::min(count, (idx + 1) * block));
  });
}

void check_extent(const char* where, int64_t m, int64_t n) {
  FOVEAL_CHECK(m >= 0 && n > 0 && checked_mul(m, n).has_value(), ErrorKind::kInternal, where,
               "got [{}, {}]; need at least [0, 1]", m, n);
}

void check_stride(const char* where, int64_t stride, int64_t n) {
  FOVEAL_CHECK(stride >= n, ErrorKind::kInternal, where, "got row stride {}; need at least {}",
               stride, n);
}

void layer_norm_row(const LayerNormParams& params, int64_t row) {
  const float* x = params.x + row * params.x_stride;
  float* y = params.y + row * params.y_stride;
  const auto n = static_cast<double>(params.n);
  const double mean = std::accumulate(x, x + params.n, 0.0) / n;
  double squares = 0;
  for (int64_t col = 0; col < params.n; ++col) {
    const double centred = double{x[col]} - mean;
    squares += centred * centred;
  }
  const double factor = 1 / std::sqrt(squares / n + double{params.eps});
  for (int64_t col = 0; col < params.n; ++col) {
    const double normed = (double{x[col]} - mean) * factor;
    y[col] = static_cast<float>(normed * params.weight[col] + params.bias[col]);
  }
}

}  // namespace

void rms_norm(const RmsNormParams& params, Stream& stream) {
  require_cpu(stream, "rms_norm");
  check_extent("rms_norm", params.m, params.n);
  check_stride("rms_norm", params.x_stride, params.n);
  check_stride("rms_norm", params.y_stride, params.n);
  if (params.m == 0) return;
  const auto& table = cpu::elementwise_table();
  for_blocks(params.m, params.m * params.n, stream,
             [&](int64_t begin, int64_t end) { table.rms_norm(params, begin, end); });
}

void layer_norm(const LayerNormParams& params, Stream& stream) {
  require_cpu(stream, "layer_norm");
  check_extent("layer_norm", params.m, params.n);
  check_stride("layer_norm", params.x_stride, params.n);
  check_stride("layer_norm", params.y_stride, params.n);
  if (params.m == 0) return;
  // An indexer's keys, 128 channels a token: a sliver of a step, so doubles serve.
  for_blocks(params.m, params.m * params.n, stream, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) layer_norm_row(params, row);
  });
}

void rope(const RopeParams& params, Stream& stream) {
  require_cpu(stream, "rope");
  const int64_t width = static_cast<int64_t>(params.num_heads) * params.head_dim;
  check_extent("rope", params.m, width);
  check_stride("rope", params.x_stride, width);
  FOVEAL_CHECK(params.rotary_dim > 0 && params.rotary_dim % 2 == 0 &&
                   params.rotary_dim <= params.head_dim && params.num_heads > 0,
               ErrorKind::kInternal, "rope", "got rotary_dim {}; need an even number up to {}",
               params.rotary_dim, params.head_dim);
  if (params.m == 0) return;
  const int32_t lowest = *std::min_element(params.positions, params.positions + params.m);
  FOVEAL_CHECK(lowest >= 0, ErrorKind::kInternal, "rope", "got position {}; need 0 or more",
               lowest);
  const auto& table = cpu::elementwise_table();
  for_blocks(params.m, params.m * width, stream,
             [&](int64_t begin, int64_t end) { table.rope(params, begin, end); });
}

void gated_act(const GatedActParams& params, Stream& stream) {
  require_cpu(stream, "gated_act");
  check_extent("gated_act", params.m, params.n);
  check_stride("gated_act", params.gate_stride, params.n);
  check_stride("gated_act", params.up_stride, params.n);
  check_stride("gated_act", params.y_stride, params.n);
  if (params.m == 0) return;
  const auto& table = cpu::elementwise_table();
  for_blocks(params.m, params.m * params.n, stream,
             [&](int64_t begin, int64_t end) { table.gated_act(params, begin, end); });
}

void add_scaled(const float* x, float alpha, float* y, int64_t n, Stream& stream) {
  require_cpu(stream, "add_scaled");
  check_extent("add_scaled", n, 1);
  if (n == 0) return;
  const auto& table = cpu::elementwise_table();
  for_blocks(n, n, stream,
             [&](int64_t begin, int64_t end) { table.add_scaled(x, alpha, y, begin, end); });
}

void scale(float* x, float alpha, int64_t n, Stream& stream) {
  require_cpu(stream, "scale");
  check_extent("scale", n, 1);
  if (n == 0) return;
  const auto& table = cpu::elementwise_table();
  for_blocks(n, n, stream, [&](int64_t begin, int64_t end) { table.scale(x, alpha, begin, end); });
}

void embed(const EmbedParams& params, Stream& stream) {
  require_cpu(stream, "embed");
  const int64_t n = params.table.cols;
  check_extent("embed", params.m, n);
  for (int64_t row = 0; row < params.m; ++row) {
    FOVEAL_CHECK(params.ids[row] >= 0 && params.ids[row] < params.table.rows,
                 ErrorKind::kInvalidArgument, "embed", "got token {}; need 0 to {}",
                 params.ids[row], params.table.rows - 1);
  }
  if (params.m == 0) return;
  const auto& table = cpu::elementwise_table();
  for_blocks(params.m, params.m * n, stream, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      float* out = params.y + row * n;
      dequantize_row(params.table, params.ids[row], out);
      if (params.alpha != 1) table.scale(out, params.alpha, 0, n);
    }
  });
}

double log_sum_exp(const float* x, int64_t n) {
  check_extent("log_sum_exp", 1, n);
  return cpu::elementwise_table().log_sum_exp(x, n);
}

}  // namespace foveal::kernels
