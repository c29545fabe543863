#include "kernels/cuda/dense_gemm.h"

#include <algorithm>

#include "device/graph.h"
#include "kernels/cuda/dense_cuda_testing.h"
#include "kernels/reference/elementwise.h"

namespace foveal::kernels::cuda {
namespace {

using namespace testing;

struct Problem {
  int64_t m, n, k;
  std::vector<float> x, w, bias, old;
};

class DenseGemmCudaTest : public CudaTest {
 protected:
  Problem exact_problem(int64_t m, int64_t n, int64_t k) {
    return {m,
            n,
            k,
            integers(static_cast<size_t>(m * k), 4),
            integers(static_cast<size_t>(n * k), 4),
            integers(static_cast<size_t>(n), 9),
            integers(static_cast<size_t>(m * n), 9)};
  }

  /// x W^T in double, and the sum of absolute products for tolerances.
  static std::vector<double> product(const Problem& p, std::vector<double>* sizes = nullptr) {
    std::vector<double> out(static_cast<size_t>(p.m * p.n));
    if (sizes != nullptr) sizes->resize(out.size());
    for (int64_t row = 0; row < p.m; ++row) {
      for (int64_t col = 0; col < p.n; ++col) {
        double sum = 0;
        double size = 0;
        for (int64_t i = 0; i < p.k; ++i) {
          const double term = double{p.x[static_cast<size_t>(row * p.k + i)]} *
                              p.w[static_cast<size_t>(col * p.k + i)];
          sum += term;
          size += std::abs(term);
        }
        out[static_cast<size_t>(row * p.n + col)] = sum;
        if (sizes != nullptr) (*sizes)[static_cast<size_t>(row * p.n + col)] = size;
      }
    }
    return out;
  }

  /// All outputs of a route against exact integers: f32 accumulated with bias, and bf16 or f16.
  void check_exact(DenseGemm& gemm, GemmRoute route, DType dtype, const Problem& p) {
    const auto narrow = [&](const std::vector<float>& v) {
      return dtype == DType::kBF16 ? to_bf16(v) : to_f16(v);
    };
    const auto x = upload(narrow(p.x));
    const auto w = upload(narrow(p.w));
    const auto bias = upload(narrow(p.bias));
    const std::vector<double> want = product(p);
    DenseGemmParams params{.x = x.data(),
                           .weight = w.data(),
                           .bias = bias.data(),
                           .m = p.m,
                           .n = p.n,
                           .k = p.k,
                           .x_stride = p.k,
                           .weight_stride = p.k,
                           .y_stride = p.n,
                           .dtype = dtype,
                           .y_dtype = DType::kF32,
                           .accumulate = true,
                           .alpha = 0.5F,
                           .route = route};
    const auto y = upload(p.old);
    params.y = y.data();
    gemm.run(params, stream_);
    const std::vector<float> got = y.download();
    for (size_t at = 0; at < got.size(); ++at) {
      const auto expected =
          static_cast<float>(0.5 * want[at] + p.old[at] + p.bias[at % static_cast<size_t>(p.n)]);
      ASSERT_EQ(got[at], expected) << p.m << " " << p.n << " " << p.k << " at " << at;
    }
    const DeviceArray<uint16_t> half(stream_, static_cast<size_t>(p.m * p.n));
    params.y = half.data();
    params.y_dtype = dtype;
    params.accumulate = false;
    params.alpha = 1;
    gemm.run(params, stream_);
    const std::vector<uint16_t> bits = half.download();
    for (size_t at = 0; at < bits.size(); ++at) {
      const auto exact = static_cast<float>(want[at] + p.bias[at % static_cast<size_t>(p.n)]);
      ASSERT_EQ(bits[at], dtype == DType::kBF16 ? float_to_bf16(exact) : float_to_f16(exact))
          << p.m << " " << p.n << " " << p.k << " at " << at;
    }
  }

