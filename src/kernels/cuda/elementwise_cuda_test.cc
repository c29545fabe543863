#include "kernels/cuda/elementwise.h"

#include <algorithm>
#include <set>

#include "kernels/cuda/dense_cuda_testing.h"
#include "kernels/cuda/dense_gemm.h"
#include "kernels/cuda/expand.h"
#include "kernels/reference/dequant.h"
#include "kernels/reference/elementwise.h"

namespace foveal::kernels::cuda {
namespace {

using namespace testing;

using ElementwiseCudaTest = CudaTest;

TEST_F(ElementwiseCudaTest, RmsNormToBf16) {
  for (const int64_t n : {8, 64, 576, 2048, 4096, 5120, 8192, 10240, 18432}) {
    for (const int64_t m : {1, 3, 37}) {
      const std::vector<float> x = normal(static_cast<size_t>(m * n), 3);
      const std::vector<float> w = normal(static_cast<size_t>(n));
      std::vector<float> unused(x.size());
      const std::vector<double> want = reference::rms_norm({.x = x.data(),
                                                            .y = unused.data(),
                                                            .weight = w.data(),
                                                            .m = m,
                                                            .n = n,
                                                            .x_stride = n,
                                                            .y_stride = n,
                                                            .eps = 1e-5F,
                                                            .weight_offset = 1});
      const auto x_dev = upload(x);
      const auto w_dev = upload(w);
      const DeviceArray<uint16_t> y(stream_, x.size());
      rms_norm({.x = x_dev.data(),
                .weight = w_dev.data(),
                .y = y.data(),
                .m = m,
                .n = n,
                .x_stride = n,
                .y_stride = n,
                .eps = 1e-5F,
                .weight_offset = 1},
               stream_);
      const std::vector<float> got = from_bf16(y.download());
      // One rounding to bf16, and a few of float32 (the sum of squares errs by log2 n of them).
      for (size_t at = 0; at < got.size(); ++at) {
        ASSERT_NEAR(got[at], want[at], std::abs(want[at]) * (kBf16Half + 32 * kF32Half) + 1e-30)
            << n << " " << at;
      }
    }
  }
}

TEST_F(ElementwiseCudaTest, RmsNormGathersAndAccumulates) {
  const int64_t n = 640;
  const std::vector<float> x = normal(7 * n);
  const std::vector<float> w = rounded(normal(n));
  const std::vector<int32_t> rows{6, 0, 3};
  const std::vector<float> old = normal(3 * n);
  std::vector<float> unused(x.size());
  const std::vector<double> normed = reference::rms_norm({.x = x.data(),
                                                          .y = unused.data(),
                                                          .weight = w.data(),
                                                          .m = 7,
                                                          .n = n,
                                                          .x_stride = n,
                                                          .y_stride = n,
                                                          .eps = 1e-6F});
  const auto x_dev = upload(x);
  const auto w_dev = upload(to_bf16(w));
  const auto rows_dev = upload(rows);
  const auto y = upload(old);
  rms_norm({.x = x_dev.data(),
            .rows = rows_dev.data(),
            .weight = w_dev.data(),
            .y = y.data(),
            .m = 3,
            .n = n,
            .x_stride = n,
            .y_stride = n,
            .eps = 1e-6F,
            .weight_dtype = DType::kBF16,
            .y_dtype = DType::kF32,
            .accumulate = true,
            .alpha = 0.5F},
           stream_);
  const std::vector<float> got = y.download();
  for (size_t row = 0; row < 3; ++row) {
    for (int64_t col = 0; col < n; ++col) {
      const size_t at = row * n + static_cast<size_t>(col);
      const double add = 0.5 * normed[static_cast<size_t>(rows[row] * n + col)];
      ASSERT_NEAR(got[at], old[at] + add, (std::abs(old[at]) + std::abs(add)) * 32 * kF32Half);
    }
  }
  EXPECT_THROW(rms_norm({.x = x_dev.data(),
                         .weight = w_dev.data(),
                         .y = y.data(),
                         .m = 3,
                         .n = n - 4,
                         .x_stride = n,
                         .y_stride = n},
                        stream_),
               Error);
  EXPECT_THROW(rms_norm({.x = x_dev.data() + 1,
                         .weight = w_dev.data(),
                         .y = y.data(),
                         .m = 3,
                         .n = n,
                         .x_stride = n,
                         .y_stride = n},
                        stream_),
               Error);
}

struct RopeCase {
  int32_t num_heads, num_kv_heads, head_dim, rotary_dim;
  RopeStyle style;
  bool norm;
  DType kv;
};

class RopeStoreCudaTest : public CudaTest, public ::testing::WithParamInterface<RopeCase> {};

TEST_P(RopeStoreCudaTest, RotatesAndStores) {
  const RopeCase& c = GetParam();
  constexpr int64_t kRows = 21;
  constexpr int32_t kPage = 16;
  constexpr int32_t kPages = 5;
  constexpr int64_t kPositions = 64;
  const int32_t heads = c.num_heads + 2 * c.num_kv_heads;
  const int64_t stride = int64_t{heads} * c.head_dim + 16;
  const std::vector<float> qkv = rounded(normal(static_cast<size_t>(kRows * stride)));
  const std::vector<float> q_norm = normal(static_cast<size_t>(c.head_dim));
  const std::vector<float> k_norm = normal(static_cast<size_t>(c.head_dim));
  const auto half = static_cast<size_t>(std::max(c.rotary_dim / 2, 8));
  std::vector<float> cosines(kPositions * half);
  std::vector<float> sines(kPositions * half);
  for (size_t at = 0; at < cosines.size(); ++at) {
    cosines[at] = static_cast<float>(std::cos(0.37 * static_cast<double>(at)));
    sines[at] = static_cast<float>(std::sin(0.37 * static_cast<double>(at)));
  }
  std::vector<int32_t> positions;
  std::vector<int64_t> slots;
  for (int64_t row = 0; row < kRows; ++row) {
    positions.push_back(static_cast<int32_t>(rng_() % kPositions));
    slots.push_back(row == 4 ? -1 : (row * 37 + 5) % (kPages * kPage));
  }
  ASSERT_EQ(std::set<int64_t>(slots.begin(), slots.end()).size(), slots.size());

  const auto qkv_dev = upload(to_bf16(qkv));
  const auto q_norm_dev = upload(q_norm);
  const auto k_norm_dev = upload(k_norm);
  const auto cos_dev = upload(cosines);
  const auto sin_dev = upload(sines);
  const auto positions_dev = upload(positions);
  const auto slots_dev = upload(slots);
  const int64_t head_stride = int64_t{kPage} * c.head_dim;
  const int64_t page_stride = head_stride * c.num_kv_heads;
  const size_t bytes = static_cast<size_t>(kPages * page_stride) * (c.kv == DType::kF8E4M3 ? 1 : 2);
  const DeviceArray<uint8_t> k_pages(stream_, bytes);
  const DeviceArray<uint8_t> v_pages(stream_, bytes);
  rope_store({.qkv = qkv_dev.data(),
              .m = kRows,
              .row_stride = stride,
              .num_heads = c.num_heads,
              .num_kv_heads = c.num_kv_heads,
              .head_dim = c.head_dim,
              .rotary_dim = c.rotary_dim,
              .style = c.style,
              .positions = positions_dev.data(),
              .cos_table = cos_dev.data(),
              .sin_table = sin_dev.data(),
              .q_norm = c.norm ? q_norm_dev.data() : nullptr,
              .k_norm = c.norm ? k_norm_dev.data() : nullptr,
              .norm_eps = 1e-6F,
              .slots = slots_dev.data(),
              .k_pages = k_pages.data(),
              .v_pages = v_pages.data(),
              .kv_dtype = c.kv,
              .page_size = kPage,
              .page_stride = page_stride,
              .head_stride = head_stride,
              .token_stride = c.head_dim,
              .k_scale = 0.5F,
              .v_scale = 2},
             stream_);
  const std::vector<float> q_got = from_bf16(qkv_dev.download());
  const std::vector<uint8_t> k_got = k_pages.download();
  const std::vector<uint8_t> v_got = v_pages.download();

  const auto stored = [&](const std::vector<uint8_t>& pages, int64_t at, float scale) {
    if (c.kv == DType::kF8E4M3) return e4m3_to_float(pages[static_cast<size_t>(at)]) * scale;
    uint16_t bits = 0;
    std::memcpy(&bits, &pages[static_cast<size_t>(at) * 2], 2);
    return c.kv == DType::kBF16 ? bf16_to_float(bits) : f16_to_float(bits);
  };
  const double ulp = c.kv == DType::kF8E4M3 ? 0x1p-4 : c.kv == DType::kBF16 ? kBf16Half : kF16Half;
  for (int64_t row = 0; row < kRows; ++row) {
    for (int32_t head = 0; head < heads; ++head) {
      const bool is_v = head >= c.num_heads + c.num_kv_heads;
      const bool is_q = head < c.num_heads;
      std::vector<float> x(static_cast<size_t>(c.head_dim));
      for (int32_t d = 0; d < c.head_dim; ++d) {
        x[static_cast<size_t>(d)] = qkv[static_cast<size_t>(row * stride + head * c.head_dim + d)];
      }
      std::vector<double> want(x.begin(), x.end());
      if (!is_v && c.norm) {
        const std::vector<float>& w = is_q ? q_norm : k_norm;
        want = reference::rms_norm({.x = x.data(),
                                    .y = x.data(),
                                    .weight = w.data(),
                                    .m = 1,
                                    .n = c.head_dim,
                                    .x_stride = c.head_dim,
                                    .y_stride = c.head_dim,
                                    .eps = 1e-6F});
        std::copy(want.begin(), want.end(), x.begin());
      }
      if (!is_v && c.rotary_dim > 0) {
        want = reference::rope({.x = x.data(),
                                .m = 1,
                                .x_stride = c.head_dim,
                                .num_heads = 1,
                                .head_dim = c.head_dim,
                                .rotary_dim = c.rotary_dim,
                                .positions = &positions[static_cast<size_t>(row)],
                                .cos_table = cosines.data(),
                                .sin_table = sines.data(),
                                .style = c.style});
      }
      double size = 0;  // a rotated pair cancels: errors follow its size, not the result's
      for (const float value : x) size = std::max(size, std::abs(double{value}));
      for (int32_t d = 0; d < c.head_dim; ++d) {
        const double expected = want[static_cast<size_t>(d)];
        const double slack = size * 16 * kF32Half;
        if (is_q) {
          ASSERT_NEAR(q_got[static_cast<size_t>(row * stride + head * c.head_dim + d)], expected,
                      std::abs(expected) * kBf16Half + slack)
              << row << " " << head << " " << d;
          continue;
        }
        const int64_t slot = slots[static_cast<size_t>(row)];
        if (slot < 0) continue;
        const int64_t kv_head = (head - c.num_heads) % c.num_kv_heads;
        const int64_t at =
            slot / kPage * page_stride + kv_head * head_stride + slot % kPage * c.head_dim + d;
        const float scale = is_v ? 2 : 0.5F;
        const double smallest = c.kv == DType::kF8E4M3 ? 0x1p-10 * scale : 0x1p-25;
        ASSERT_NEAR(stored(is_v ? v_got : k_got, at, scale), expected,
                    std::abs(expected) * ulp * (1 + 0x1p-6) + slack + smallest)
            << row << " " << head << " " << d;
      }
    }
  }
  // Nothing was written for the row without a slot: as many 0xff bytes as untouched slots.
  const auto touched = static_cast<size_t>(kRows - 1) * static_cast<size_t>(c.num_kv_heads) *
                       static_cast<size_t>(c.head_dim) * (c.kv == DType::kF8E4M3 ? 1 : 2);
  const auto untouched = static_cast<size_t>(std::count(k_got.begin(), k_got.end(), 0xff));
  EXPECT_GE(untouched, bytes - touched);
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, RopeStoreCudaTest,
    ::testing::Values(RopeCase{32, 8, 128, 128, RopeStyle::kHalf, false, DType::kBF16},
                      RopeCase{32, 8, 128, 128, RopeStyle::kInterleaved, false, DType::kF16},
                      RopeCase{9, 3, 64, 64, RopeStyle::kInterleaved, false, DType::kBF16},
                      RopeCase{14, 2, 64, 32, RopeStyle::kHalf, false, DType::kF8E4M3},
                      RopeCase{16, 4, 128, 128, RopeStyle::kHalf, true, DType::kBF16},
                      RopeCase{4, 1, 256, 256, RopeStyle::kHalf, true, DType::kF8E4M3},
                      RopeCase{5, 5, 96, 96, RopeStyle::kHalf, true, DType::kBF16},
                      RopeCase{3, 1, 192, 64, RopeStyle::kInterleaved, true, DType::kF16},
                      RopeCase{7, 7, 80, 0, RopeStyle::kHalf, false, DType::kBF16},
                      RopeCase{2, 1, 40, 32, RopeStyle::kHalf, true, DType::kBF16}));

TEST_F(ElementwiseCudaTest, FillSlots) {
  const std::vector<int32_t> cu_q{0, 3, 3, 8};
  const std::vector<int32_t> kv_len{20, 7, 37};
  const std::vector<int32_t> table{4, 2, -1, 9, 9, 9, 7, -1, 5};
  const auto cu_q_dev = upload(cu_q);
  const auto kv_len_dev = upload(kv_len);
  const auto table_dev = upload(table);
  const DeviceArray<int64_t> slots(stream_, 8);
  const DeviceArray<int32_t> positions(stream_, 8);
  fill_slots({.cu_q = cu_q_dev.data(),
              .kv_len = kv_len_dev.data(),
              .page_table = table_dev.data(),
              .page_table_stride = 3,
              .num_seqs = 3,
              .num_rows = 8,
              .page_size = 16,
              .slots = slots.data(),
              .positions = positions.data()},
             stream_);
  EXPECT_EQ(positions.download(), (std::vector<int32_t>{17, 18, 19, 32, 33, 34, 35, 36}));
  EXPECT_EQ(slots.download(), (std::vector<int64_t>{33, 34, 35, 80, 81, 82, 83, 84}));
  const DeviceArray<int64_t> decode(stream_, 3);
  fill_slots({.kv_len = kv_len_dev.data(),
              .page_table = table_dev.data(),
              .page_table_stride = 3,
              .num_seqs = 3,
              .num_rows = 3,
              .page_size = 16,
              .slots = decode.data(),
              .positions = positions.data()},
             stream_);
  EXPECT_EQ(decode.download(), (std::vector<int64_t>{35, 9 * 16 + 6, 84}));
}

TEST_F(ElementwiseCudaTest, ActMul) {
  for (const Activation act : {Activation::kSilu, Activation::kGeluTanh, Activation::kGeluErf}) {
    for (const int64_t m : {1, 5, 300}) {
      const int64_t n = 1496;
      const std::vector<float> x = rounded(normal(static_cast<size_t>(2 * m * n), 3));
      const auto x_dev = upload(to_bf16(x));
      const DeviceArray<uint16_t> y(stream_, static_cast<size_t>(m * n));
      act_mul({.gate_up = x_dev.data(),
               .y = y.data(),
               .m = m,
               .n = n,
               .x_stride = 2 * n,
               .y_stride = n,
               .act = act},
              stream_);
      const std::vector<float> got = from_bf16(y.download());
      for (int64_t at = 0; at < m * n; ++at) {
        const auto gate = static_cast<size_t>(at / n * 2 * n + at % n);
        const double want = reference::activation(x[gate], act) * x[gate + static_cast<size_t>(n)];
        // The error of exp (2 ulp) is relative in 1 + e^-x; erfc's is absolute far from 0.
        ASSERT_NEAR(got[static_cast<size_t>(at)], want,
                    std::abs(want) * (kBf16Half + 0x1p-15) + 1e-6);
      }
    }
  }
}

TEST_F(ElementwiseCudaTest, EmbedGatherScaleAdd) {
  const int64_t n = 264;
  const std::vector<float> table = rounded(normal(11 * n));
  const std::vector<int32_t> ids{10, 0, 3, 11, -1, 3};
  const auto table_dev = upload(to_bf16(table));
  const auto ids_dev = upload(ids);
  const DeviceArray<float> y(stream_, ids.size() * n);
  embed({.table = table_dev.data(),
         .ids = ids_dev.data(),
         .y = y.data(),
         .m = 6,
         .n = n,
         .vocab = 11,
         .alpha = 2.5F},
        stream_);
  const std::vector<float> embedded = y.download();
  for (size_t row = 0; row < ids.size(); ++row) {
    for (size_t col = 0; col < n; ++col) {
      const bool known = ids[row] >= 0 && ids[row] < 11;
      ASSERT_EQ(embedded[row * n + col],
                known ? table[static_cast<size_t>(ids[row]) * n + col] * 2.5F : 0.0F);
    }
  }
  const std::vector<int32_t> rows{5, 0, 5};
  const auto rows_dev = upload(rows);
  const DeviceArray<float> gathered(stream_, 3 * n);
  gather_rows(y.data(), rows_dev.data(), gathered.data(), 3, n * 4, stream_);
  const std::vector<float> picked = gathered.download();
  for (size_t at = 0; at < picked.size(); ++at) {
    ASSERT_EQ(picked[at], embedded[static_cast<size_t>(rows[at / n]) * n + at % n]);
  }
  for (const int64_t count : {1, 3, 4, 1001, 300007}) {
    const std::vector<float> a = normal(static_cast<size_t>(count), 30);
    const std::vector<float> b = normal(static_cast<size_t>(count));
    const auto a_dev = upload(a);
    const auto b_dev = upload(b);
    add_scaled(a_dev.data(), 0.3F, b_dev.data(), count, stream_);
    scale_softcap(a_dev.data(), 0.5F, 20.0F, count, stream_);
    const std::vector<float> added = b_dev.download();
    const std::vector<float> capped = a_dev.download();
    for (size_t at = 0; at < a.size(); ++at) {
      ASSERT_EQ(added[at], std::fma(0.3F, a[at], b[at]));
      ASSERT_NEAR(capped[at], 20 * std::tanh(0.5 * a[at] / 20), 20 * 8 * kF32Half);
    }
    scale_softcap(a_dev.data(), 2.0F, 0.0F, count, stream_);
    ASSERT_EQ(a_dev.download()[0], capped[0] * 2);
  }
}

TEST_F(ElementwiseCudaTest, ZeroPages) {
  const std::vector<int32_t> pages{3, -1, 0};
  const auto pages_dev = upload(pages);
  const DeviceArray<uint8_t> pool(stream_, 5 * 4096);
  zero_pages(pool.data(), 4096, pages_dev.data(), 3, stream_);
  const std::vector<uint8_t> got = pool.download();
  for (size_t at = 0; at < got.size(); ++at) {
    ASSERT_EQ(got[at], at / 4096 == 3 || at / 4096 == 0 ? 0 : 0xff) << at;
  }
}

TEST_F(ElementwiseCudaTest, FillNormal) {
  constexpr size_t kCount = 1000003;
  const DeviceArray<uint16_t> y(stream_, kCount);
  fill_normal(y.data(), kCount, 7, 0.02F, stream_);
  const std::vector<uint16_t> first = y.download();
  double sum = 0;
  double squares = 0;
  for (const float x : from_bf16(first)) {
    ASSERT_LT(std::abs(x), 0.02F * 6.5F);
    sum += x;
    squares += double{x} * x;
  }
  // Five deviations of a mean and of a variance of a million draws.
  EXPECT_NEAR(sum / kCount, 0, 5 * 0.02 / 1000);
  EXPECT_NEAR(std::sqrt(squares / kCount), 0.02, 5 * 0.02 / 1414);
  fill_normal(y.data(), kCount - 5, 7, 0.02F, stream_);
  EXPECT_EQ(y.download(), first);
  fill_normal(y.data(), kCount, 8, 0.02F, stream_);
  EXPECT_NE(y.download(), first);
}

TEST_F(ElementwiseCudaTest, ExpandHasTheReferencesBits) {
  for (const DType dtype :
       {DType::kF32, DType::kF16, DType::kBF16, DType::kQ4_0, DType::kQ4_1, DType::kQ5_0,
        DType::kQ5_1, DType::kQ8_0, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K}) {
    const int64_t rows = 13;
    const int64_t cols = 768;
    const int64_t bytes = *row_bytes(dtype, cols);
    std::vector<uint8_t> stored(static_cast<size_t>(rows * bytes));
    for (uint8_t& byte : stored) byte = static_cast<uint8_t>(rng_());
    const auto stored_dev = upload(stored);
    const int64_t stride = cols + 8;
    const DeviceArray<uint16_t> y(stream_, static_cast<size_t>(rows * stride));
    expand({.stored = stored_dev.data(),
            .dtype = dtype,
            .y = y.data(),
            .rows = rows,
            .cols = cols,
            .y_stride = stride},
           stream_);
    const std::vector<uint16_t> got = y.download();
    const WeightView view{reinterpret_cast<const std::byte*>(stored.data()), dtype, rows, cols,
                          bytes};
    for (int64_t row = 0; row < rows; ++row) {
      const std::vector<float> want = reference::dequantize_row(view, row);
      for (int64_t col = 0; col < cols; ++col) {
        const float value = want[static_cast<size_t>(col)];
        const uint16_t bits = got[static_cast<size_t>(row * stride + col)];
        if (std::isnan(value)) {
          ASSERT_TRUE(std::isnan(bf16_to_float(bits)));
        } else {
          ASSERT_EQ(bits, float_to_bf16(value)) << dtype_name(dtype) << " " << row << " " << col;
        }
      }
    }
  }
}

TEST_F(ElementwiseCudaTest, QuantizeBlocks) {
  const int64_t m = 5;
  const int64_t k = 384;
  std::vector<float> x = rounded(normal(static_cast<size_t>(m * k), 7));
  std::fill_n(x.begin() + 128, 128, 0.0F);
  const auto x_dev = upload(to_bf16(x));
  const DeviceArray<uint8_t> y(stream_, static_cast<size_t>(m * k));
  const DeviceArray<float> scales(stream_, 3 * 8);
  quantize_e4m3_blocks({.x = x_dev.data(),
                        .y = y.data(),
                        .scale = scales.data(),
                        .m = m,
                        .k = k,
                        .x_stride = k,
                        .y_stride = k,
                        .scale_stride = 8},
                       stream_);
  const std::vector<uint8_t> got = y.download();
  const std::vector<float> scale = scales.download();
  for (int64_t row = 0; row < m; ++row) {
    for (int64_t block = 0; block < 3; ++block) {
      float most = 0;
      for (int64_t col = block * 128; col < block * 128 + 128; ++col) {
        most = std::max(most, std::abs(x[static_cast<size_t>(row * k + col)]));
      }
      const float own = scale[static_cast<size_t>(block * 8 + row)];
      ASSERT_EQ(own, most > 0 ? most / 448 : 1.0F);
      for (int64_t col = block * 128; col < block * 128 + 128; ++col) {
        const auto at = static_cast<size_t>(row * k + col);
        ASSERT_NEAR(e4m3_to_float(got[at]) * own, x[at],
                    std::abs(x[at]) * 0x1p-4 * (1 + 0x1p-6) + own * 0x1p-10);
      }
    }
  }
}

}  // namespace
}  // namespace foveal::kernels::cuda
