#include "kernels/gemm.h"

#include <cmath>

#include "kernels/gemm_fixture.h"
#include "kernels/reference/gemm.h"

namespace foveal::kernels {
namespace {

using testing::StoredWeight;

constexpr double kEpsF32 = 0x1p-24;  // half a unit in the last place
constexpr double kEpsBF16 = 0x1p-8;

/// Rounding x and w (prefill) or x (decode) moves each term by at most eps a factor; k additions in
/// f32 move the sum by k * eps of the terms' magnitudes, in practice far less. Units of scale in
/// decode are sums of 32 terms that may be larger than their result where a minimum cancels them:
/// `spread` bounds that ratio.
double tolerance(GemmPath path, DType dtype, cpu::Isa isa, int64_t k, double norm, double spread) {
  const bool bf16 = isa == cpu::Isa::kAvx512Bf16;
  double eps = kEpsF32 * (static_cast<double>(k) + 8);
  if (bf16 && path == GemmPath::kPrefill) eps += dtype == DType::kBF16 ? kEpsBF16 : 2.01 * kEpsBF16;
  if (bf16 && path == GemmPath::kDecode)
    eps += kEpsBF16 + spread * kEpsF32 * static_cast<double>(k);
  return eps * norm + 1e-30;
}

struct Shape {
  int64_t m;
  int64_t n;
  int64_t k;
};

void check_case(DType dtype, GemmPath path, cpu::Isa isa, Shape shape, bool bias, bool accumulate,
                Stream& stream, std::mt19937& rng) {
  SCOPED_TRACE(fmt::format("{} path {} m {} n {} k {}", dtype_name(dtype), static_cast<int>(path),
                           shape.m, shape.n, shape.k));
  const int64_t x_stride = shape.k + 3;
  const int64_t y_stride = shape.n + 5;
  const StoredWeight weight(dtype, shape.n, shape.k, rng);
  const std::vector<float> x = testing::random_floats(shape.m * x_stride, rng);
  const std::vector<float> b = testing::random_floats(shape.n, rng);
  const std::vector<float> before = testing::random_floats(shape.m * y_stride, rng);
  std::vector<float> y = before;
  const GemmOutput out{.weight = weight.view,
                       .bias = bias ? b.data() : nullptr,
                       .y = y.data(),
                       .y_stride = y_stride,
                       .accumulate = accumulate};
  gemm({.x = x.data(),
        .m = shape.m,
        .k = shape.k,
        .x_stride = x_stride,
        .outputs = {&out, 1},
        .path = path},
       stream);

  const auto want = reference::gemm(x.data(), shape.m, shape.k, x_stride, weight.view);
  for (int64_t row = 0; row < shape.m; ++row) {
    for (int64_t col = 0; col < y_stride; ++col) {
      const auto at = static_cast<size_t>(row * y_stride + col);
      if (col >= shape.n) {
        ASSERT_EQ(y[at], before[at]) << "wrote past n at row " << row;
        continue;
      }
      const auto idx = static_cast<size_t>(row * shape.n + col);
      double value = want.value[idx];
      double norm = want.norm[idx];
      if (bias) value += b[static_cast<size_t>(col)], norm += std::abs(b[static_cast<size_t>(col)]);
      if (accumulate) value += before[at], norm += std::abs(before[at]);
      ASSERT_NEAR(y[at], value, tolerance(path, dtype, isa, shape.k, norm, /*spread=*/8))
          << "row " << row << " col " << col << " norm " << norm;
    }
  }
}

TEST(Gemm, EveryDtypePathAndLevelAgreesWithTheReference) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 rng(seed);
  ThreadPool pool(2);
  Stream stream({}, pool);
  const Shape quantised[] = {{1, 1, 1},   {2, 31, 2},  {3, 33, 3},
                             {5, 100, 1}, {13, 33, 2}, {33, 31, 1}};
  const Shape odd[] = {{1, 31, 1},    {2, 33, 7},   {3, 1, 33},
                       {5, 100, 100}, {13, 33, 63}, {33, 31, 95}};
  testing::for_each_isa([&](cpu::Isa isa) {
    for (const DType dtype : testing::weight_dtypes()) {
      const int64_t block = dtype_info(dtype).block;
      for (const GemmPath path : {GemmPath::kPrefill, GemmPath::kDecode, GemmPath::kExact}) {
        for (int idx = 0; idx < 6; ++idx) {
          Shape shape = block == 1 ? odd[idx] : quantised[idx];
          if (block > 1) shape.k *= block;
          check_case(dtype, path, isa, shape, idx % 2 == 1, idx % 3 == 1, stream, rng);
          if (HasFatalFailure()) return;
        }
      }
    }
  });
}

// k past one packed panel (2048 elements in bf16) and past one expanded chunk, not a multiple of
// either.
TEST(Gemm, LongReductions) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 rng(seed);
  ThreadPool pool(2);
  Stream stream({}, pool);
  testing::for_each_isa([&](cpu::Isa isa) {
    for (const GemmPath path : {GemmPath::kPrefill, GemmPath::kDecode, GemmPath::kExact}) {
      check_case(DType::kQ4_1, path, isa, {14, 40, 4864}, true, true, stream, rng);
      check_case(DType::kQ6_K, path, isa, {3, 40, 4864}, true, true, stream, rng);
      check_case(DType::kBF16, path, isa, {14, 17, 4099}, true, false, stream, rng);
      if (HasFatalFailure()) return;
    }
  });
}

}  // namespace
}  // namespace foveal::kernels
