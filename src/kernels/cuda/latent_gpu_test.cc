#include "kernels/cuda/latent_testing.h"

namespace foveal::kernels::cuda::testing {
namespace {

TEST_F(MlaTest, OneTile) {
  for (const bool e4m3 : {false, true}) {
    expect_right({.counts = {48}, .e4m3 = e4m3, .splits = 1});
    expect_right({.counts = {1}, .e4m3 = e4m3, .splits = 1});
    expect_right({.counts = {47}, .e4m3 = e4m3, .splits = 1});
  }
}

TEST_F(MlaTest, ListsOfSlotsOfAnyLength) {
  for (const bool e4m3 : {false, true}) {
    for (const int32_t splits : {1, 3, 0}) {
      expect_right({.counts = {300, 0, 1, 49, 96, 97, 512, 144},
                    .e4m3 = e4m3,
                    .splits = splits,
                    .none_every = 7});
    }
  }
}

TEST_F(MlaTest, HeadsOfAnyNumber) {
  for (const bool e4m3 : {false, true}) {
    for (const int32_t heads : {1, 8, 16, 32, 65, 128}) {
      expect_right({.counts = {200, 130}, .heads = heads, .e4m3 = e4m3, .splits = heads % 3 + 1});
    }
  }
}

TEST_F(MlaTest, SeveralTilesOfHeads) {
  for (const int32_t heads : {128, 192, 256}) {
    for (const int32_t splits : {1, 3, 0}) {
      expect_right({.counts = {300, 0, 1, 23, 24, 25, 49, 96, 97, 512, 144},
                    .heads = heads,
                    .e4m3 = true,
                    .page_size = 61,
                    .local = splits == 3,
                    .page_gap = 48,
                    .splits = splits,
                    .none_every = heads / 64 + 3});
    }
  }
  expect_right(
      {.counts = {900, 500}, .heads = 100, .e4m3 = true, .splits = 1, .key_growth = 0.004F});
}

// Each way in which parts are joined, and rows with fewer tiles than splits.
TEST_F(MlaTest, PartsOfAnyNumber) {
  for (const int32_t splits : {2, 8, 9, 16, 17, 32, 33, 64}) {
    expect_right({.counts = {3100, 700, 40, 0}, .heads = 20, .e4m3 = true, .splits = splits});
  }
}

// Rows of one and of many parts beside longer and shorter ones; with 1,024 heads in two launches.
TEST_F(MlaTest, FixedSplitsGiveARowTheSameBitsInAnyCall) {
  std::vector<int32_t> batch = {1100, 0, 1, 48, 528, 529, 700};
  batch.resize(32, 200);
  for (const bool e4m3 : {false, true}) {
    const MlaCase named = {.counts = {5000, 2048, 1057, 528, 0, 300},
                           .heads = 20,
                           .e4m3 = e4m3,
                           .page_size = 61,
                           .local = true,
                           .none_every = 7,
                           .fixed = true};
    expect_same_alone(named, 6);
    expect_same_alone({.counts = batch, .e4m3 = e4m3, .listed = false, .fixed = true}, 7);
    batch.resize(12);
    expect_same_alone({.counts = batch, .heads = 1024, .e4m3 = e4m3, .fixed = true}, 3);
    batch.resize(32, 200);
  }
}

TEST_F(MlaTest, TokensThroughAPageTable) {
  for (const bool e4m3 : {false, true}) {
    for (const int32_t page_size : {64, 16, 61, 1}) {
      expect_right({.counts = {150, 70, 3},
                    .heads = 16,
                    .e4m3 = e4m3,
                    .page_size = page_size,
                    .local = true,
                    .page_gap = page_size == 61 ? 48 : 0});
      expect_right({.counts = {150, 70, 3},
                    .heads = 16,
                    .e4m3 = e4m3,
                    .page_size = page_size,
                    .page_gap = 4096});
    }
  }
}

TEST_F(MlaTest, AllKeys) {
  for (const bool e4m3 : {false, true}) {
    expect_right({.counts = {1000, 1, 0, 333}, .e4m3 = e4m3, .listed = false});
    expect_right({.counts = {700, 48},
                  .heads = 128,
                  .e4m3 = e4m3,
                  .page_size = 16,
                  .listed = false,
                  .splits = 5});
  }
}

TEST_F(MlaTest, TheMaximumMovesOn) {
  for (const bool e4m3 : {false, true}) {
    expect_right(
        {.counts = {900, 500}, .e4m3 = e4m3, .listed = false, .splits = 1, .key_growth = 0.004F});
    expect_right({.counts = {900, 500}, .e4m3 = e4m3, .splits = 4, .key_growth = 0.004F});
  }
}

TEST_F(MlaTest, MoreItemsThanProcessors) {
  for (const bool e4m3 : {false, true}) {
    std::vector<int32_t> counts;
    for (int32_t i = 0; i < 150; ++i) counts.push_back(i % 11 == 3 ? 0 : i * 37 % 210);
    expect_right({.counts = counts, .heads = 128, .e4m3 = e4m3, .splits = 1});
    expect_right({.counts = counts, .heads = 64, .e4m3 = e4m3, .splits = 3});
  }
}

TEST_F(MlaTest, NothingButNone) {
  expect_right({.counts = {100, 40}, .splits = 1, .none_every = 1});
  expect_right({.counts = {100, 40}, .e4m3 = true, .splits = 2, .none_every = 1});
}

TEST_F(MlaTest, TheSameBitsEachTime) {
  for (const bool e4m3 : {false, true}) {
    make({.counts = std::vector<int32_t>(40, 700),
          .heads = 128,
          .e4m3 = e4m3,
          .key_growth = 0.001F});
    const Result first = run();
    for (int i = 0; i < 5; ++i) {
      const Result again = run();
      ASSERT_EQ(again.out, first.out);
      ASSERT_EQ(again.lse, first.lse);
    }
  }
}

// One to three rows over 193 keys or more take clusters: shares with and without all their tiles.
TEST_F(MlaTest, FewRowsByClusters) {
  for (const bool e4m3 : {false, true}) {
    for (const int32_t heads : {16, 100, 128}) {
      expect_right({.counts = {2048}, .heads = heads, .e4m3 = e4m3, .none_every = 7});
      expect_right({.counts = {500, 0, 1},
                    .heads = heads,
                    .e4m3 = e4m3,
                    .page_size = 61,
                    .local = true,
                    .page_gap = 48});
    }
    for (const int32_t count : {193, 240, 384, 385, 1000}) {
      expect_right({.counts = {count, 190}, .e4m3 = e4m3});
    }
    expect_right({.counts = {700, 300}, .e4m3 = e4m3, .listed = false, .key_growth = 0.004F});
    expect_right({.counts = {300}, .e4m3 = e4m3, .none_every = 1});
  }
}

TEST_F(MlaTest, ClustersGiveTheSameBitsEachTime) {
  for (const bool e4m3 : {false, true}) {
    make({.counts = {2048}, .heads = 128, .e4m3 = e4m3, .key_growth = 0.0005F});
    const Result first = run();
    for (int i = 0; i < 20; ++i) {
      const Result again = run();
      ASSERT_EQ(again.out, first.out);
      ASSERT_EQ(again.lse, first.lse);
    }
  }
}

TEST_F(MlaTest, RowsOfOtherSizes) {
  constexpr LatentDims kSizes[] = {{8, 16}, {64, 16}, {256, 64}, {504, 32}, {896, 256}};
  for (const LatentDims& dims : kSizes) {
    expect_right({.counts = {300, 0, 1, 31, 32, 33, 64},
                  .heads = 3,
                  .local = true,
                  .none_every = 7,
                  .dims = dims});
    expect_right({.counts = {200, 1, 0, 97},
                  .heads = 17,
                  .page_size = 61,
                  .listed = false,
                  .page_gap = 48,
                  .key_growth = 0.004F,
                  .dims = dims});
    expect_right({.counts = {100, 40}, .heads = 8, .local = true, .none_every = 1, .dims = dims});
  }
}

TEST_F(MlaTest, RowsOfOtherSizesGiveTheSameBitsEachTime) {
  make({.counts = std::vector<int32_t>(300, 500), .heads = 9, .listed = false, .dims = {256, 64}});
  const Result first = run();
  for (int i = 0; i < 3; ++i) ASSERT_EQ(run().out, first.out);
}

TEST_F(MlaTest, RefusesRowsThatNoKernelServes) {
  for (const LatentDims& dims : {LatentDims{60, 64}, {904, 64}, {256, 8}, {256, 272}, {0, 64}}) {
    EXPECT_THROW(check_latent_dims(dims), Error) << dims.rank << " " << dims.rope;
  }
  check_latent_dims({512, 64});
}

class MlaStoreTest : public CudaTest {};

TEST_F(MlaStoreTest, RowsOfOtherSizes) {
  constexpr int32_t kRows = 9;
  constexpr int32_t kPage = 4;
  constexpr int32_t kPages = 4;
  for (const LatentDims& dims : {LatentDims{64, 16}, {896, 256}}) {
    const int32_t width = dims.width();
    const std::vector<uint16_t> values = to_bf16(normal(static_cast<size_t>(kRows) * width));
    std::vector<int32_t> slots(kRows);
    std::iota(slots.begin(), slots.end(), 5);
    slots[2] = -1;
    const int64_t page_bytes = int64_t{kPage} * width * 2 + 16;
    std::vector<uint8_t> want(static_cast<size_t>(page_bytes * kPages), 0x5a);
    const DeviceArray<uint8_t> cache = upload(want);
    const DeviceArray<uint16_t> rows = upload(values);
    const DeviceArray<int32_t> to = upload(slots);
    foveal_mla_store_params p{};
    p.num_rows = kRows;
    p.latent = rows.data();
    p.rope = rows.data() + dims.rank;
    p.latent_stride = p.rope_stride = width;
    p.slots = to.data();
    p.cache = {cache.data(), page_bytes, FOVEAL_BF16, kPage, kPages};
    latent_any_store(p, dims, stream_.native());
    for (int32_t row = 0; row < kRows; ++row) {
      const int32_t slot = slots[static_cast<size_t>(row)];
      if (slot < 0) continue;
      std::memcpy(&want[static_cast<size_t>(slot / kPage * page_bytes + slot % kPage * width * 2)],
                  &values[static_cast<size_t>(row) * width], static_cast<size_t>(width) * 2);
    }
    EXPECT_EQ(cache.download(), want) << width;
  }
}

TEST_F(MlaStoreTest, RowsAsTheyAreOrRounded) {
  constexpr int32_t kRows = 37;
  constexpr int32_t kPage = 16;
  constexpr int32_t kPages = 5;
  std::vector<float> values = rounded(normal(static_cast<size_t>(kRows) * kDim, 2));
  for (int32_t i = 0; i < kDim; ++i) values[static_cast<size_t>(i)] = 0;  // no amax
  for (size_t i = 0; i < 128; ++i) values[kDim + i] = i % 2 == 0 ? 448 : -1;
  std::vector<int32_t> slots(kRows);
  std::iota(slots.begin(), slots.end(), 20);
  slots[5] = -1;
  slots[6] = kPage * kPages;  // outside
  const DeviceArray<uint16_t> rows = upload(to_bf16(values));
  const DeviceArray<int32_t> to = upload(slots);
  for (const bool e4m3 : {false, true}) {
    const int32_t row_bytes = e4m3 ? FOVEAL_MLA_FP8_ROW : kDim * 2;
    const int64_t page_bytes = int64_t{kPage} * row_bytes + 32;
    std::vector<uint8_t> want(static_cast<size_t>(page_bytes * kPages), 0x5a);
    const DeviceArray<uint8_t> cache = upload(want);
    foveal_mla_store_params p{};
    p.struct_size = sizeof(p);
    p.num_rows = kRows;
    p.latent = rows.data();
    p.latent_stride = p.rope_stride = kDim;
    p.rope = rows.data() + kValue;
    p.slots = to.data();
    p.cache = {cache.data(), page_bytes, e4m3 ? FOVEAL_E4M3 : FOVEAL_BF16, kPage, kPages};
    mla_store(p, stream_.native());
    for (int32_t row = 0; row < kRows; ++row) {
      const int32_t slot = slots[static_cast<size_t>(row)];
      if (slot < 0 || slot >= kPage * kPages) continue;
      uint8_t* at =
          &want[static_cast<size_t>(slot / kPage * page_bytes + slot % kPage * row_bytes)];
      const float* x = &values[static_cast<size_t>(row) * kDim];
      for (int32_t group = 0; e4m3 && group < 4; ++group) {
        float most = 1e-4F * 448;
        for (int32_t i = 0; i < 128; ++i) most = std::max(most, std::fabs(x[group * 128 + i]));
        const float scale = std::exp2(std::ceil(std::log2(most / 448)));
        std::memcpy(at + kValue + group * 4, &scale, 4);
        for (int32_t i = 0; i < 128; ++i) {
          at[group * 128 + i] = float_to_e4m3(x[group * 128 + i] / scale);
        }
      }
      for (int32_t i = e4m3 ? kValue : 0; i < kDim; ++i) {
        const uint16_t bits = float_to_bf16(x[i]);
        std::memcpy(at + (e4m3 ? kValue + 16 + (i - kValue) * 2 : i * 2), &bits, 2);
      }
    }
    EXPECT_EQ(cache.download(), want) << "e4m3 " << e4m3;
  }
}

TEST_F(MlaStoreTest, RowsOfARaggedBatch) {
  const DeviceArray<int32_t> cu_q = upload(std::vector<int32_t>{0, 3, 3, 4, 9});
  const DeviceArray<int32_t> kv_len = upload(std::vector<int32_t>{10, 7, 1, 5});
  const DeviceArray<int32_t> counts(stream_, 11);
  const DeviceArray<int32_t> row_seq(stream_, 11);
  foveal_mla_rows_params p{};
  p.struct_size = sizeof(p);
  p.num_seqs = 4;
  p.num_rows = 11;
  p.cu_q = cu_q.data();
  p.kv_len = kv_len.data();
  p.counts = counts.data();
  p.row_seq = row_seq.data();
  mla_rows(p, stream_.native());
  EXPECT_EQ(counts.download(), (std::vector<int32_t>{8, 9, 10, 1, 1, 2, 3, 4, 5, 0, 0}));
  EXPECT_EQ(row_seq.download(), (std::vector<int32_t>{0, 0, 0, 2, 3, 3, 3, 3, 3, 0, 0}));
  p.cu_q = nullptr;
  mla_rows(p, stream_.native());
  EXPECT_EQ(counts.download(), (std::vector<int32_t>{10, 7, 1, 5, 0, 0, 0, 0, 0, 0, 0}));
}

}  // namespace
}  // namespace foveal::kernels::cuda::testing
