#include "kernels/elementwise.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "foveal/error.h"
#include "kernels/cpu/isa.h"
#include "kernels/reference/elementwise.h"

namespace foveal::kernels {
namespace {

constexpr double kEps = 0x1p-24;  // half a float ulp, relative
constexpr double kTiny = std::numeric_limits<float>::min();

/// Runs every test at every level this machine has.
class Elementwise : public testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    const auto isa = static_cast<cpu::Isa>(GetParam());
    if (isa > cpu::machine_isa()) GTEST_SKIP() << "machine lacks " << cpu::isa_name(isa);
    before_ = cpu::active_isa();
    cpu::set_active_isa(isa);
    rng_.seed(seed_);
  }
  void TearDown() override { cpu::set_active_isa(before_); }

  std::vector<float> normal(int64_t count, float spread = 1) {
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = std::normal_distribution<float>(0, spread)(rng_);
    return values;
  }

  const uint32_t seed_ = std::random_device{}();
  const testing::ScopedTrace trace_{__FILE__, __LINE__, testing::Message() << "seed " << seed_};
  std::mt19937 rng_;
  cpu::Isa before_ = cpu::Isa::kPortable;
  ThreadPool one_{1};
  ThreadPool three_{3};
  Stream stream_{Device{}, one_};
  Stream threads_{Device{}, three_};
};

INSTANTIATE_TEST_SUITE_P(Isa, Elementwise, testing::Range(0, 4), [](const auto& level) {
  return std::string(cpu::isa_name(static_cast<cpu::Isa>(level.param)));
});

TEST_P(Elementwise, RmsNorm) {
  for (const int64_t n : {1, 2, 15, 63, 64, 65, 576, 1023, 1025, 4099}) {
    const int64_t m = 3;
    const int64_t stride = n + 5;
    std::vector<float> x = normal(m * stride, std::exp(normal(1, 3)[0]));
    const std::vector<float> weight = normal(n);
    std::vector<float> y(x.size(), 7);
    RmsNormParams params{.x = x.data(), .y = y.data(), .weight = weight.data(), .m = m, .n = n};
    params.x_stride = params.y_stride = stride;
    params.eps = 1e-6F;
    params.weight_offset = n % 2 == 0 ? 0.0F : 1.0F;
    rms_norm(params, stream_);
    const std::vector<double> want = reference::rms_norm(params);
    for (int64_t row = 0; row < m; ++row) {
      for (int64_t col = 0; col < n; ++col) {
        const auto at = static_cast<size_t>(row * n + col);
        // Squares: 1 rounding, then at most 16 + 3 additions in float, halved by the root; the
        // factor, weight + offset and two products: 4 more. weight + offset rounds where it does
        // not cancel, hence relative to both terms.
        const double w = weight[static_cast<size_t>(col)];
        const double terms = std::abs(w) + params.weight_offset;
        const double scale =
            terms == 0 ? 0 : std::abs(want[at]) / std::abs(w + params.weight_offset);
        EXPECT_NEAR(y[static_cast<size_t>(row * stride + col)], want[at],
                    (10 + 3) * kEps * std::abs(want[at]) + kEps * scale * terms + kTiny)
            << "n " << n << " col " << col;
      }
      for (int64_t col = n; col < stride; ++col) {
        EXPECT_EQ(y[static_cast<size_t>(row * stride + col)], 7) << "wrote past the row";
      }
    }
    params.y = x.data();
    rms_norm(params, stream_);
    for (int64_t row = 0; row < m; ++row) {
      const auto first = static_cast<size_t>(row * stride);
      EXPECT_EQ(std::memcmp(&x[first], &y[first], sizeof(float) * static_cast<size_t>(n)), 0);
    }
  }
}

TEST_P(Elementwise, RmsNormOfExtremes) {
  const std::vector<float> weight(100, 1.0F);
  for (const float value : {1e18F, 1e-30F, 0.0F}) {
    std::vector<float> x(100, value);
    RmsNormParams params{.x = x.data(), .y = x.data(), .weight = weight.data(), .m = 1, .n = 100};
    params.x_stride = params.y_stride = 100;
    params.eps = 1e-5F;
    const std::vector<double> want = reference::rms_norm(params);
    rms_norm(params, stream_);
    for (size_t idx = 0; idx < 100; ++idx) EXPECT_NEAR(x[idx], want[idx], 13 * kEps * want[idx]);
  }
}

