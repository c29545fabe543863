// Matrix products on a GPU, and what it can do at most.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/half.h"
#include "base/math.h"
#include "cuda_rows.h"
#include "cuda_truth.h"
#include "device/cuda/properties.h"

namespace foveal::bench {
namespace {

using namespace kernels::cuda;

constexpr size_t kCopyBytes = size_t{1} << 30;
constexpr int64_t kPeakSize = 8192;

QuantizeParams quantize_call(const Buffer& from, const Buffer& to, const Buffer& scale, int64_t m,
                             int64_t k) {
  return {.x = reinterpret_cast<const uint16_t*>(from.data()),
          .y = reinterpret_cast<uint8_t*>(to.data()),
          .scale = reinterpret_cast<float*>(scale.data()),
          .m = m,
          .k = k,
          .x_stride = k,
          .y_stride = k,
          .scale_stride = m};
}

Buffer floats(size_t count, float value, const Stream& stream) {
  Buffer out = CudaBench::zeros(count * 4);
  to_device(out, std::vector<float>(count, value), stream);
  return out;
}

/// Rows of values of a product's operand, on the host.
using RowOf = std::function<std::vector<double>(int64_t row)>;

RowOf bf16_rows(const Buffer& from, int64_t k, const Stream& stream) {
  return [&from, k, &stream](int64_t row) {
    std::vector<double> out;
    for (const uint16_t bits :
         to_host<uint16_t>(from.data() + 2 * row * k, static_cast<size_t>(k), stream)) {
      out.push_back(bf16_to_float(bits));
    }
    return out;
  };
}

RowOf e4m3_rows(const Buffer& from, int64_t k, const std::function<double(int64_t, int64_t)>& scale,
                const Stream& stream) {
  return [&from, k, scale, &stream](int64_t row) {
    std::vector<double> out;
    const auto bytes = to_host<uint8_t>(from.data() + row * k, static_cast<size_t>(k), stream);
    for (int64_t at = 0; at < k; ++at) {
      out.push_back(double{e4m3_to_float(bytes[static_cast<size_t>(at)])} * scale(row, at));
    }
    return out;
  };
}

/// Elements spread over the product, in double precision. `loss` is what the arithmetic may lose of
/// the sum of magnitudes; the result is rounded to bf16.
void check_product(const Buffer& y, const RowOf& x_row, const RowOf& w_row, int64_t m, int64_t n,
                   double loss, const Stream& stream) {
  for (int64_t idx = 0; idx < 16; ++idx) {
    const int64_t row = idx * 7919 % m;
    const int64_t col = (idx * 104729 + 1) % n;
    const std::vector<double> x = x_row(row);
    const std::vector<double> w = w_row(col);
    double sum = 0;
    double size = 0;
    for (size_t at = 0; at < x.size(); ++at) {
      sum += x[at] * w[at];
      size += std::fabs(x[at] * w[at]);
    }
    const auto got = to_host<uint16_t>(y.data() + 2 * (row * n + col), 1, stream);
    expect_near("a product", bf16_to_float(got[0]), sum, 0x1p-8 * std::fabs(sum) + loss * size);
  }
}

}  // namespace

CudaRows::CudaRows() : CudaBench(Announce::kNo), gemm_(kGpu, {.autotune = true}) {
  const Buffer from = weights(kCopyBytes / 2, 1);
  const Buffer to = zeros(kCopyBytes);
  const double copy_us = time([&] { stream().copy(to.data(), from.data(), kCopyBytes); });
  const auto peak = [&](bool e4m3) {
    return 2e-3 * kPeakSize * kPeakSize * kPeakSize /
           product(kPeakSize, kPeakSize, kPeakSize, e4m3);
  };
  roof_ = {.device = foveal::cuda::device_properties(0).name,
           .gflops = peak(false),
           .gflops_e4m3 = peak(true),
           .gbps = read_gbs(),
           .copy_gbps = 2e-3 * static_cast<double>(kCopyBytes) / copy_us};
}

void CudaRows::add(KernelRow row, const Done& done, bool e4m3) const {
  const double rate = (row.compute_bound() ? row.gflop : row.gbyte) / row.seconds;
  const double most = e4m3 ? roof_.gflops_e4m3 : roof_.gflops;
  row.fraction = rate / (row.compute_bound() ? most : roof_.gbps);
  done(row);
}

double CudaRows::product(int64_t m, int64_t n, int64_t k, bool e4m3) {
  const Buffer x = weights(static_cast<size_t>(m * k), 2);
  const Buffer w = weights(static_cast<size_t>(n * k), 3);
  const Buffer y = zeros(static_cast<size_t>(m * n) * 2);
  const Buffer x8 = zeros(static_cast<size_t>(m * k));
  const Buffer w8 = zeros(static_cast<size_t>(n * k));
  const float scale_value = 0.001F;
  const Buffer scale = floats(1, scale_value, stream());
  if (e4m3) {
    quantize_e4m3_tensor(quantize_call(x, x8, scale, m, k), stream());
    quantize_e4m3_tensor(quantize_call(w, w8, scale, n, k), stream());
    stream().synchronize();
  }
  DenseGemmParams p{.x = e4m3 ? x8.data() : x.data(),
                    .weight = e4m3 ? w8.data() : w.data(),
                    .y = y.data(),
                    .m = m,
                    .n = n,
                    .k = k,
                    .x_stride = k,
                    .weight_stride = k,
                    .y_stride = n,
                    .route = GemmRoute::kLibrary};
  if (e4m3) {
    p.dtype = DType::kF8E4M3;
    p.scaling = GemmScaling::kTensor;
    p.x_scale = p.weight_scale = reinterpret_cast<const float*>(scale.data());
  }
  const double us = time([&] { gemm_.run(p, stream()); }, 9);
  const auto whole = [&](int64_t, int64_t) { return double{scale_value}; };
  if (e4m3) {
    check_product(y, e4m3_rows(x8, k, whole, stream()), e4m3_rows(w8, k, whole, stream()), m, n,
                  0x1p-9, stream());
  } else {
    check_product(y, bf16_rows(x, k, stream()), bf16_rows(w, k, stream()), m, n, 0x1p-16, stream());
  }
  return us;
}

void CudaRows::gemm(const KernelShape& shape, const Done& done) {
  const auto compute = [&](std::string_view kernel, std::string_view type, double us, bool e4m3) {
    add({.kernel = std::string(kernel),
         .shape = fmt::format("{} x {} x {}, {}", shape.rows, shape.n, shape.k, type),
         .seconds = 1e-6 * us,
         .gflop = 2e-9 * static_cast<double>(shape.rows) * static_cast<double>(shape.n) *
                  static_cast<double>(shape.k)},
        done, e4m3);
  };
  compute("gemm_prefill", "bf16", product(shape.rows, shape.n, shape.k, false), false);
  compute("gemm_prefill", "e4m3, a scale a tensor", product(shape.rows, shape.n, shape.k, true),
          true);
  if (shape.rows % 4 == 0 && shape.k % 128 == 0) {
    compute("gemm_prefill", "e4m3, scales of blocks", blocks(shape), true);
  }
  gemm_decode(shape, 1, done);
  if (shape.batch > 1) gemm_decode(shape, shape.batch, done);
}

double CudaRows::blocks(const KernelShape& shape) {
  const int64_t m = shape.rows;
  const int64_t n = shape.n;
  const int64_t k = shape.k;
  const Buffer x = weights(static_cast<size_t>(m * k), 2);
  const Buffer w = weights(static_cast<size_t>(n * k), 3);
  const Buffer y = zeros(static_cast<size_t>(m * n) * 2);
  const Buffer x8 = zeros(static_cast<size_t>(m * k));
  const Buffer w8 = zeros(static_cast<size_t>(n * k));
  const Buffer x_scale = zeros(static_cast<size_t>(k / 128 * m) * 4);
  const float w_value = 0.001F;
  const auto w_blocks = static_cast<size_t>(ceil_div(n, int64_t{128}) * round_up(k / 128, 4));
  const Buffer w_scale = floats(w_blocks, w_value, stream());
  quantize_e4m3_blocks(quantize_call(x, x8, x_scale, m, k), stream());
  quantize_e4m3_tensor(quantize_call(w, w8, w_scale, n, k), stream());
  stream().synchronize();
  const double us = time(
      [&] {
        gemm_.run({.x = x8.data(),
                   .weight = w8.data(),
                   .y = y.data(),
                   .m = m,
                   .n = n,
                   .k = k,
                   .x_stride = k,
                   .weight_stride = k,
                   .y_stride = n,
                   .dtype = DType::kF8E4M3,
                   .scaling = GemmScaling::kBlock,
                   .x_scale = reinterpret_cast<const float*>(x_scale.data()),
                   .weight_scale = reinterpret_cast<const float*>(w_scale.data())},
                  stream());
      },
      9);
  const auto scales = to_host<float>(x_scale.data(), static_cast<size_t>(k / 128 * m), stream());
  const auto of_x = [&](int64_t row, int64_t at) {
    return double{scales[static_cast<size_t>(at / 128 * m + row)]};
  };
  const auto of_w = [&](int64_t, int64_t) { return double{w_value}; };
  check_product(y, e4m3_rows(x8, k, of_x, stream()), e4m3_rows(w8, k, of_w, stream()), m, n, 0x1p-9,
                stream());
  return us;
}

void CudaRows::gemm_decode(const KernelShape& shape, int64_t m, const Done& done) {
  const int64_t n = shape.n;
  const int64_t k = shape.k;
  const size_t bytes = static_cast<size_t>(n * k) * 2;
  const size_t copies = std::max<size_t>(2, kColdBytes / bytes + 1);  // so that no cache holds them
  const Buffer w = weights(bytes / 2 * copies, 3);
  const Buffer x = weights(static_cast<size_t>(m * k), 2);
  const Buffer y = zeros(static_cast<size_t>(m * n) * 2);
  const double us = time([&] {
                      for (size_t copy = 0; copy < copies; ++copy) {
                        gemm_.run({.x = x.data(),
                                   .weight = w.data() + copy * bytes,
                                   .y = y.data(),
                                   .m = m,
                                   .n = n,
                                   .k = k,
                                   .x_stride = k,
                                   .weight_stride = k,
                                   .y_stride = n},
                                  stream());
                      }
                    }) /
                    static_cast<double>(copies);
  const RowOf last = [&](int64_t row) {
    return bf16_rows(w, k, stream())(static_cast<int64_t>(copies - 1) * n + row);
  };
  check_product(y, bf16_rows(x, k, stream()), last, m, n, 0x1p-16, stream());
  add({.kernel = "gemm_decode",
       .shape = fmt::format("{} x {} x {}, bf16", m, n, k),
       .seconds = 1e-6 * us,
       .gbyte = 1e-9 * static_cast<double>(bytes)},
      done);
}

}  // namespace foveal::bench
