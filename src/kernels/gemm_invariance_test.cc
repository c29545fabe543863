#include "kernels/gemm_fixture.h"

namespace foveal::kernels {
namespace {

using testing::StoredWeight;

std::vector<float> run(std::span<const StoredWeight* const> weights, const float* x, int64_t m,
                       int64_t k, GemmPath path, int threads) {
  ThreadPool pool(threads);
  Stream stream({}, pool);
  std::vector<std::vector<float>> y;
  std::vector<GemmOutput> outputs;
  for (const StoredWeight* weight : weights) {
    y.emplace_back(static_cast<size_t>(m * weight->view.rows));
    outputs.push_back(
        {.weight = weight->view, .y = y.back().data(), .y_stride = weight->view.rows});
  }
  gemm({.x = x, .m = m, .k = k, .x_stride = k, .outputs = outputs, .path = path}, stream);
  return y[0];
}

/// The contract of gemm.h: a row's bits depend on k, dtype, path and level only.
TEST(GemmInvariance, RowsDoNotDependOnCompanyOrThreads) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 rng(seed);
  constexpr int64_t kRows = 77;  // past one row block of a dot call, no multiple of a tile
  constexpr int64_t kCols = 75;
  constexpr int64_t kDepth = 2304;
  const std::vector<float> x = testing::random_floats(kRows * kDepth, rng);
  testing::for_each_isa([&](cpu::Isa) {
    for (const DType dtype : testing::weight_dtypes()) {
      const StoredWeight first(dtype, kCols, kDepth, rng);
      const StoredWeight second(DType::kQ4_1, 50, kDepth, rng);
      const StoredWeight* both[] = {&first, &second};
      const StoredWeight* alone[] = {&first};
      for (const GemmPath path : {GemmPath::kPrefill, GemmPath::kDecode, GemmPath::kExact}) {
        SCOPED_TRACE(fmt::format("{} path {}", dtype_name(dtype), static_cast<int>(path)));
        const auto all = run(both, x.data(), kRows, kDepth, path, 2);
        for (const int threads : {1, 3}) {
          const auto again = run(alone, x.data(), kRows, kDepth, path, threads);
          ASSERT_EQ(std::memcmp(all.data(), again.data(), all.size() * 4), 0) << threads;
        }
        for (const int64_t m : {1, 2, 3, 5, 8, 13}) {
          const int64_t row = static_cast<int64_t>(rng() % (kRows - m + 1));
          const auto part = run(alone, x.data() + row * kDepth, m, kDepth, path, 1);
          ASSERT_EQ(std::memcmp(all.data() + row * kCols, part.data(), part.size() * 4), 0)
              << "rows " << row << " to " << row + m;
        }
      }
    }
  });
}

/// A column's bits do not depend on which columns are beside it: sharded and whole weights agree.
TEST(GemmInvariance, ColumnsDoNotDependOnTheirPlace) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 rng(seed);
  constexpr int64_t kDepth = 768;
  const std::vector<float> x = testing::random_floats(3 * kDepth, rng);
  ThreadPool pool(1);
  Stream stream({}, pool);
  testing::for_each_isa([&](cpu::Isa) {
    for (const DType dtype : testing::weight_dtypes()) {
      const StoredWeight weight(dtype, 70, kDepth, rng);
      for (const GemmPath path : {GemmPath::kPrefill, GemmPath::kDecode, GemmPath::kExact}) {
        const StoredWeight* alone[] = {&weight};
        const auto all = run(alone, x.data(), 3, kDepth, path, 1);
        WeightView part = weight.view;
        part.data = weight.view.row(19);
        part.rows = 23;
        std::vector<float> y(3 * 23);
        const GemmOutput out{.weight = part, .y = y.data(), .y_stride = 23};
        gemm({.x = x.data(),
              .m = 3,
              .k = kDepth,
              .x_stride = kDepth,
              .outputs = {&out, 1},
              .path = path},
             stream);
        for (size_t row = 0; row < 3; ++row) {
          ASSERT_EQ(std::memcmp(&all[row * 70 + 19], &y[row * 23], 23 * 4), 0)
              << dtype_name(dtype) << " path " << static_cast<int>(path) << " row " << row;
        }
      }
    }
  });
}

}  // namespace
}  // namespace foveal::kernels
