#include "kernels/cuda/latent_inputs.h"

#include "kernels/cuda/dense_cuda_testing.h"
#include "kernels/reference/elementwise.h"

namespace foveal::kernels::cuda {
namespace {

using namespace testing;

constexpr float kEps = 1e-6F;
constexpr int64_t kPositions = 50;

class LatentInputsCudaTest : public CudaTest {
 protected:
  struct Tables {
    std::vector<float> cosines, sines;
    std::vector<int32_t> positions;
  };

  Tables tables(int64_t m, int32_t rope_dim) {
    Tables out;
    for (int64_t at = 0; at < kPositions * rope_dim / 2; ++at) {
      const double angle = 0.37 * static_cast<double>(at);
      out.cosines.push_back(static_cast<float>(std::cos(angle)));
      out.sines.push_back(static_cast<float>(std::sin(angle)));
    }
    for (int64_t row = 0; row < m; ++row) {
      out.positions.push_back(static_cast<int32_t>(row * 7 % kPositions));
    }
    return out;
  }

  /// Channels [at, at + dim) of heads of `width` rotated, by the reference.
  static std::vector<double> rotated(std::vector<float> x, int64_t m, int32_t heads, int32_t width,
                                     int32_t at, int32_t dim, RopeStyle style, const Tables& t) {
    // The reference turns a head's first channels: heads begin where those that turn do.
    std::vector<float> shifted(x.begin() + at, x.end());
    shifted.resize(x.size());
    return reference::rope({.x = shifted.data(),
                            .m = m,
                            .x_stride = int64_t{heads} * width,
                            .num_heads = heads,
                            .head_dim = width,
                            .rotary_dim = dim,
                            .positions = t.positions.data(),
                            .cos_table = t.cosines.data(),
                            .sin_table = t.sines.data(),
                            .style = style});
  }
};

TEST_F(LatentInputsCudaTest, MakesRowsAndQueries) {
  struct Case {
    int32_t heads, nope, rank, rope;
    RopeStyle style;
  };
  for (const Case& c :
       {Case{128, 128, 512, 64, RopeStyle::kInterleaved}, Case{2, 192, 512, 64, RopeStyle::kHalf},
        Case{3, 8, 896, 16, RopeStyle::kInterleaved}}) {
    constexpr int64_t kInPlace = 2;
    const int64_t m = 5;
    const int64_t stride = c.rank + c.rope + 12;
    const int32_t width = c.rank + c.rope;
    const int32_t head_dim = c.nope + c.rope;
    const Tables t = tables(m, c.rope);
    const std::vector<float> x = normal(static_cast<size_t>(m * stride), 3);
    const std::vector<float> norm = normal(static_cast<size_t>(c.rank));
    const std::vector<uint16_t> q_bits =
        to_bf16(normal(static_cast<size_t>(m * c.heads * head_dim)));
    const std::vector<float> q = from_bf16(q_bits);
    const auto x_dev = upload(x);
    const auto norm_dev = upload(norm);
    const auto q_dev = upload(q_bits);
    const auto cos_dev = upload(t.cosines);
    const auto sin_dev = upload(t.sines);
    const auto positions_dev = upload(t.positions);
    const DeviceArray<uint16_t> rows(stream_, static_cast<size_t>(m * width));
    const DeviceArray<uint16_t> absorbed(stream_, static_cast<size_t>(m * c.heads * width));
    latent_inputs({.latents = x_dev.data(),
                   .norm = norm_dev.data(),
                   .rows = rows.data(),
                   .q = q_dev.data(),
                   .absorbed = absorbed.data(),
                   .m = m,
                   .in_place = kInPlace,
                   .latents_stride = stride,
                   .q_stride = int64_t{c.heads} * head_dim,
                   .num_heads = c.heads,
                   .nope_dim = c.nope,
                   .rank = c.rank,
                   .norm_eps = kEps,
                   .rope = {.positions = positions_dev.data(),
                            .cos_table = cos_dev.data(),
                            .sin_table = sin_dev.data(),
                            .dim = c.rope,
                            .style = c.style}},
                  stream_);
    const std::vector<double> normed = reference::rms_norm({.x = x.data(),
                                                            .weight = norm.data(),
                                                            .m = m,
                                                            .n = c.rank,
                                                            .x_stride = stride,
                                                            .eps = kEps});
    std::vector<float> turned;
    for (int64_t row = 0; row < m; ++row) {
      const auto from = x.begin() + row * stride + c.rank;
      turned.insert(turned.end(), from, from + c.rope);
    }
    const std::vector<double> key = rotated(turned, m, 1, c.rope, 0, c.rope, c.style, t);
    const std::vector<double> query = rotated(q, m, c.heads, head_dim, c.nope, c.rope, c.style, t);
    const std::vector<float> got = from_bf16(rows.download());
    const std::vector<float> got_q = from_bf16(absorbed.download());
    const std::vector<float> turned_q = from_bf16(q_dev.download());
    const auto close = [](float value, double want) {
      return std::abs(value - want) <= 0x1p-8 * std::abs(want) + 1e-5;
    };
    for (int64_t row = 0; row < m; ++row) {
      for (int64_t at = 0; at < width; ++at) {
        const double want = at < c.rank ? normed[static_cast<size_t>(row * c.rank + at)]
                                        : key[static_cast<size_t>(row * c.rope + at - c.rank)];
        ASSERT_TRUE(close(got[static_cast<size_t>(row * width + at)], want)) << row << " " << at;
      }
      for (int64_t head = 0; head < c.heads; ++head) {
        const int64_t from = (row * c.heads + head) * head_dim;
        const int64_t to = (row * c.heads + head) * width;
        for (int64_t at = 0; at < c.rope; ++at) {
          const float absorbed_q = got_q[static_cast<size_t>(to + c.rank + at)];
          const float own_q = turned_q[static_cast<size_t>(from + c.nope + at)];
          ASSERT_TRUE(
              close(row < kInPlace ? own_q : absorbed_q, query[static_cast<size_t>(from + at)]))
              << row << " " << head << " " << at;
          EXPECT_EQ(std::isnan(absorbed_q), row < kInPlace);
        }
        EXPECT_TRUE(std::isnan(got_q[static_cast<size_t>(to + c.rank - 1)])) << "not its channels";
      }
    }
  }
}

TEST_F(LatentInputsCudaTest, MakesIndexKeysAndQueries) {
  for (const RopeStyle style : {RopeStyle::kHalf, RopeStyle::kInterleaved}) {
    for (const int32_t heads : {64, 8, 1}) {
      constexpr int32_t kDim = 128;
      constexpr int32_t kRope = 64;
      const int64_t m = 5;
      const int64_t k_stride = kDim + 20;
      const int64_t q_stride = heads * kDim + 8;
      const Tables t = tables(m, kRope);
      std::vector<float> k = normal(static_cast<size_t>(m * k_stride), 3);
      for (float& value : k) value += 2;  // a mean that matters
      const std::vector<float> weight = normal(kDim);
      const std::vector<float> bias = normal(kDim);
      const std::vector<uint16_t> q_bits = to_bf16(normal(static_cast<size_t>(m * q_stride)));
      const auto k_dev = upload(k);
      const auto weight_dev = upload(weight);
      const auto bias_dev = upload(bias);
      const auto q_dev = upload(q_bits);
      const auto cos_dev = upload(t.cosines);
      const auto sin_dev = upload(t.sines);
      const auto positions_dev = upload(t.positions);
      const DeviceArray<uint16_t> y(stream_, static_cast<size_t>(m * kDim));
      index_inputs({.k = k_dev.data(),
                    .weight = weight_dev.data(),
                    .bias = bias_dev.data(),
                    .y = y.data(),
                    .q = q_dev.data(),
                    .m = m,
                    .k_stride = k_stride,
                    .q_stride = q_stride,
                    .num_heads = heads,
                    .head_dim = kDim,
                    .norm_eps = kEps,
                    .rope = {.positions = positions_dev.data(),
                             .cos_table = cos_dev.data(),
                             .sin_table = sin_dev.data(),
                             .dim = kRope,
                             .style = style}},
                   stream_);
      const std::vector<double> normed = reference::layer_norm({.x = k.data(),
                                                                .weight = weight.data(),
                                                                .bias = bias.data(),
                                                                .m = m,
                                                                .n = kDim,
                                                                .x_stride = k_stride,
                                                                .eps = kEps});
      const std::vector<float> narrow(normed.begin(), normed.end());
      const std::vector<double> want = rotated(narrow, m, 1, kDim, 0, kRope, style, t);
      const std::vector<float> got = from_bf16(y.download());
      for (size_t at = 0; at < got.size(); ++at) {
        ASSERT_NEAR(got[at], want[at], 0x1p-8 * std::abs(want[at]) + 2e-5) << at;
      }
      const std::vector<float> before = from_bf16(q_bits);
      const std::vector<float> after = from_bf16(q_dev.download());
      for (int64_t row = 0; row < m; ++row) {
        const std::vector<float> one(before.begin() + row * q_stride,
                                     before.begin() + row * q_stride + heads * kDim);
        Tables own = t;
        own.positions = {t.positions[static_cast<size_t>(row)]};
        const std::vector<double> turned = rotated(one, 1, heads, kDim, 0, kRope, style, own);
        for (size_t at = 0; at < turned.size(); ++at) {
          const float value = after[static_cast<size_t>(row * q_stride) + at];
          ASSERT_NEAR(value, turned[at], 0x1p-8 * std::abs(turned[at]) + 1e-5) << row << " " << at;
        }
      }
    }
  }
}

}  // namespace
}  // namespace foveal::kernels::cuda
