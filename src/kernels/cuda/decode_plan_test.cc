#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

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
  std::mt19937 random(2);
  std::vector<uint32_t> counts{1, 2, 3, 131, 132, 133, 1000, 34567};
  for (int i = 0; i < 200; ++i) counts.push_back(1 + random() % 30000);
  for (const uint32_t chunks : counts) {
    for (const uint32_t least : {0U, 1U}) {
      for (const uint32_t grid : {1U, 3U, 132U}) {
        const DecodeDeal deal = decode_deal(chunks, least, grid);
        EXPECT_EQ(deal.begin(0), 0U);
        EXPECT_EQ(deal.begin(deal.runs), chunks);
        EXPECT_LE(deal.workers, grid);
        EXPECT_LE(deal.runs, deal.workers * kMaxRunsAWorker)
            << chunks << ' ' << least << ' ' << grid;
        for (uint32_t run = 0; run < deal.runs; ++run) {
          ASSERT_LT(deal.begin(run), deal.begin(run + 1));
          for (uint32_t chunk = deal.begin(run); chunk < deal.begin(run + 1); ++chunk) {
            ASSERT_EQ(deal.run(chunk), run) << chunk << " of " << chunks;
          }
        }
      }
    }
  }
}

// Whoever waits for a word of a part puts zero in its place: a second one would wait for ever.
TEST(DecodePlan, JoinTakesEachPartOnce) {
  constexpr uint32_t kParts = 21;
  for (const int32_t head_dim : {64, 96, 128, 192, 256}) {
    const auto threads = static_cast<uint32_t>(DecodeShape{head_dim, 2, 1, false}.warps()) * 32;
    for (int32_t group = 1; group <= max_pass_heads(head_dim); ++group) {
      const auto items = static_cast<uint32_t>(group * head_dim / 4);
      const DecodeJoin join = DecodeJoin::of(items, threads);
      std::vector<int> taken(items * kParts);
      for (uint32_t begin = 0; begin < items; begin += join.threads) {
        for (uint32_t thread = 0; thread < threads; ++thread) {
          if (!join.takes(thread, begin, items)) continue;
          for (uint32_t part = join.share(thread); part < kParts; part += join.shares) {
            ++taken[join.item(thread, begin) * kParts + part];
          }
        }
      }
      for (uint32_t at = 0; at < taken.size(); ++at) {
        ASSERT_EQ(taken[at], 1) << "head_dim " << head_dim << ", group " << group << ", item "
                                << at / kParts << ", part " << at % kParts;
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
      for (int32_t blocks = 1; blocks <= max_pass_heads(head_dim) / 8; ++blocks) {
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

TEST(DecodePlan, PassesCutGroupsEvenly) {
  EXPECT_EQ(decode_passes(16, 128), 1);
  EXPECT_EQ(decode_passes(16, 256), 2);
  EXPECT_EQ(decode_passes(7, 256), 1);
  EXPECT_EQ(decode_passes(15, 192), 3);
  EXPECT_EQ(decode_passes(71, 64), 71);
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
  // Counters lie at the same place whatever the shape: one workspace serves calls of any.
  EXPECT_EQ(choice.workspace.stats_offset, kDecodeCounterBytes);
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
  float memory[4] = {};
  alignas(16) int32_t lengths[4] = {};
  auto* address = reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(memory) + 15) / 16 * 16);
  params.q = params.k = params.v = address;
  params.out = address;
  params.kv_len = params.page_table = lengths;
  params.page_table_stride = 16;
  params.num_pages = 1;
  params.q_row_stride = params.out_row_stride = params.k_page_stride = params.v_page_stride = 4096;
  params.q_head_stride = params.out_head_stride = params.k_head_stride = params.v_head_stride = 128;
  params.k_token_stride = params.v_token_stride = 128;
  params.softmax_scale = params.q_scale = params.k_scale = params.v_scale = 1;
  const auto message = [](const foveal_attention_params& bad) -> std::string {
    try {
      decode_check(bad);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_NE(message(params).find("bytes of workspace"), std::string::npos) << message(params);
  params.num_rows = 5;
  EXPECT_EQ(message(params),
            "[attention_decode] got 5 rows for 3 sequences; need one row a sequence");
}

}  // namespace
}  // namespace foveal::kernels::cuda
