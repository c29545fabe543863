#include <functional>

#include "kernels/gemm_fixture.h"

namespace foveal::kernels {
namespace {

using testing::StoredWeight;

class GemmCheck : public ::testing::Test {
 protected:
  GemmCheck() : rng_(7), weight_(DType::kQ4_1, 8, 64, rng_) {
    output_ = {.weight = weight_.view, .y = y_, .y_stride = 8};
    params_ = {.x = x_, .m = 2, .k = 64, .x_stride = 64, .outputs = {&output_, 1}};
  }

  ErrorKind refused(const std::function<void()>& change) {
    const GemmParams params = params_;
    const GemmOutput output = output_;
    change();
    ErrorKind kind = ErrorKind::kInternal;
    try {
      gemm(params_, stream_);
      ADD_FAILURE() << "must throw";
    } catch (const Error& error) {
      kind = error.kind();
      EXPECT_TRUE(std::string(error.what()).starts_with("[gemm] got ")) << error.what();
    }
    params_ = params;
    output_ = output;
    return kind;
  }

  std::mt19937 rng_;
  StoredWeight weight_;
  float x_[128] = {};
  float y_[16] = {};
  GemmOutput output_;
  GemmParams params_;
  ThreadPool pool_{1};
  Stream stream_{{}, pool_};
};

TEST_F(GemmCheck, RefusesWhatCannotWork) {
  constexpr auto kBad = ErrorKind::kInvalidArgument;
  gemm(params_, stream_);
  EXPECT_EQ(refused([&] { params_.m = -1; }), kBad);
  EXPECT_EQ(refused([&] { params_.k = 0; }), kBad);
  EXPECT_EQ(refused([&] { params_.x = nullptr; }), kBad);
  EXPECT_EQ(refused([&] { params_.x_stride = 63; }), kBad);
  EXPECT_EQ(refused([&] { output_.weight.cols = 32; }), kBad);
  EXPECT_EQ(refused([&] { params_.k = params_.x_stride = output_.weight.cols = 65; }), kBad);
  EXPECT_EQ(refused([&] { output_.weight.row_bytes -= 1; }), kBad);
  EXPECT_EQ(refused([&] { output_.weight.rows = -1; }), kBad);
  EXPECT_EQ(refused([&] { output_.weight.data = nullptr; }), kBad);
  EXPECT_EQ(refused([&] { output_.y = nullptr; }), kBad);
  EXPECT_EQ(refused([&] { output_.y_stride = 7; }), kBad);
  EXPECT_EQ(refused([&] { output_.weight.dtype = DType::kI32; }), ErrorKind::kUnsupported);
}

TEST_F(GemmCheck, NothingToDoIsFine) {
  output_.y = nullptr;
  output_.weight.rows = 0;
  gemm(params_, stream_);
  params_.m = 0;
  params_.x = nullptr;
  gemm(params_, stream_);
  params_.outputs = {};
  gemm(params_, stream_);
}

TEST_F(GemmCheck, RowsMayBeApart) {
  // every second stored row: the stride is the caller's
  WeightView half = weight_.view;
  half.rows = 4;
  half.row_bytes *= 2;
  for (float& value : x_) value = static_cast<float>(rng_() % 17) - 8;
  for (const GemmPath path : {GemmPath::kPrefill, GemmPath::kDecode, GemmPath::kExact}) {
    params_.path = path;
    gemm(params_, stream_);
    float part[8];
    const GemmOutput out{.weight = half, .y = part, .y_stride = 4};
    GemmParams apart = params_;
    apart.outputs = {&out, 1};
    gemm(apart, stream_);
    for (int idx = 0; idx < 8; ++idx) EXPECT_EQ(part[idx], y_[idx / 4 * 8 + idx % 4 * 2]);
  }
}

}  // namespace
}  // namespace foveal::kernels
