#include <gtest/gtest.h>

#include <random>

#include "foveal/error.h"
#include "kernels/cuda/decode_choose.h"

namespace foveal::kernels::cuda {
namespace {

TEST(DecodePlan, DividerDivides) {
  std::mt19937 random(1);
  for (const uint32_t divisor : {1U, 2U, 3U, 4U, 7U, 12U, 32U, 132U, 1000U, 65536U}) {
    const Divider divider = Divider::of(divisor);
    for (int i = 0; i < 1000; ++i) {
      const uint32_t x = random() >> 1;
      ASSERT_EQ(divider.divide(x), x / divisor) << x << " / " << divisor;
      ASSERT_EQ(divider.divide(x / divisor * divisor), x / divisor);
    }
    EXPECT_EQ(divider.divide(0x7fffffff), 0x7fffffff / divisor);
  }
}

TEST(DecodePlan, DealCoversEachChunkOnce) {
  for (const uint32_t chunks : {1U, 2U, 3U, 131U, 132U, 133U, 1000U, 34567U}) {
    for (const uint32_t grid : {1U, 3U, 132U}) {
      const DecodeDeal deal = decode_deal(chunks, 1, grid);
      EXPECT_EQ(deal.begin(0), 0U);
      EXPECT_EQ(deal.begin(deal.workers), chunks);
      EXPECT_LE(deal.workers, grid);
      for (uint32_t worker = 0; worker < deal.workers; ++worker) {
        EXPECT_LE(deal.begin(worker + 1) - deal.begin(worker), deal.share + 1);
        for (uint32_t chunk = deal.begin(worker); chunk < deal.begin(worker + 1); ++chunk) {
          ASSERT_EQ(deal.worker(chunk), worker) << chunk << " of " << chunks;
        }
      }
    }
  }
}

TEST(DecodePlan, SpansLieAtAbsolutePositions) {
  const Divider units = Divider::of(4);
  const DecodeSpan whole = decode_span(130, 0, units);
  EXPECT_EQ(whole.first_unit, 0);
  EXPECT_EQ(whole.end_unit, 9);
  EXPECT_EQ(whole.chunks, 3U);
  const DecodeSpan window = decode_span(1000, 100, units);  // keys 900 to 999
  EXPECT_EQ(window.first_unit, 56);
  EXPECT_EQ(window.end_unit, 63);
  EXPECT_EQ(window.chunks, 2U);
  EXPECT_EQ(decode_span(0, 0, units).chunks, 0U);
}

TEST(DecodePlan, EveryShapeFitsAndRunsAhead) {
  for (const int32_t head_dim : {64, 96, 128, 192, 256}) {
    for (const int32_t bytes : {1, 2}) {
      for (const int32_t blocks : {1, 2}) {
        for (const bool vote : {false, true}) {
          const DecodeShape shape{head_dim, bytes, blocks, vote};
          EXPECT_LE(shape.shared_bytes(), kMaxSharedBytes);
          EXPECT_GE(shape.stages(), 2) << head_dim << ' ' << bytes << ' ' << blocks << ' ' << vote;
          // The voting kernel merges where V was.
          const int32_t values = shape.stages() * (shape.unit_bytes() + shape.score_bytes());
          if (vote) {
            EXPECT_LE(shape.merge_bytes(), values * shape.warps());
          }
        }
      }
    }
  }
}

foveal_attention_params small_call() {
  foveal_attention_params params{};
  params.struct_size = sizeof(params);
  params.num_seqs = params.num_rows = 3;
  params.num_heads = 32;
  params.num_kv_heads = 8;
  params.head_dim = 128;
  params.page_size = 64;
  params.max_kv_len = 1000;
  return params;
}

TEST(DecodePlan, FixedSplitsNeedNoDevice) {
  foveal_attention_params params = small_call();
  params.flags = FOVEAL_ATTENTION_FIXED_SPLITS;
  const DecodeChoice choice = decode_choose(params, 132);
  EXPECT_EQ(choice.chunk_units * kDecodeUnit, 512);
  EXPECT_EQ(choice.max_splits, 3);
  EXPECT_EQ(choice.workspace.bytes, decode_choose(params, 78).workspace.bytes);
}

TEST(DecodePlan, VotesDealTheSameSplits) {
  foveal_attention_params params = small_call();
  const DecodeChoice dense = decode_choose(params, 132);
  params.skip_factor = 10;
  const DecodeChoice vote = decode_choose(params, 132);
  EXPECT_TRUE(vote.shape.vote);
  EXPECT_EQ(dense.chunk_units, vote.chunk_units);
  EXPECT_EQ(dense.min_chunks_log2, vote.min_chunks_log2);
  EXPECT_EQ(dense.chunk_units * kDecodeUnit % kDecodeVoteKeys, 0);
}

TEST(DecodePlan, RefusalsSayWhatIsNeeded) {
  foveal_attention_params params = small_call();
  params.num_kv_heads = 1;
  try {
    decode_check(params);
    FAIL() << "32 heads a KV head were accepted";
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()), "[decode] got 32 query heads a KV head; need at most 16");
  }
}

}  // namespace
}  // namespace foveal::kernels::cuda
