#include "kernels/cuda/moe.h"

#include <algorithm>
#include <limits>

#include "kernels/cuda/dense_cuda_testing.h"
#include "kernels/elementwise.h"

namespace foveal::kernels::cuda {
namespace {

using namespace testing;

using MoeCudaTest = CudaTest;

TEST_F(MoeCudaTest, RoutesAsTheCpu) {
  ThreadPool pool(1);
  Stream cpu(Device{}, pool);
  for (const int32_t experts : {1, 8, 60, 128, 256, 1000}) {
    for (const int32_t k : {1, 2, 8, 32}) {
      if (k > experts) continue;
      for (const bool normalize : {true, false}) {
        const int64_t m = 37;
        std::vector<float> logits = normal(static_cast<size_t>(m * experts), 2);
        for (float& x : logits) {
          if (rng_() % 4 == 0) x = std::round(x);  // ties
          if (rng_() % 40 == 0) x = -std::numeric_limits<float>::infinity();
        }
        for (int32_t i = 0; i < experts; ++i)
          logits[static_cast<size_t>(i)] = i % 2 == 0 ? 0.0F : -0.0F;
        std::vector<int32_t> want(static_cast<size_t>(m * k));
        std::vector<float> want_weights(want.size());
        kernels::moe_route({.logits = logits.data(),
                            .m = m,
                            .num_experts = experts,
                            .k = k,
                            .normalize = normalize,
                            .indices = want.data(),
                            .weights = want_weights.data()},
                           cpu);
        const auto logits_dev = upload(logits);
        const DeviceArray<int32_t> indices(stream_, want.size());
        const DeviceArray<float> weights(stream_, want.size());
        moe_route({.logits = logits_dev.data(),
                   .m = m,
                   .logits_stride = experts,
                   .num_experts = experts,
                   .k = k,
                   .normalize = normalize,
                   .indices = indices.data(),
                   .weights = weights.data()},
                  stream_);
        ASSERT_EQ(indices.download(), want) << experts << " " << k;
        const std::vector<float> got = weights.download();
        for (size_t at = 0; at < got.size(); ++at) {
          if (std::isnan(want_weights[at])) continue;  // every expert at -inf
          // Two float32 exponentials, each within 2 ulp.
          ASSERT_NEAR(got[at], want_weights[at], want_weights[at] * 8 * 2 * kF32Half);
        }
      }
    }
  }
}

TEST_F(MoeCudaTest, RoutesBySigmoidsAsTheCpu) {
  struct Case {
    int32_t experts, groups, topk_groups, k;
  };
  ThreadPool pool(1);
  Stream cpu(Device{}, pool);
  rng_.seed(7);  // of choices that are closer than two exponentials, either is right
  for (const Case& c : {Case{256, 8, 4, 8}, Case{8, 4, 2, 3}, Case{6, 1, 1, 3}, Case{1, 1, 1, 1},
                        Case{384, 1, 1, 8}, Case{64, 32, 5, 8}}) {
    const int64_t m = 37;
    std::vector<float> logits = normal(static_cast<size_t>(m * c.experts), 2);
    logits[1 % logits.size()] = std::numeric_limits<float>::quiet_NaN();
    const std::vector<float> bias = normal(static_cast<size_t>(c.experts), 0.3F);
    for (const bool normalize : {true, false}) {
      std::vector<int32_t> want(static_cast<size_t>(m * c.k));
      std::vector<float> want_weights(want.size());
      kernels::moe_route({.logits = logits.data(),
                          .m = m,
                          .num_experts = c.experts,
                          .k = c.k,
                          .normalize = normalize,
                          .indices = want.data(),
                          .weights = want_weights.data(),
                          .sigmoid = true,
                          .bias = bias.data(),
                          .num_groups = c.groups,
                          .topk_groups = c.topk_groups,
                          .scale = 2.5F},
                         cpu);
      const auto logits_dev = upload(logits);
      const auto bias_dev = upload(bias);
      const DeviceArray<int32_t> indices(stream_, want.size());
      const DeviceArray<float> weights(stream_, want.size());
      moe_route({.logits = logits_dev.data(),
                 .m = m,
                 .logits_stride = c.experts,
                 .num_experts = c.experts,
                 .k = c.k,
                 .normalize = normalize,
                 .indices = indices.data(),
                 .weights = weights.data(),
                 .sigmoid = true,
                 .bias = bias_dev.data(),
                 .num_groups = c.groups,
                 .topk_groups = c.topk_groups,
                 .scale = 2.5F},
                stream_);
      ASSERT_EQ(indices.download(), want) << c.experts << " " << c.k;
      const std::vector<float> got = weights.download();
      for (size_t at = 0; at < got.size(); ++at) {
        if (std::isnan(want_weights[at])) continue;
        ASSERT_NEAR(got[at], want_weights[at], want_weights[at] * 8 * 2 * kF32Half);
      }
    }
  }
}

struct Sorted {
  std::vector<int32_t> offsets, slots;
};

Sorted sorted(const std::vector<int32_t>& indices, int32_t experts) {
  Sorted out;
  for (int32_t expert = 0; expert < experts; ++expert) {
    out.offsets.push_back(static_cast<int32_t>(out.slots.size()));
    for (size_t slot = 0; slot < indices.size(); ++slot) {
      if (indices[slot] == expert) out.slots.push_back(static_cast<int32_t>(slot));
    }
  }
  out.offsets.push_back(static_cast<int32_t>(out.slots.size()));
  return out;
}

TEST_F(MoeCudaTest, SortsStably) {
  for (const int32_t experts : {1, 7, 128, 1000}) {
    for (const size_t count : {1, 8, 1000, 5000}) {
      std::vector<int32_t> indices(count);
      for (int32_t& x : indices) x = static_cast<int32_t>(rng_() % static_cast<uint32_t>(experts));
      const Sorted want = sorted(indices, experts);
      const auto indices_dev = upload(indices);
      const DeviceArray<int32_t> offsets(stream_, static_cast<size_t>(experts) + 1);
      const DeviceArray<int32_t> slots(stream_, count);
      moe_sort({.indices = indices_dev.data(),
                .num_slots = static_cast<int64_t>(count),
                .num_experts = experts,
                .offsets = offsets.data(),
                .slots = slots.data()},
               stream_);
      ASSERT_EQ(offsets.download(), want.offsets);
      ASSERT_EQ(slots.download(), want.slots);
    }
  }
}

TEST_F(MoeCudaTest, GroupedGemmIsExactOnIntegers) {
  struct Case {
    int64_t rows;
    int32_t experts, k;
    int64_t n, width;
  };
  // The last three take the tiled kernel: more than 8 slots an expert.
  for (const Case& c :
       {Case{1, 8, 2, 64, 128}, Case{5, 16, 4, 200, 328}, Case{3, 4, 4, 24, 64},
        Case{40, 4, 2, 136, 200}, Case{300, 6, 2, 264, 320}, Case{260, 3, 1, 128, 64}}) {
    const size_t slots = static_cast<size_t>(c.rows) * static_cast<size_t>(c.k);
    std::vector<int32_t> indices;
    for (int64_t row = 0; row < c.rows; ++row) {  // distinct experts a row, the first one popular
      const auto base =
          static_cast<int32_t>(rng_() % 3 == 0 ? 0 : rng_() % static_cast<uint32_t>(c.experts));
      for (int32_t j = 0; j < c.k; ++j) indices.push_back((base + j) % c.experts);
    }
    const Sorted order = sorted(indices, c.experts);
    const auto offsets = upload(order.offsets);
    const auto slots_dev = upload(order.slots);
    for (const int32_t divisor : {c.k, 1}) {
      const int64_t x_rows = divisor == 1 ? static_cast<int64_t>(slots) : c.rows;
      const std::vector<float> x = integers(static_cast<size_t>(x_rows * c.width), 4);
      const std::vector<float> w = integers(static_cast<size_t>(c.experts * c.n * c.width), 4);
      const auto x_dev = upload(to_bf16(x));
      const auto w_dev = upload(to_bf16(w));
      const DeviceArray<float> y(stream_, slots * static_cast<size_t>(c.n));
      GroupedGemmParams params{.x = x_dev.data(),
                               .weight = w_dev.data(),
                               .y = y.data(),
                               .offsets = offsets.data(),
                               .slots = slots_dev.data(),
                               .num_slots = static_cast<int64_t>(slots),
                               .num_experts = c.experts,
                               .x_divisor = divisor,
                               .n = c.n,
                               .k = c.width,
                               .x_stride = c.width,
                               .y_stride = c.n,
                               .y_dtype = DType::kF32};
      grouped_gemm(params, stream_);
      const std::vector<float> got = y.download();
      for (const GemmRoute route : {GemmRoute::kDecode, GemmRoute::kLibrary}) {
        const DeviceArray<float> again(stream_, got.size());
        params.y = again.data();
        params.route = route;
        grouped_gemm(params, stream_);
        ASSERT_EQ(again.download(), got);
      }
      const DeviceArray<uint16_t> half(stream_, got.size());
      params.y = half.data();
      params.y_dtype = DType::kBF16;
      grouped_gemm(params, stream_);
      const std::vector<uint16_t> bits = half.download();
      for (size_t slot = 0; slot < slots; ++slot) {
        const float* row = &x[slot / static_cast<size_t>(divisor) * static_cast<size_t>(c.width)];
        for (int64_t col = 0; col < c.n; ++col) {
          const float* weight = &w[static_cast<size_t>((indices[slot] * c.n + col) * c.width)];
          double want = 0;
          for (int64_t i = 0; i < c.width; ++i) want += double{row[i]} * weight[i];
          const size_t at = slot * static_cast<size_t>(c.n) + static_cast<size_t>(col);
          ASSERT_EQ(got[at], static_cast<float>(want)) << c.rows << " slot " << slot << " " << col;
          ASSERT_EQ(bits[at], float_to_bf16(static_cast<float>(want)));
        }
      }
    }
  }
}

TEST_F(MoeCudaTest, CombineAddsInOrder) {
  const int64_t m = 11;
  const int64_t n = 328;
  const int32_t k = 3;
  const std::vector<float> y = rounded(normal(static_cast<size_t>(m * n * k)));
  const std::vector<float> weights = normal(static_cast<size_t>(m * k));
  const std::vector<float> old = normal(static_cast<size_t>(m * n));
  const auto y_dev = upload(to_bf16(y));
  const auto weights_dev = upload(weights);
  const auto out = upload(old);
  moe_combine({.y = y_dev.data(),
               .weights = weights_dev.data(),
               .out = out.data(),
               .m = m,
               .n = n,
               .k = k,
               .y_stride = n,
               .out_stride = n,
               .accumulate = true,
               .alpha = 0.25F},
              stream_);
  const std::vector<float> got = out.download();
  for (int64_t row = 0; row < m; ++row) {
    for (int64_t col = 0; col < n; ++col) {
      float sum = 0;
      for (int64_t j = 0; j < k; ++j) {
        sum = std::fma(weights[static_cast<size_t>(row * k + j)],
                       y[static_cast<size_t>((row * k + j) * n + col)], sum);
      }
      const auto at = static_cast<size_t>(row * n + col);
      ASSERT_EQ(got[at], std::fma(0.25F, sum, old[at]));
    }
  }
}

}  // namespace
}  // namespace foveal::kernels::cuda