  std::vector<float> run_f32(DenseGemm& gemm, GemmRoute route, const DeviceArray<uint16_t>& x,
                             int64_t first, int64_t m, const DeviceArray<uint16_t>& w, int64_t n,
                             int64_t k) {
    const DeviceArray<float> y(stream_, static_cast<size_t>(m * n));
    gemm.run({.x = x.data() + first * k,
              .weight = w.data(),
              .y = y.data(),
              .m = m,
              .n = n,
              .k = k,
              .x_stride = k,
              .weight_stride = k,
              .y_stride = n,
              .y_dtype = DType::kF32,
              .route = route},
             stream_);
    return y.download();
  }
};

TEST_F(DenseGemmCudaTest, DecodeRouteIsExactOnIntegers) {
  DenseGemm gemm(kGpu, {});
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    for (const int64_t m : {1, 2, 7, 8, 9, 16, 17, 32, 45}) {
      check_exact(gemm, GemmRoute::kDecode, dtype, exact_problem(m, 96, 576));
    }
    for (const int64_t k : {8, 56, 64, 72, 520, 896, 2048, 4864}) {
      check_exact(gemm, GemmRoute::kDecode, dtype, exact_problem(3, 48, k));
      // Two tiles a unit, the last of which has one and a part.
      check_exact(gemm, GemmRoute::kDecode, dtype, exact_problem(3, 2600, k));
    }
    for (const int64_t n : {8, 16, 24, 128, 2600}) {
      check_exact(gemm, GemmRoute::kDecode, dtype, exact_problem(5, n, 192));
      check_exact(gemm, GemmRoute::kDecode, dtype, exact_problem(20, n, 192));
    }
  }
}

TEST_F(DenseGemmCudaTest, LibraryRouteIsExactOnIntegers) {
  DenseGemm gemm(kGpu, {});
  DenseGemm tuned(kGpu, {.autotune = true});
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    for (const int64_t m : {1, 9, 33, 128, 300}) {
      check_exact(gemm, GemmRoute::kLibrary, dtype, exact_problem(m, 264, 520));
    }
    check_exact(tuned, GemmRoute::kLibrary, dtype, exact_problem(40, 512, 576));
    check_exact(gemm, GemmRoute::kAuto, dtype, exact_problem(4, 64, 64));
    check_exact(gemm, GemmRoute::kAuto, dtype, exact_problem(100, 64, 64));
  }
}

// As latent attention lays heads out: side by side in a row of x and of y.
TEST_F(DenseGemmCudaTest, BatchesAreExactOnIntegers) {
  DenseGemm gemm(stream_.device(), {});
  for (const int64_t m : {1, 7, 64, 300}) {
    constexpr int64_t kHeads = 5;
    constexpr int64_t kN = 40;
    constexpr int64_t kK = 64;
    constexpr int64_t kXHead = kK + 16;
    constexpr int64_t kYHead = kN + 8;
    const std::vector<float> x = integers(static_cast<size_t>(m * kHeads * kXHead), 4);
    const std::vector<float> w = integers(static_cast<size_t>(kHeads * kN * kK), 4);
    const auto x_dev = upload(to_bf16(x));
    const auto w_dev = upload(to_bf16(w));
    const auto y = upload(std::vector<float>(static_cast<size_t>(m * kHeads * kYHead), 7));
    gemm.run({.x = x_dev.data(),
              .weight = w_dev.data(),
              .y = y.data(),
              .m = m,
              .n = kN,
              .k = kK,
              .x_stride = kHeads * kXHead,
              .weight_stride = kK,
              .y_stride = kHeads * kYHead,
              .y_dtype = DType::kF32,
              .batch = kHeads,
              .x_batch_stride = kXHead,
              .weight_batch_stride = kN * kK,
              .y_batch_stride = kYHead},
             stream_);
    const std::vector<float> got = y.download();
    for (int64_t at = 0; at < m * kHeads * kYHead; ++at) {
      const int64_t row = at / (kHeads * kYHead);
      const int64_t head = at / kYHead % kHeads;
      const int64_t col = at % kYHead;
      float want = col < kN ? 0.0F : 7.0F;  // the gap between heads stays
      for (int64_t i = 0; i < kK && col < kN; ++i) {
        want += x[static_cast<size_t>((row * kHeads + head) * kXHead + i)] *
                w[static_cast<size_t>((head * kN + col) * kK + i)];
      }
      ASSERT_EQ(got[static_cast<size_t>(at)], want) << m << " at " << at;
    }
  }
}