TEST_P(Elementwise, LayerNorm) {
  for (const int64_t n : {1, 2, 33, 128, 1025}) {
    const int64_t m = 3;
    const int64_t stride = n + 5;
    std::vector<float> x = normal(m * stride, std::exp(normal(1, 3)[0]));
    for (float& value : x) value += 3;  // a mean that matters
    const std::vector<float> weight = normal(n);
    const std::vector<float> bias = normal(n);
    std::vector<float> y(x.size(), 7);
    LayerNormParams params{.x = x.data(),
                           .y = y.data(),
                           .weight = weight.data(),
                           .bias = bias.data(),
                           .m = m,
                           .n = n,
                           .x_stride = stride,
                           .y_stride = stride,
                           .eps = 1e-6F};
    layer_norm(params, stream_);
    const std::vector<double> want = reference::layer_norm(params);
    for (int64_t row = 0; row < m; ++row) {
      for (int64_t col = 0; col < n; ++col) {
        const auto at = static_cast<size_t>(row * n + col);
        EXPECT_NEAR(y[static_cast<size_t>(row * stride + col)], want[at],
                    2 * kEps * std::abs(want[at]) + kTiny);
      }
      EXPECT_EQ(y[static_cast<size_t>(row * stride + n)], 7) << "wrote past the row";
    }
  }
}

TEST_P(Elementwise, Rope) {
  for (const RopeStyle style : {RopeStyle::kHalf, RopeStyle::kInterleaved}) {
    for (const int32_t rotary : {2, 6, 34, 64, 80}) {
      const int32_t head_dim = 80;
      const int64_t m = 4;
      const int64_t stride = 3 * head_dim + 1;
      std::vector<float> x = normal(m * stride);
      const std::vector<float> before = x;
      const std::vector<float> cosines = normal(11 * rotary / 2);
      const std::vector<float> sines = normal(11 * rotary / 2);
      const std::vector<int32_t> positions{10, 0, 3, 3};
      RopeParams params{.x = x.data(), .m = m, .x_stride = stride, .num_heads = 3};
      params.head_dim = head_dim;
      params.rotary_dim = rotary;
      params.positions = positions.data();
      params.cos_table = cosines.data();
      params.sin_table = sines.data();
      params.style = style;
      const std::vector<double> want = reference::rope(params);
      rope(params, stream_);
      for (int64_t row = 0; row < m; ++row) {
        EXPECT_EQ(x[static_cast<size_t>(row * stride + 240)],
                  before[static_cast<size_t>(row * stride + 240)]);
        for (int64_t col = 0; col < 240; ++col) {
          // Two products and a sum of values below 6 * 6 (six sigma): 3 roundings of at most 72.
          EXPECT_NEAR(x[static_cast<size_t>(row * stride + col)],
                      want[static_cast<size_t>(row * 240 + col)], 3 * 72 * kEps);
          if (col % head_dim >= rotary) {
            EXPECT_EQ(x[static_cast<size_t>(row * stride + col)],
                      before[static_cast<size_t>(row * stride + col)]);
          }
        }
      }
    }
  }
}

/// Relative error bound of act(x) in float: exp within 2e-7 (checked below), its argument rounded
/// (condition number = the argument itself), a handful of roundings around it.
double act_bound(double x, Activation act) {
  const double exp_argument = act == Activation::kSilu ? 0
                              : act == Activation::kGeluErf
                                  ? x * x
                                  : 2 * std::abs(1.6 * (x + 0.0447 * x * x * x));
  const double exp_error = 2e-7 + 2 * exp_argument * kEps;
  // The exponential's share of 1 + e^u is below 1; for x > 0 it fades with e^u itself.
  const double share = x > 0 ? std::exp(-std::min(exp_argument / 2, 80.0)) : 1.0;
  return exp_error * (act == Activation::kSilu ? 1.0 : share) + 14 * kEps;
}

