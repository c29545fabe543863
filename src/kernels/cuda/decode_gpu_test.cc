#include <gtest/gtest.h>

#include <random>
#include <utility>

#include "kernels/cuda/decode_testing.h"

namespace foveal::kernels::cuda::testing {
namespace {

void expect_right(const DecodeCase& what) {
  DecodeFixture fixture(what);
  const DecodeOutput first = fixture.run();
  EXPECT_EQ(differences(fixture, first), "");
  const DecodeOutput second = fixture.run();
  EXPECT_EQ(first.bits, second.bits) << "two runs differ";
  EXPECT_TRUE(fixture.workspace_is_zero());
}

std::vector<int32_t> ragged(int32_t count, int32_t longest, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<int32_t> lengths;
  for (int32_t i = 0; i < count; ++i) {
    lengths.push_back(static_cast<int32_t>(random() % static_cast<uint64_t>(longest + 1)));
  }
  return lengths;
}

uint64_t skipped(const DecodeOutput& output) {
  uint64_t sum = 0;
  for (size_t i = 3; i < output.counters.size(); i += 4) sum += output.counters[i];
  return sum;
}

TEST(Decode, PageEdges) {
  for (const int32_t page : {16, 32, 64, 128}) {
    DecodeCase what;
    what.page_size = page;
    for (const int32_t edge : {1, 15, 16, 17, 31, 33, 63, 64, 65, 127, 128, 129, 255, 257, 1000}) {
      what.lengths.push_back(edge);
    }
    what.lengths.push_back(0);
    what.seed = static_cast<uint64_t>(page);
    SCOPED_TRACE(page);
    expect_right(what);
  }
}

TEST(Decode, EveryHeadDimAndGroup) {
  for (const int32_t d : {64, 96, 128, 192, 256}) {
    for (const int32_t group : {1, 2, 3, 4, 7, 8, 16}) {
      for (const int32_t dtype : {FOVEAL_BF16, FOVEAL_F16, FOVEAL_E4M3}) {
        DecodeCase what;
        what.lengths = {1, 300, 17, 0, 1025, 64};
        what.head_dim = d;
        what.group = group;
        what.kv_heads = group == 16 ? 1 : 3;
        what.q_dtype = dtype == FOVEAL_F16 ? FOVEAL_F16 : FOVEAL_BF16;
        what.kv_dtype = dtype;
        what.k_scale = 0.37F;
        what.v_scale = 1.9F;
        what.seed = static_cast<uint64_t>(d * 100 + group * 3 + dtype);
        SCOPED_TRACE(::testing::Message()
                     << "head_dim " << d << " group " << group << " dtype " << dtype);
        expect_right(what);
      }
    }
  }
}

TEST(Decode, WideGroupsTakeSeveralPasses) {
  for (const auto& [d, group] : {std::pair{64, 32}, std::pair{256, 11}, std::pair{192, 12}}) {
    DecodeCase what;
    what.lengths = {700, 5, 2000};
    what.head_dim = d;
    what.group = group;
    what.tile_spread = 0.2F;
    for (const float factor : {0.0F, 50.0F}) {
      what.skip_factor = factor;
      SCOPED_TRACE(::testing::Message() << d << ' ' << group << ' ' << factor);
      expect_right(what);
    }
  }
}

TEST(Decode, E4m3TakesAnyQuery) {
  for (const int32_t dtype : {FOVEAL_BF16, FOVEAL_F16, FOVEAL_E4M3}) {
    for (const float spread : {1e-3F, 1.0F, 30.0F}) {
      DecodeCase what;
      what.lengths = {777, 31};
      what.q_dtype = dtype;
      what.kv_dtype = FOVEAL_E4M3;
      what.q_spread = spread;
      SCOPED_TRACE(::testing::Message() << "dtype " << dtype << " spread " << spread);
      expect_right(what);
    }
  }
}

TEST(Decode, ContiguousAndTokenMajor) {
  DecodeCase what;
  what.lengths = ragged(9, 700, 4);
  what.page_size = 0;
  expect_right(what);
  what.page_size = 32;
  what.token_major = true;
  expect_right(what);
}

TEST(Decode, RaggedBatches) {
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    DecodeCase what;
    what.lengths = ragged(64, 2000, seed);
    what.seed = seed;
    what.kv_heads = 4;
    what.slack_len = seed == 2 ? 5000 : 0;
    expect_right(what);
  }
  DecodeCase many;
  many.lengths = ragged(300, 200, 9);
  many.page_size = 16;
  expect_right(many);
  DecodeCase lone;
  lone.lengths = std::vector<int32_t>(40, 0);
  lone.lengths[33] = 5000;
  expect_right(lone);
}

TEST(Decode, Window) {
  for (const int32_t window : {1, 15, 64, 100, 513}) {
    DecodeCase what;
    what.lengths = ragged(12, 1500, static_cast<uint64_t>(window));
    what.window = window;
    SCOPED_TRACE(window);
    expect_right(what);
  }
}

TEST(Decode, Scales) {
  for (const float spread : {0.01F, 5.0F, 60.0F}) {
    DecodeCase what;
    what.lengths = {3000, 1, 129};
    what.q_spread = spread;
    SCOPED_TRACE(spread);
    expect_right(what);
  }
}

TEST(Decode, Long) {
  for (const int32_t dtype : {FOVEAL_BF16, FOVEAL_E4M3}) {
    DecodeCase what;
    what.lengths = {131072 - 7};
    what.kv_heads = 1;
    what.kv_dtype = dtype;
    expect_right(what);
  }
}

// Long enough that CTAs take short runs (kStaticShare): who takes which differs from call to call.
TEST(Decode, RunsTakenInAnyOrderGiveTheSameBits) {
  DecodeCase what;
  what.lengths = {131072 - 7, 3, 40000};
  what.kv_heads = 24;
  what.group = 1;
  what.head_dim = 64;
  what.kv_dtype = FOVEAL_E4M3;
  expect_right(what);
  what.lengths = {131072 - 7};
  what.kv_heads = 28;
  what.tile_spread = 0.6F;
  what.skip_factor = 1000;
  DecodeFixture fixture(what);
  const DecodeOutput first = fixture.run();
  EXPECT_GT(skipped(first), 0U);
  for (int i = 0; i < 3; ++i) {
    const DecodeOutput again = fixture.run();
    EXPECT_EQ(again.bits, first.bits);
    EXPECT_EQ(again.counters, first.counters);
  }
}

// SmolLM2's heads: 48 items of a row have 5 shares of 51 of 256 threads, and the row has parts
// enough for the thread that is left over, if it took any (DecodeJoin).
TEST(Decode, ThreadsLeftOverInAJoinTakeNothing) {
  DecodeCase what;
  what.lengths = {6144, 2048};
  what.kv_heads = 3;
  what.group = 3;
  what.head_dim = 64;
  DecodeFixture fixture(what);
  const DecodeOutput first = fixture.run();
  EXPECT_EQ(differences(fixture, first), "");
  for (int i = 0; i < 200; ++i) ASSERT_EQ(fixture.run().bits, first.bits) << i;
}

void expect_the_batch_is_ignored(int32_t kv_dtype, int32_t window) {
  DecodeCase what;
  what.kv_dtype = kv_dtype;
  what.window = window;
  what.lengths = {4097};
  what.flags = FOVEAL_ATTENTION_FIXED_SPLITS;
  for (const int32_t keys : {0, 64, 1024}) {
    what.split_keys = keys;
    DecodeFixture alone(what);
    const DecodeOutput single = alone.run();
    EXPECT_EQ(differences(alone, single), "");
    DecodeCase more = what;
    more.lengths = {4097, 100, 9000, 0, 3};
    DecodeFixture together(more);
    const DecodeOutput batch = together.run();
    EXPECT_EQ(differences(together, batch), "");
    // The first sequence's values depend on the seed, its index and the position only.
    EXPECT_TRUE(std::equal(single.bits.begin(), single.bits.end(), batch.bits.begin())) << keys;
  }
}

TEST(Decode, FixedSplitsIgnoreTheBatch) {
  for (const int32_t dtype : {FOVEAL_BF16, FOVEAL_E4M3}) {
    for (const int32_t window : {0, 1000}) expect_the_batch_is_ignored(dtype, window);
  }
}

TEST(Decode, SkipSoftmaxVotesAsTheReference) {
  for (const int32_t dtype : {FOVEAL_BF16, FOVEAL_F16, FOVEAL_E4M3}) {
    for (const int32_t group : {1, 4, 7, 16}) {
      for (const int32_t d : {64, 128, 256}) {
        DecodeCase what;
        what.lengths = {5000, 64, 65, 1, 0, 777, 2048, 9999};
        what.head_dim = d;
        what.group = group;
        what.q_dtype = dtype == FOVEAL_F16 ? FOVEAL_F16 : FOVEAL_BF16;
        what.kv_dtype = dtype;
        what.tile_spread = 0.6F;
        what.skip_factor = 100;
        what.flags = group == 7 ? FOVEAL_ATTENTION_FIXED_SPLITS : 0;
        what.window = group == 16 ? 1500 : 0;
        what.seed = static_cast<uint64_t>(group + d);
        SCOPED_TRACE(::testing::Message()
                     << "dtype " << dtype << " group " << group << " head_dim " << d);
        DecodeFixture fixture(what);
        const DecodeOutput output = fixture.run();
        EXPECT_EQ(differences(fixture, output), "");
        EXPECT_GT(skipped(output), 0U);
        EXPECT_EQ(fixture.run().bits, output.bits);
      }
    }
  }
}

// Every split is one tile: what lies elsewhere in the row decides.
TEST(Decode, SkipSoftmaxDropsWholeSplits) {
  for (const int32_t d : {128, 256}) {
    DecodeCase what;
    what.lengths = {4000, 64, 129, 1};
    what.head_dim = d;
    what.tile_spread = 1;
    what.skip_factor = 100;
    what.flags = FOVEAL_ATTENTION_FIXED_SPLITS;
    what.split_keys = 64;
    DecodeFixture fixture(what);
    const DecodeOutput output = fixture.run();
    EXPECT_EQ(differences(fixture, output), "");
    EXPECT_GT(skipped(output), 10U);
    EXPECT_EQ(fixture.run().bits, output.bits);
  }
}

TEST(Decode, SkipSoftmaxThatDropsNothingIsDense) {
  for (const uint32_t flags : {0U, FOVEAL_ATTENTION_FIXED_SPLITS}) {
    DecodeCase what;
    what.lengths = {3000, 17, 1000, 0};
    what.window = flags == 0 ? 0 : 900;
    what.flags = flags;
    DecodeFixture dense(what);
    what.skip_factor = 1e6F;  // above every length
    DecodeFixture off(what);
    const DecodeOutput expected = dense.run();
    const DecodeOutput output = off.run();
    EXPECT_EQ(output.bits, expected.bits);
    EXPECT_EQ(output.counters, expected.counters);
  }
}

TEST(Decode, Refuses) {
  DecodeCase what;
  what.lengths = {10};
  DecodeFixture fixture(what);
  const foveal_attention_params good = fixture.params();
  const auto refuse = [&](auto change, const char* part) {
    foveal_attention_params bad = good;
    change(bad);
    char message[512];
    EXPECT_NE(foveal_attention_decode(&bad, nullptr, message, sizeof(message)), FOVEAL_OK) << part;
    EXPECT_NE(std::string(message).find(part), std::string::npos) << message;
  };
  refuse([](auto& p) { p.struct_size = 8; }, "struct_size 8");
  refuse([](auto& p) { p.head_dim = 80; }, "head_dim 80");
  refuse([](auto& p) { p.page_size = 24; }, "page_size 24");
  refuse([](auto& p) { p.kv_dtype = FOVEAL_F16; }, "kv_dtype 1");
  refuse([](auto& p) { p.num_kv_heads = 3; }, "3 KV heads");
  refuse([](auto& p) { p.workspace_bytes = 64; }, "64 bytes of workspace");
  refuse([](auto& p) { p.k_token_stride += 1; }, "k_token_stride");
  refuse([](auto& p) { p.num_rows = 2; }, "2 rows");
}

}  // namespace
}  // namespace foveal::kernels::cuda::testing
