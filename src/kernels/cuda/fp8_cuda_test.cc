#include <algorithm>
#include <cmath>

#include "kernels/cuda/dense_cuda_testing.h"
#include "kernels/cuda/dense_gemm.h"
#include "kernels/cuda/moe.h"
#include "kernels/reference/elementwise.h"

// Products with weights in e4m3. Values are small integers and scales powers of two, so that every
// sum is exact in float32 and results can be compared bit for bit.

namespace foveal::kernels::cuda {
namespace {

using namespace testing;

std::vector<uint8_t> encode(const std::vector<float>& values) {
  std::vector<uint8_t> out;
  for (const float x : values) out.push_back(float_to_e4m3(x));
  return out;
}

/// Matrices [count * n, k], one after another, with scales; and the values they stand for.
struct Weights {
  std::vector<uint8_t> stored;
  std::vector<float> scales;
  std::vector<float> values;
};

class Fp8CudaTest : public CudaTest {
 protected:
  Weights weights(int64_t count, int64_t n, int64_t k, GemmScaling scaling) {
    Weights out;
    out.values = integers(static_cast<size_t>(count * n * k), 4);
    out.stored = encode(out.values);
    const bool by_row = scaling == GemmScaling::kRow;
    const int64_t stride = by_row ? 1 : block_scale_stride(k);
    const int64_t rows = by_row ? n : (n + 127) / 128;
    out.scales.resize(static_cast<size_t>(count * rows * stride));
    for (float& x : out.scales) x = std::ldexp(1.0F, static_cast<int>(rng_() % 4) - 2);
    for (int64_t row = 0; row < count * n; ++row) {
      const int64_t first = (row / n * rows + (by_row ? row % n : row % n / 128)) * stride;
      for (int64_t col = 0; col < k; ++col) {
        out.values[static_cast<size_t>(row * k + col)] *=
            out.scales[static_cast<size_t>(first + (by_row ? 0 : col / 128))];
      }
    }
    return out;
  }