TEST_F(DenseGemmCudaTest, RandomWithinRounding) {
  DenseGemm gemm(kGpu, {});
  for (const GemmRoute route : {GemmRoute::kDecode, GemmRoute::kLibrary}) {
    Problem p{8, 200, 4096, rounded(normal(8 * 4096)), rounded(normal(200 * 4096, 0.05F)), {}, {}};
    std::vector<double> sizes;
    const std::vector<double> want = product(p, &sizes);
    const auto x = upload(to_bf16(p.x));
    const auto w = upload(to_bf16(p.w));
    const std::vector<float> got = run_f32(gemm, route, x, 0, p.m, w, p.n, p.k);
    // Tensor cores cut sums of 16 off at float32: one unit in the last place of a partial sum,
    // which is at most the sum of sizes, each; a random walk of k / 16 of them, four deviations.
    for (size_t at = 0; at < got.size(); ++at) {
      ASSERT_NEAR(got[at], want[at], sizes[at] * 2 * kF32Half * 4 * std::sqrt(4096 / 16));
    }
  }
}

TEST_F(DenseGemmCudaTest, GatedMatchesProductAndActivation) {
  DenseGemm gemm(kGpu, {});
  for (const int64_t m : {1, 8, 13, 32, 40}) {
    for (const int64_t n : {8, 344, 1000, 1104}) {
      const int64_t k = 320;
      Problem p{m,
                2 * n,
                k,
                rounded(normal(static_cast<size_t>(m * k))),
                rounded(normal(static_cast<size_t>(2 * n * k), 0.1F)),
                {},
                {}};
      std::vector<double> sizes;
      const std::vector<double> want = product(p, &sizes);
      const auto x = upload(to_bf16(p.x));
      const auto w = upload(to_bf16(p.w));
      const DeviceArray<uint16_t> y(stream_, static_cast<size_t>(m * n));
      gemm.run_gated({.x = x.data(),
                      .weight = w.data(),
                      .y = y.data(),
                      .m = m,
                      .n = n,
                      .k = k,
                      .x_stride = k,
                      .weight_stride = k,
                      .y_stride = n},
                     stream_);
      const std::vector<float> got = from_bf16(y.download());
      for (int64_t row = 0; row < m; ++row) {
        for (int64_t col = 0; col < n; ++col) {
          const auto gate = static_cast<size_t>(row * 2 * n + col);
          const size_t up = gate + static_cast<size_t>(n);
          const double value = reference::activation(want[gate], Activation::kSilu) * want[up];
          // The products' errors (as above) through silu, whose slope is at most 1.1.
          const double error =
              2 * kF32Half * 20 *
              (1.1 * sizes[gate] * std::abs(want[up]) + sizes[up] * std::abs(want[gate]));
          ASSERT_NEAR(got[static_cast<size_t>(row * n + col)], value,
                      std::abs(value) * (kBf16Half + 0x1p-18) + error + 1e-7);
        }
      }
    }
  }
}