TEST_P(Elementwise, GatedAct) {
  for (const Activation act : {Activation::kSilu, Activation::kGeluTanh, Activation::kGeluErf}) {
    for (const int64_t n : {1, 3, 64, 67, 1000}) {
      const int64_t m = 5;
      std::vector<float> gate = normal(m * (n + 1), 3);
      const std::vector<float> up = normal(m * (n + 2));
      std::vector<float> y(static_cast<size_t>(m * (n + 3)), 7);
      GatedActParams params{.gate = gate.data(), .up = up.data(), .y = y.data(), .m = m, .n = n};
      params.gate_stride = n + 1;
      params.up_stride = n + 2;
      params.y_stride = n + 3;
      params.act = act;
      gated_act(params, stream_);
      const std::vector<double> want = reference::gated_act(params);
      for (int64_t row = 0; row < m; ++row) {
        for (int64_t col = 0; col < n; ++col) {
          const double expect = want[static_cast<size_t>(row * n + col)];
          const double x = gate[static_cast<size_t>(row * (n + 1) + col)];
          EXPECT_NEAR(y[static_cast<size_t>(row * (n + 3) + col)], expect,
                      act_bound(x, act) * std::abs(expect) + 20 * kTiny)
              << "act " << static_cast<int>(act) << " x " << x;
        }
        EXPECT_EQ(y[static_cast<size_t>(row * (n + 3) + n)], 7);
      }
      params.y = gate.data();
      params.y_stride = params.gate_stride;
      gated_act(params, stream_);
      for (int64_t row = 0; row < m; ++row) {
        EXPECT_EQ(std::memcmp(&gate[static_cast<size_t>(row * (n + 1))],
                              &y[static_cast<size_t>(row * (n + 3))],
                              sizeof(float) * static_cast<size_t>(n)),
                  0);
      }
    }
  }
}

/// silu(x) = x / (1 + e^-x): for x below -20 it is x e^x, so this measures the exponential itself.
TEST_P(Elementwise, ActivationsOverTheirWholeRange) {
  std::vector<float> gate;
  for (double x = -110; x < 110; x += 0.0137) gate.push_back(static_cast<float>(x));
  for (const float x : {0.0F, -0.0F, 1e-30F, -1e-30F, 1e30F, -1e30F}) gate.push_back(x);
  const auto n = static_cast<int64_t>(gate.size());
  const std::vector<float> up(gate.size(), 1.0F);
  std::vector<float> y(gate.size());
  for (const Activation act : {Activation::kSilu, Activation::kGeluTanh, Activation::kGeluErf}) {
    GatedActParams params{.gate = gate.data(), .up = up.data(), .y = y.data(), .m = 1, .n = n};
    params.gate_stride = params.up_stride = params.y_stride = n;
    params.act = act;
    gated_act(params, stream_);
    for (size_t idx = 0; idx < gate.size(); ++idx) {
      const double want = reference::activation(gate[idx], act);
      // Where e^-x overflows or e^x is subnormal, what is left is below 128 of the least normals.
      EXPECT_NEAR(y[idx], want, act_bound(gate[idx], act) * std::abs(want) + 128 * kTiny)
          << "act " << static_cast<int>(act) << " x " << gate[idx];
    }
  }
}

TEST_P(Elementwise, LogSumExp) {
  for (const int64_t n : {1, 2, 15, 17, 1000, 4096, 50021}) {
    for (const float spread : {0.0F, 1.0F, 10.0F, 1e30F}) {
      std::vector<float> x = normal(n, spread);
      for (size_t idx = 1; idx < x.size(); idx += 7)
        x[idx] = -std::numeric_limits<float>::infinity();
      const long double top = *std::max_element(x.begin(), x.end());
      long double sum = 0;
      for (const float value : x) sum += std::exp(value - top);
      const auto want = static_cast<double>(top + std::log(sum));
      EXPECT_NEAR(log_sum_exp(x.data(), n), want, 2e-6 + std::abs(want) * 0x1p-52)
          << "n " << n << " spread " << spread;
    }
  }
}