  static double dot(const float* a, const float* b, int64_t k) {
    double sum = 0;
    for (int64_t i = 0; i < k; ++i) sum += double{a[i]} * b[i];
    return sum;
  }
};

TEST_F(Fp8CudaTest, EveryValueIsWidenedExactly) {
  DenseGemm gemm(kGpu, {});
  constexpr int64_t kValues = 256;
  std::vector<uint8_t> w(16 * kValues);
  for (size_t at = 0; at < w.size(); ++at) {
    const auto bits = static_cast<uint8_t>(at % kValues);
    w[at] = (bits & 0x7f) == 0x7f ? uint8_t{0} : bits;  // no NaN
  }
  std::vector<float> x(kValues * kValues);
  for (size_t i = 0; i < kValues; ++i) x[i * kValues + i] = 1;
  const auto x_dev = upload(to_bf16(x));
  const auto w_dev = upload(w);
  const auto scale = upload(std::vector<float>(16, 1));
  const DeviceArray<float> y(stream_, kValues * 16);
  gemm.run({.x = x_dev.data(),
            .weight = w_dev.data(),
            .y = y.data(),
            .m = kValues,
            .n = 16,
            .k = kValues,
            .x_stride = kValues,
            .weight_stride = kValues,
            .y_stride = 16,
            .dtype = DType::kF8E4M3,
            .y_dtype = DType::kF32,
            .route = GemmRoute::kDecode,
            .scaling = GemmScaling::kRow,
            .weight_scale = scale.data()},
           stream_);
  const std::vector<float> got = y.download();
  for (size_t at = 0; at < got.size(); ++at) {
    ASSERT_EQ(got[at], e4m3_to_float(w[at / 16])) << "of bits " << at / 16;
  }
}

TEST_F(Fp8CudaTest, DecodeRouteIsExactOnIntegers) {
  DenseGemm gemm(kGpu, {});
  struct Case {
    int64_t m, n, k;
  };
  for (const GemmScaling scaling : {GemmScaling::kRow, GemmScaling::kBlock}) {
    for (const Case& c :
         {Case{1, 96, 576}, Case{8, 200, 512}, Case{9, 384, 144}, Case{16, 24, 16},
          Case{17, 264, 1040}, Case{32, 2600, 256}, Case{45, 136, 4864}, Case{3, 4000, 2048}}) {
      const Weights w = weights(1, c.n, c.k, scaling);
      const std::vector<float> x = integers(static_cast<size_t>(c.m * c.k), 4);
      const std::vector<float> old = integers(static_cast<size_t>(c.m * c.n), 9);
      const auto x_dev = upload(to_bf16(x));
      const auto w_dev = upload(w.stored);
      const auto scale = upload(w.scales);
      const auto y = upload(old);
      gemm.run({.x = x_dev.data(),
                .weight = w_dev.data(),
                .y = y.data(),
                .m = c.m,
                .n = c.n,
                .k = c.k,
                .x_stride = c.k,
                .weight_stride = c.k,
                .y_stride = c.n,
                .dtype = DType::kF8E4M3,
                .y_dtype = DType::kF32,
                .accumulate = true,
                .alpha = 0.5F,
                .scaling = scaling,
                .weight_scale = scale.data()},
               stream_);
      const std::vector<float> got = y.download();
      for (int64_t at = 0; at < c.m * c.n; ++at) {
        const double want = dot(&x[static_cast<size_t>(at / c.n * c.k)],
                                &w.values[static_cast<size_t>(at % c.n * c.k)], c.k);
        ASSERT_EQ(got[static_cast<size_t>(at)],
                  static_cast<float>(0.5 * want + old[static_cast<size_t>(at)]))
            << c.m << " " << c.n << " " << c.k << " at " << at;
      }
    }
  }
}

TEST_F(Fp8CudaTest, GatedMatchesProductAndActivation) {
  DenseGemm gemm(kGpu, {});
  for (const GemmScaling scaling : {GemmScaling::kRow, GemmScaling::kBlock}) {
    for (const int64_t m : {1, 8, 13, 32, 40}) {
      const int64_t n = scaling == GemmScaling::kRow ? 344 : 256;
      const int64_t k = 320;
      const Weights w = weights(1, 2 * n, k, scaling);
      const std::vector<float> x = integers(static_cast<size_t>(m * k), 1);
      const auto x_dev = upload(to_bf16(x));
      const auto w_dev = upload(w.stored);
      const auto scale = upload(w.scales);
      const DeviceArray<uint16_t> y(stream_, static_cast<size_t>(m * n));
      gemm.run_gated({.x = x_dev.data(),
                      .weight = w_dev.data(),
                      .y = y.data(),
                      .m = m,
                      .n = n,
                      .k = k,
                      .x_stride = k,
                      .weight_stride = k,
                      .y_stride = n,
                      .dtype = DType::kF8E4M3,
                      .scaling = scaling,
                      .weight_scale = scale.data()},
                     stream_);
      const std::vector<float> got = from_bf16(y.download());
      for (int64_t at = 0; at < m * n; ++at) {
        const float* row = &x[static_cast<size_t>(at / n * k)];
        const double gate = dot(row, &w.values[static_cast<size_t>(at % n * k)], k);
        const double up = dot(row, &w.values[static_cast<size_t>((n + at % n) * k)], k);
        const double want = reference::activation(gate, Activation::kSilu) * up;
        // The products are exact: the activation's 2^-18 and bf16's rounding.
        ASSERT_NEAR(got[static_cast<size_t>(at)], want,
                    std::abs(want) * (kBf16Half + 0x1p-18) + 1e-7);
      }
    }
  }
}

TEST_F(Fp8CudaTest, TheWidestMatricesLeaveTheDecodeRouteFirst) {
  const DenseGemm gemm(kGpu, {});
  const auto most = [&](GemmScaling scaling, int64_t values) {
    int64_t m = 0;
    while (gemm.decodes(m + 1, DType::kF8E4M3, scaling, values)) ++m;
    return m;
  };
  EXPECT_EQ(most(GemmScaling::kBlock, 14336 * 4096), 32);
  EXPECT_EQ(most(GemmScaling::kBlock, 28672 * 4096), 16);
  EXPECT_EQ(most(GemmScaling::kRow, 28672 * 4096), 32);
  EXPECT_FALSE(DenseGemm(kGpu, {.batch_invariant = true}).decodes(1, DType::kF8E4M3));
}

TEST_F(Fp8CudaTest, LibraryRouteIsExactOnIntegers) {
  DenseGemm gemm(kGpu, {});
  struct Case {
    int64_t m, n, k;
  };
  for (const GemmScaling scaling : {GemmScaling::kRow, GemmScaling::kBlock}) {
    // The last block of columns or rows need not be whole.
    for (const auto& [m, n, k] :
         {Case{132, 384, 512}, Case{132, 576, 512}, Case{132, 2240, 512}, Case{40, 200, 192},
          Case{36, 40, 576}, Case{4, 24, 144}, Case{40, 4, 1040}, Case{132, 264, 16}}) {
      const Weights w = weights(1, n, k, scaling);
      const std::vector<float> x = integers(static_cast<size_t>(m * k), 4);
      const bool by_row = scaling == GemmScaling::kRow;
      std::vector<float> x_scales(static_cast<size_t>(by_row ? m : (k + 127) / 128 * m));
      for (float& s : x_scales) s = std::ldexp(1.0F, static_cast<int>(rng_() % 3));
      const auto x_dev = upload(encode(x));
      const auto w_dev = upload(w.stored);
      const auto scale = upload(w.scales);
      const auto x_scale = upload(x_scales);
      const DeviceArray<float> y(stream_, static_cast<size_t>(m * n));
      gemm.run({.x = x_dev.data(),
                .weight = w_dev.data(),
                .y = y.data(),
                .m = m,
                .n = n,
                .k = k,
                .x_stride = k,
                .weight_stride = k,
                .y_stride = n,
                .dtype = DType::kF8E4M3,
                .y_dtype = DType::kF32,
                .scaling = scaling,
                .x_scale = x_scale.data(),
                .weight_scale = scale.data()},
               stream_);
      const std::vector<float> got = y.download();
      for (int64_t at = 0; at < m * n; ++at) {
        const int64_t row = at / n;
        double want = 0;
        for (int64_t i = 0; i < k; ++i) {
          const auto its = static_cast<size_t>(by_row ? row : i / 128 * m + row);
          want += double{x[static_cast<size_t>(row * k + i)]} * x_scales[its] *
                  w.values[static_cast<size_t>(at % n * k + i)];
        }
        ASSERT_EQ(got[static_cast<size_t>(at)], static_cast<float>(want))
            << (by_row ? "rows " : "blocks ") << n << " " << k << " at " << at;
      }
    }
  }
}

TEST_F(Fp8CudaTest, RowsAreQuantisedByTheirLargest) {
  const int64_t m = 13;
  const int64_t padded = 16;
  for (const int64_t k : {16, 128, 1048, 14336}) {
    std::vector<float> x = rounded(normal(static_cast<size_t>(m * k), 3));
    std::fill_n(x.begin() + 2 * k, k, 0.0F);
    const auto x_dev = upload(to_bf16(x));
    const DeviceArray<uint8_t> y(stream_, static_cast<size_t>(padded * k));
    const DeviceArray<float> scale(stream_, padded);
    quantize_e4m3_rows({.x = x_dev.data(),
                        .y = y.data(),
                        .scale = scale.data(),
                        .m = m,
                        .k = k,
                        .x_stride = k,
                        .y_stride = k,
                        .padded_m = padded},
                       stream_);
    const std::vector<uint8_t> got = y.download();
    const std::vector<float> scales = scale.download();
    for (int64_t row = 0; row < padded; ++row) {
      float most = 0;
      for (int64_t col = 0; col < k && row < m; ++col) {
        most = std::max(most, std::abs(x[static_cast<size_t>(row * k + col)]));
      }
      const float want = most > 0 ? most / 448.0F : 1.0F;
      ASSERT_EQ(scales[static_cast<size_t>(row)], want) << k << " row " << row;
      for (int64_t col = 0; col < k; ++col) {
        const auto at = static_cast<size_t>(row * k + col);
        ASSERT_EQ(got[at], row < m ? float_to_e4m3(x[at] / want) : 0) << k << " row " << row;
      }
    }
  }
}

TEST_F(Fp8CudaTest, BlocksArePaddedWithZeros) {
  const int64_t m = 5;
  const int64_t padded = 8;
  for (const int64_t k : {384, 192, 16, 1048}) {
    const int64_t blocks = (k + 127) / 128;
    const std::vector<float> x = rounded(normal(static_cast<size_t>(m * k), 3));
    const auto x_dev = upload(to_bf16(x));
    const DeviceArray<uint8_t> y(stream_, static_cast<size_t>(padded * k));
    const DeviceArray<float> scale(stream_, static_cast<size_t>(padded * blocks));
    quantize_e4m3_blocks({.x = x_dev.data(),
                          .y = y.data(),
                          .scale = scale.data(),
                          .m = m,
                          .k = k,
                          .x_stride = k,
                          .y_stride = k,
                          .scale_stride = padded,
                          .padded_m = padded},
                         stream_);
    const std::vector<uint8_t> got = y.download();
    const std::vector<float> scales = scale.download();
    for (int64_t row = 0; row < padded; ++row) {
      for (int64_t first = 0; first < k; first += 128) {
        float most = 0;
        const int64_t end = std::min(k, first + 128);
        for (int64_t col = first; col < end && row < m; ++col) {
          most = std::max(most, std::abs(x[static_cast<size_t>(row * k + col)]));
        }
        const float by = scales[static_cast<size_t>(first / 128 * padded + row)];
        ASSERT_EQ(by, most > 0 ? most / 448.0F : 1.0F) << k << " row " << row << " " << first;
        for (int64_t col = first; col < end; ++col) {
          const auto at = static_cast<size_t>(row * k + col);
          ASSERT_EQ(got[at], row < m ? float_to_e4m3(x[at] / by) : 0) << row << " " << col;
        }
      }
    }
  }
}

TEST_F(Fp8CudaTest, GroupedIsExactOnIntegers) {
  struct Case {
    int64_t rows;
    int32_t experts, k;
    int64_t n, width;
    GemmRoute route;
    GemmScaling scaling;
  };
  constexpr GemmRoute kDecode = GemmRoute::kDecode;
  constexpr GemmRoute kTiles = GemmRoute::kLibrary;
  for (const Case& c : {Case{1, 8, 2, 64, 128, kDecode, GemmScaling::kRow},
                        Case{5, 16, 4, 200, 336, kDecode, GemmScaling::kRow},
                        Case{40, 4, 2, 384, 512, kDecode, GemmScaling::kBlock},
                        Case{40, 4, 2, 136, 256, kTiles, GemmScaling::kRow},
                        Case{300, 6, 2, 256, 1024, kTiles, GemmScaling::kBlock},
                        Case{260, 3, 1, 384, 128, kTiles, GemmScaling::kBlock},
                        Case{9, 4, 2, 256, 208, kDecode, GemmScaling::kBlock},
                        Case{70, 4, 2, 128, 192, kTiles, GemmScaling::kBlock},
                        Case{150, 5, 2, 256, 1040, kTiles, GemmScaling::kBlock},
                        Case{90, 3, 2, 96, 16, kTiles, GemmScaling::kRow},
                        Case{40, 4, 2, 200, 720, kTiles, GemmScaling::kRow}}) {
    const size_t slots = static_cast<size_t>(c.rows) * static_cast<size_t>(c.k);
    std::vector<int32_t> indices(slots);
    for (int32_t& x : indices) x = static_cast<int32_t>(rng_() % static_cast<uint32_t>(c.experts));
    const auto indices_dev = upload(indices);
    const DeviceArray<int32_t> offsets(stream_, static_cast<size_t>(c.experts) + 1);
    const DeviceArray<int32_t> order(stream_, slots);
    moe_sort({.indices = indices_dev.data(),
              .num_slots = static_cast<int64_t>(slots),
              .num_experts = c.experts,
              .offsets = offsets.data(),
              .slots = order.data()},
             stream_);
    const Weights w = weights(c.experts, c.n, c.width, c.scaling);
    const auto w_dev = upload(w.stored);
    const auto scale = upload(w.scales);
    for (const int32_t divisor : {c.k, 1}) {
      const int64_t x_rows = divisor == 1 ? static_cast<int64_t>(slots) : c.rows;
      std::vector<float> x = integers(static_cast<size_t>(x_rows * c.width), 4);
      std::vector<float> x_scales(static_cast<size_t>((c.width + 127) / 128 * x_rows), 1);
      if (c.route == kTiles) {
        for (float& s : x_scales) s = std::ldexp(1.0F, static_cast<int>(rng_() % 3));
      }
      const auto x_wide = upload(to_bf16(x));
      const auto x_dev = upload(encode(x));
      const auto x_scale = upload(x_scales);
      const DeviceArray<float> y(stream_, slots * static_cast<size_t>(c.n));
      const bool tiles = c.route == kTiles;
      grouped_gemm({.x = tiles ? static_cast<const void*>(x_dev.data()) : x_wide.data(),
                    .weight = w_dev.data(),
                    .y = y.data(),
                    .offsets = offsets.data(),
                    .slots = order.data(),
                    .num_slots = static_cast<int64_t>(slots),
                    .num_experts = c.experts,
                    .x_divisor = divisor,
                    .n = c.n,
                    .k = c.width,
                    .x_stride = c.width,
                    .y_stride = c.n,
                    .y_dtype = DType::kF32,
                    .route = c.route,
                    .dtype = DType::kF8E4M3,
                    .scaling = c.scaling,
                    .weight_scale = scale.data(),
                    .x_scale = tiles ? x_scale.data() : nullptr,
                    .x_scale_stride = x_rows},
                   stream_);
      const std::vector<float> got = y.download();
      for (size_t at = 0; at < got.size(); ++at) {
        const size_t slot = at / static_cast<size_t>(c.n);
        const size_t row = slot / static_cast<size_t>(divisor);
        const auto col = static_cast<int64_t>(at % static_cast<size_t>(c.n));
        double want = 0;
        for (int64_t i = 0; i < c.width; ++i) {
          want += double{x[row * static_cast<size_t>(c.width) + static_cast<size_t>(i)]} *
                  x_scales[static_cast<size_t>(i / 128 * x_rows) + row] *
                  w.values[static_cast<size_t>((indices[slot] * c.n + col) * c.width + i)];
        }
        ASSERT_EQ(got[at], static_cast<float>(want)) << c.rows << " slot " << slot << " " << col;
      }
    }
  }
}

}  // namespace
}  // namespace foveal::kernels::cuda