TEST_F(DenseGemmCudaTest, DecodeRowsDoNotDependOnTheBatch) {
  DenseGemm gemm(kGpu, {});
  DenseGemm invariant(kGpu, {.batch_invariant = true});
  const int64_t n = 272;
  const int64_t k = 1032;
  const auto x = upload(to_bf16(normal(300 * k)));
  const auto w = upload(to_bf16(normal(n * k)));
  const std::vector<float> all = run_f32(gemm, GemmRoute::kDecode, x, 0, 40, w, n, k);
  for (const int64_t m : {1, 2, 8, 9, 16, 31}) {
    const std::vector<float> part = run_f32(gemm, GemmRoute::kDecode, x, 5, m, w, n, k);
    ASSERT_TRUE(std::equal(part.begin(), part.end(), all.begin() + 5 * n)) << m;
  }
  const std::vector<float> many = run_f32(invariant, GemmRoute::kLibrary, x, 0, 300, w, n, k);
  for (const int64_t m : {1, 2, 7, 8, 16, 64, 100, 250}) {
    const std::vector<float> part = run_f32(invariant, GemmRoute::kLibrary, x, 5, m, w, n, k);
    ASSERT_TRUE(std::equal(part.begin(), part.end(), many.begin() + 5 * n)) << m;
  }
  EXPECT_THROW(run_f32(invariant, GemmRoute::kAuto, x, 0, 4, w, n, k), Error);
}

TEST_F(DenseGemmCudaTest, TheSameInAGraphAndEveryTime) {
  DenseGemm gemm(kGpu, {});
  const int64_t n = 512;
  const int64_t k = 1024;
  for (const int64_t m : {3, 70}) {
    const auto x = upload(to_bf16(normal(static_cast<size_t>(m * k))));
    const auto w = upload(to_bf16(normal(n * k)));
    const std::vector<float> want = run_f32(gemm, GemmRoute::kAuto, x, 0, m, w, n, k);
    const DeviceArray<float> y(stream_, static_cast<size_t>(m * n));
    const Graph graph = Graph::capture(stream_, [&] {
      for (int i = 0; i < 3; ++i) {
        gemm.run({.x = x.data(),
                  .weight = w.data(),
                  .y = y.data(),
                  .m = m,
                  .n = n,
                  .k = k,
                  .x_stride = k,
                  .weight_stride = k,
                  .y_stride = n,
                  .y_dtype = DType::kF32},
                 stream_);
      }
    });
    for (int i = 0; i < 3; ++i) graph.launch(stream_);
    EXPECT_EQ(y.download(), want);
  }
}

TEST_F(DenseGemmCudaTest, RefusesWhatItCannotRead) {
  DenseGemm gemm(kGpu, {});
  const auto x = upload(to_bf16(normal(4096)));
  const DeviceArray<float> y(stream_, 4096);
  const DenseGemmParams good{.x = x.data(),
                             .weight = x.data(),
                             .y = y.data(),
                             .m = 2,
                             .n = 16,
                             .k = 64,
                             .x_stride = 64,
                             .weight_stride = 64,
                             .y_stride = 16,
                             .y_dtype = DType::kF32};
  EXPECT_NO_THROW(gemm.run(good, stream_));
  const auto bad = [&](auto change) {
    DenseGemmParams params = good;
    change(params);
    EXPECT_THROW(gemm.run(params, stream_), Error);
  };
  bad([&](DenseGemmParams& p) { p.x = x.data() + 1; });
  bad([&](DenseGemmParams& p) { p.x_stride = 68; });
  bad([&](DenseGemmParams& p) { p.weight_stride = 56; });
  bad([&](DenseGemmParams& p) { p.k = 60; });
  bad([&](DenseGemmParams& p) { p.y_stride = 18; });
  bad([&](DenseGemmParams& p) { p.dtype = DType::kF32; });
  bad([&](DenseGemmParams& p) { p.y_dtype = DType::kF16; });
  bad([&](DenseGemmParams& p) { p.dtype = DType::kF8E4M3; });
  bad([&](DenseGemmParams& p) { p.y_dtype = DType::kBF16, p.accumulate = true; });
  const auto scale = upload(std::vector<float>(64, 1));
  bad([&](DenseGemmParams& p) {
    p.dtype = DType::kF8E4M3;
    p.k = p.x_stride = p.weight_stride = 128;
    p.m = 3;
    p.scaling = GemmScaling::kBlock;
    p.x_scale = p.weight_scale = scale.data();
  });
  stream_.synchronize();
}