TEST_P(Elementwise, NanStaysNan) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const Activation act : {Activation::kSilu, Activation::kGeluTanh, Activation::kGeluErf}) {
    float gate = nan;
    const float up = 1;
    GatedActParams params{.gate = &gate, .up = &up, .y = &gate, .m = 1, .n = 1};
    params.gate_stride = params.up_stride = params.y_stride = 1;
    params.act = act;
    gated_act(params, stream_);
    EXPECT_TRUE(std::isnan(gate));
  }
}

TEST_P(Elementwise, AddScaledAndScale) {
  for (const int64_t n : {0, 1, 7, 33, 1000, 70001}) {
    const std::vector<float> x = normal(n);
    const std::vector<float> base = normal(n);
    std::vector<float> y = base;
    std::vector<float> z = base;
    add_scaled(x.data(), 0.7F, y.data(), n, threads_);
    scale(z.data(), 0.7F, n, threads_);
    for (size_t idx = 0; idx < x.size(); ++idx) {
      const double product = double{0.7F} * x[idx];
      EXPECT_NEAR(y[idx], base[idx] + product,
                  kEps * (2 * std::abs(product) + std::abs(base[idx])) + kTiny);
      EXPECT_EQ(z[idx], base[idx] * 0.7F);
    }
  }
}

TEST_P(Elementwise, RowsDoNotDependOnBatchOrThreads) {
  const int64_t m = 131;
  const int64_t n = 517;  // 67,727 elements: enough to be shared among threads
  const std::vector<float> x = normal(m * n);
  const std::vector<float> up = normal(m * n);
  std::vector<std::vector<float>> normed(3, std::vector<float>(x.size()));
  std::vector<std::vector<float>> gated(3, std::vector<float>(x.size()));
  const auto run = [&](int64_t row, int64_t rows, size_t out, Stream& stream) {
    RmsNormParams norm{.x = &x[static_cast<size_t>(row * n)],
                       .y = &normed[out][static_cast<size_t>(row * n)],
                       .weight = up.data(),
                       .m = rows,
                       .n = n};
    norm.x_stride = norm.y_stride = n;
    norm.eps = 1e-6F;
    rms_norm(norm, stream);
    GatedActParams act{.gate = norm.x,
                       .up = &up[static_cast<size_t>(row * n)],
                       .y = &gated[out][static_cast<size_t>(row * n)],
                       .m = rows,
                       .n = n};
    act.gate_stride = act.up_stride = act.y_stride = n;
    act.act = Activation::kGeluTanh;
    gated_act(act, stream);
  };
  run(0, m, 0, threads_);
  run(0, m, 1, stream_);
  for (int64_t row = 0; row < m; ++row) run(row, 1, 2, stream_);
  for (const size_t other : {1, 2}) {
    EXPECT_EQ(std::memcmp(normed[0].data(), normed[other].data(), x.size() * sizeof(float)), 0);
    EXPECT_EQ(std::memcmp(gated[0].data(), gated[other].data(), x.size() * sizeof(float)), 0);
  }
}

TEST_P(Elementwise, Embed) {
  const int64_t n = 37;
  const std::vector<float> table = normal(9 * n);
  EmbedParams params;
  params.table = {reinterpret_cast<const std::byte*>(table.data()), DType::kF32, 9, n, n * 4};
  std::vector<int32_t> ids{8, 0, 3, 3};
  std::vector<float> y(4 * n);
  params.ids = ids.data();
  params.y = y.data();
  params.m = 4;
  params.alpha = 3.5F;
  embed(params, stream_);
  for (size_t row = 0; row < 4; ++row) {
    for (size_t col = 0; col < static_cast<size_t>(n); ++col) {
      const size_t from = static_cast<size_t>(ids[row]) * static_cast<size_t>(n) + col;
      EXPECT_EQ(y[row * static_cast<size_t>(n) + col], table[from] * 3.5F);
    }
  }
  for (const int32_t bad : {-1, 9}) {
    ids[2] = bad;
    EXPECT_THROW(embed(params, stream_), Error);
  }
}

}  // namespace
}  // namespace foveal::kernels
