#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "kernels/cuda/latent.h"

// What is settled before a GPU is asked: these run anywhere.

namespace foveal::kernels::cuda {
namespace {

using Params = foveal_mla_params;

/// A good call; the addresses are never followed.
Params good() {
  Params p{};
  alignas(16) static int32_t somewhere[4];
  p.struct_size = sizeof(p);
  p.num_rows = 4;
  p.num_heads = 128;
  p.max_keys = 2048;
  p.q = somewhere;
  p.out = somewhere;
  p.q_head_stride = 576;
  p.q_row_stride = int64_t{128} * 576;
  p.out_head_stride = 512;
  p.out_row_stride = int64_t{128} * 512;
  p.cache = {.data = somewhere,
             .page_bytes = int64_t{64} * 656,
             .dtype = FOVEAL_E4M3,
             .page_size = 64,
             .num_pages = 100};
  p.indices = somewhere;
  p.indices_stride = 2048;
  p.softmax_scale = 0.1F;
  return p;
}

std::string refusal(const std::function<void(Params&)>& spoil) {
  Params p = good();
  spoil(p);
  char message[500] = "untouched";
  EXPECT_NE(foveal_mla_attention(&p, nullptr, message, sizeof(message)), FOVEAL_OK);
  return message;
}

void expect_named(const std::string& field, const std::function<void(Params&)>& spoil) {
  const std::string message = refusal(spoil);
  EXPECT_NE(message.find(field), std::string::npos) << message;
}

TEST(MlaCheck, AGoodCallPasses) {
  EXPECT_NO_THROW(mla_check(good()));
  EXPECT_GE(mla_splits(good(), 132), 1);
}

TEST(MlaCheck, RefusalsNameTheField) {
  expect_named("struct_size 8", [](Params& p) { p.struct_size = 8; });
  expect_named("num_rows 0", [](Params& p) { p.num_rows = 0; });
  expect_named("2000 heads", [](Params& p) { p.num_heads = 2000; });
  expect_named("splits 65", [](Params& p) { p.splits = 65; });
  expect_named("flags 0x8", [](Params& p) { p.flags = 8; });
  expect_named("cache.dtype 1", [](Params& p) { p.cache.dtype = FOVEAL_F16; });
  expect_named("cache.page_size 0", [](Params& p) { p.cache.page_size = 0; });
  expect_named("cache.page_bytes 41968", [](Params& p) { p.cache.page_bytes -= 16; });
  expect_named("2^31 tokens", [](Params& p) { p.cache.num_pages = 1 << 26; });
  expect_named("cache.data", [](Params& p) { p.cache.data = nullptr; });
  expect_named("q_head_stride 512", [](Params& p) { p.q_head_stride = 512; });
  expect_named("out_row_stride 4", [](Params& p) { p.out_row_stride = 4; });
  expect_named("indices_stride 2000", [](Params& p) { p.indices_stride = 2000; });
  expect_named("softmax_scale", [](Params& p) { p.softmax_scale = 0; });
}

TEST(MlaCheck, ListsAndTablesGoTogether) {
  expect_named("page_table", [](Params& p) { p.indices = nullptr; });
  expect_named("page_table", [](Params& p) { p.flags = FOVEAL_MLA_LOCAL; });
  expect_named("lists of slots", [](Params& p) { p.page_table = p.indices; });
}

TEST(MlaCheck, SplitsFillTheGpuAndNoMore) {
  Params p = good();
  p.num_rows = 1;
  EXPECT_GE(mla_splits(p, 132), 8);
  p.num_rows = 4096;
  EXPECT_EQ(mla_splits(p, 132), 1);
  p.splits = 7;
  EXPECT_EQ(mla_splits(p, 132), 7);
}

TEST(MlaCheck, FixedSplitsKnowNoOtherRows) {
  Params p = good();
  p.flags = FOVEAL_MLA_FIXED_SPLITS;
  for (const int32_t rows : {1, 32, 4096}) {
    p.num_rows = rows;
    EXPECT_EQ(mla_splits(p, 132), 4) << rows;  // of 2,048 keys
  }
  p.max_keys = 1;
  EXPECT_EQ(mla_splits(p, 132), 2);  // one would be another way to the output
  p.max_keys = 1 << 20;
  EXPECT_EQ(mla_splits(p, 132), 64);
  expect_named("splits 3", [](Params& params) {
    params.flags = FOVEAL_MLA_FIXED_SPLITS;
    params.splits = 3;
  });
}

TEST(MlaCheck, TheOtherEntriesRefuseToo) {
  char message[500];
  foveal_mla_rows_params rows{};
  rows.struct_size = sizeof(rows);
  EXPECT_EQ(foveal_mla_rows(&rows, nullptr, message, sizeof(message)), FOVEAL_INVALID_ARGUMENT);
  EXPECT_NE(std::string(message).find("num_seqs 0"), std::string::npos);
  foveal_mla_store_params store{};
  store.struct_size = sizeof(store);
  store.num_rows = 1;
  store.cache = good().cache;
  EXPECT_EQ(foveal_mla_store(&store, nullptr, message, sizeof(message)), FOVEAL_INVALID_ARGUMENT);
  EXPECT_NE(std::string(message).find("latent"), std::string::npos);
}

}  // namespace
}  // namespace foveal::kernels::cuda