/// e4m3 operands: scales of powers of two and small integers keep everything exact.
TEST_F(DenseGemmCudaTest, E4m3WithScales) {
  DenseGemm gemm(kGpu, {});
  const auto encode = [](float value) {  // integers up to 8 are exact
    for (int bits = 0; bits < 256; ++bits) {
      if (e4m3_to_float(static_cast<uint8_t>(bits)) == value) return static_cast<uint8_t>(bits);
    }
    return uint8_t{0x7f};
  };
  for (const int64_t m : {4, 16, 100, 260}) {
    const int64_t n = 384;
    const int64_t k = 512;
    const Problem p = exact_problem(m, n, k);
    std::vector<uint8_t> x8;
    std::vector<uint8_t> w8;
    for (const float v : p.x) x8.push_back(encode(v));
    for (const float v : p.w) w8.push_back(encode(v));
    const auto x = upload(x8);
    const auto w = upload(w8);
    const DeviceArray<uint16_t> y(stream_, static_cast<size_t>(m * n));
    const auto one = upload(std::vector<float>{0.5F});
    const auto two = upload(std::vector<float>{0.25F});
    DenseGemmParams params{.x = x.data(),
                           .weight = w.data(),
                           .y = y.data(),
                           .m = m,
                           .n = n,
                           .k = k,
                           .x_stride = k,
                           .weight_stride = k,
                           .y_stride = n,
                           .dtype = DType::kF8E4M3,
                           .scaling = GemmScaling::kTensor,
                           .x_scale = one.data(),
                           .weight_scale = two.data()};
    gemm.run(params, stream_);
    const std::vector<double> want = product(p);
    std::vector<uint16_t> got = y.download();
    for (size_t at = 0; at < got.size(); ++at) {
      ASSERT_EQ(got[at], float_to_bf16(static_cast<float>(want[at] / 8))) << m << " " << at;
    }
    // Block scales 2^-(0..3), differing by row, column block and k block.
    const int64_t stride = (m + 3) / 4 * 4;
    std::vector<float> x_scale(static_cast<size_t>(k / 128 * stride), 1);
    std::vector<float> w_scale(static_cast<size_t>(n / 128 * 4), 1);
    const auto xs = [&](int64_t block, int64_t row) {
      return std::ldexp(1.0F, -int((block + row) % 4));
    };
    const auto ws = [&](int64_t cols, int64_t block) {
      return std::ldexp(1.0F, -int((cols * 2 + block) % 3));
    };
    for (int64_t block = 0; block < k / 128; ++block) {
      for (int64_t row = 0; row < m; ++row)
        x_scale[static_cast<size_t>(block * stride + row)] = xs(block, row);
      for (int64_t cols = 0; cols < n / 128; ++cols)
        w_scale[static_cast<size_t>(cols * 4 + block)] = ws(cols, block);
    }
    const auto x_scale_dev = upload(x_scale);
    const auto w_scale_dev = upload(w_scale);
    params.scaling = GemmScaling::kBlock;
    params.x_scale = x_scale_dev.data();
    params.weight_scale = w_scale_dev.data();
    gemm.run(params, stream_);
    got = y.download();
    int wrong = 0;
    for (int64_t row = 0; row < m; ++row) {
      for (int64_t col = 0; col < n; ++col) {
        double sum = 0;
        for (int64_t i = 0; i < k; ++i) {
          sum += double{p.x[static_cast<size_t>(row * k + i)]} *
                 p.w[static_cast<size_t>(col * k + i)] * xs(i / 128, row) * ws(col / 128, i / 128);
        }
        wrong += got[static_cast<size_t>(row * n + col)] != float_to_bf16(static_cast<float>(sum));
      }
    }
    EXPECT_EQ(wrong, 0) << "block scales, m " << m;
  }
}

}  // namespace
}  // namespace foveal::kernels::cuda
