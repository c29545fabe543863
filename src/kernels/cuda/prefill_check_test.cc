#include <gtest/gtest.h>

#include <climits>
#include <functional>
#include <string>
#include <vector>

#include "foveal/error.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/prefill.h"

// What is settled before a GPU is asked: these run anywhere.

namespace foveal::kernels::cuda {
namespace {

using Params = foveal_attention_params;

/// A good call; the addresses are never followed.
Params good() {
  Params p{};
  auto* somewhere = reinterpret_cast<void*>(uintptr_t{4096});
  const auto* numbers = reinterpret_cast<const int32_t*>(uintptr_t{4096});
  p.struct_size = sizeof(p);
  p.q = p.k = p.v = p.out = somewhere;
  p.q_row_stride = p.out_row_stride = 32 * 128;
  p.q_head_stride = p.out_head_stride = 128;
  p.k_page_stride = p.v_page_stride = int64_t{8} * 64 * 128;
  p.k_head_stride = p.v_head_stride = 64 * 128;
  p.k_token_stride = p.v_token_stride = 128;
  p.num_seqs = 2;
  p.num_rows = 100;
  p.num_heads = 32;
  p.num_kv_heads = 8;
  p.head_dim = 128;
  p.page_size = 64;
  p.num_pages = 40;
  p.max_q_len = 60;
  p.max_kv_len = 1000;
  p.cu_q = p.kv_len = p.page_table = numbers;
  p.page_table_stride = 16;
  p.softmax_scale = 0.1F;
  p.q_scale = p.k_scale = p.v_scale = 1;
  p.workspace = somewhere;
  p.workspace_bytes = 256;
  return p;
}

std::string refusal(const std::function<void(Params&)>& spoil) {
  Params p = good();
  spoil(p);
  char message[500] = "untouched";
  const foveal_status status = foveal_attention_prefill(&p, nullptr, message, sizeof(message));
  EXPECT_NE(status, FOVEAL_OK);
  return message;
}

TEST(PrefillCheck, RefusalsNameTheField) {
  EXPECT_NE(refusal([](Params& p) { p.struct_size = 8; }).find("struct_size 8"), std::string::npos);
  EXPECT_NE(refusal([](Params& p) { p.head_dim = 80; }).find("head_dim 80"), std::string::npos);
  EXPECT_NE(refusal([](Params& p) { p.num_kv_heads = 5; }).find("5 KV heads"), std::string::npos);
  EXPECT_NE(refusal([](Params& p) { p.page_size = 24; }).find("page_size 24"), std::string::npos);
  EXPECT_NE(refusal([](Params& p) { p.q_row_stride = 4097; }).find("q_row_stride"),
            std::string::npos);
  EXPECT_NE(refusal([](Params& p) { p.v_token_stride = -128; }).find("v_token_stride"),
            std::string::npos);
  EXPECT_NE(refusal([](Params& p) { p.k_page_stride = int64_t{1} << 60; }).find("k_page_stride"),
            std::string::npos);
  EXPECT_NE(refusal([](Params& p) { p.page_table_stride = 15; }).find("page_table_stride"),
            std::string::npos);
  EXPECT_NE(refusal([](Params& p) { p.page_table = nullptr; }).find("cu_k"), std::string::npos);
  EXPECT_NE(refusal([](Params& p) { p.cu_q = nullptr; }).find("cu_q"), std::string::npos);
  EXPECT_NE(refusal([](Params& p) { p.kv_dtype = FOVEAL_F16; }).find("kv_dtype"),
            std::string::npos);
  EXPECT_NE(refusal([](Params& p) { p.kv_dtype = 9; }).find("kv_dtype 9"), std::string::npos);
  EXPECT_NE(refusal([](Params& p) { p.softmax_scale = 0; }).find("softmax_scale"),
            std::string::npos);
  EXPECT_NE(refusal([](Params& p) { p.skip_factor = -1; }).find("skip_factor"), std::string::npos);
  EXPECT_NE(refusal([](Params& p) { p.workspace_bytes = 8; }).find("workspace of 8"),
            std::string::npos);
  EXPECT_NE(refusal([](Params& p) { p.total_kv_len = -3; }).find("total_kv_len -3"),
            std::string::npos);
  EXPECT_NE(refusal([](Params& p) { p.window = -3; }).find("window -3"), std::string::npos);
  EXPECT_NE(refusal([](Params& p) { p.flags = 6; }).find("flags 0x6"), std::string::npos);
  EXPECT_NE(
      refusal([](Params& p) { p.page_table_stride = int64_t{1} << 40; }).find("page_table_stride"),
      std::string::npos);
}

// A device stops, and with it every later call of the process, at an element that is not aligned.
TEST(PrefillCheck, RefusesArraysThatAreNotAligned) {
  const auto* odd = reinterpret_cast<const int32_t*>(uintptr_t{4098});
  EXPECT_NE(refusal([&](Params& p) { p.kv_len = odd; }).find("kv_len at"), std::string::npos);
  EXPECT_NE(refusal([&](Params& p) { p.cu_q = odd; }).find("cu_q at"), std::string::npos);
  EXPECT_NE(refusal([&](Params& p) { p.page_table = odd; }).find("page_table at"),
            std::string::npos);
  EXPECT_NE(
      refusal([&](Params& p) { p.lse = reinterpret_cast<float*>(uintptr_t{4098}); }).find("lse at"),
      std::string::npos);
  EXPECT_NE(refusal([&](Params& p) {
              p.skip_factor = 1;
              p.counters = reinterpret_cast<uint64_t*>(uintptr_t{4100});
            }).find("counters at"),
            std::string::npos);
  EXPECT_NE(refusal([&](Params& p) {
              p.workspace = reinterpret_cast<void*>(uintptr_t{4096 + 128});
            }).find("workspace at"),
            std::string::npos);
}

TEST(PrefillCheck, FactorsOfSequencesNeedOneOfTheCall) {
  const auto* factors = reinterpret_cast<const float*>(uintptr_t{4096});
  EXPECT_NE(refusal([&](Params& p) { p.skip_factors = factors; }).find("skip_factors beside"),
            std::string::npos);
}

// Callers ask for sizes before anything was checked.
TEST(AbiSizes, AreNothingForWhatIsRefused) {
  EXPECT_EQ(foveal_attention_prefill_workspace(nullptr), 0U);
  EXPECT_EQ(foveal_attention_decode_workspace(nullptr), 0U);
  EXPECT_EQ(foveal_attention_prefill_tiling(nullptr).keys, 0);
  EXPECT_EQ(foveal_attention_decode_tiling(nullptr).vote_rows, 0);
  Params decode = good();
  decode.num_rows = decode.num_seqs;
  EXPECT_GT(foveal_attention_decode_workspace(&decode), 0U);
  EXPECT_EQ(foveal_attention_decode_tiling(&decode).vote_rows, 4);
  const std::vector<std::function<void(Params&)>> spoilers{[](Params& p) { p.struct_size = 4; },
                                                           [](Params& p) { p.num_kv_heads = 0; },
                                                           [](Params& p) { p.page_size = 0; },
                                                           [](Params& p) { p.num_heads = -8; },
                                                           [](Params& p) { p.num_kv_heads = -2; },
                                                           [](Params& p) { p.head_dim = -128; },
                                                           [](Params& p) { p.head_dim = 1 << 30; },
                                                           [](Params& p) { p.split_keys = 63; },
                                                           [](Params& p) {
                                                             p.max_kv_len = INT_MAX;
                                                             p.num_seqs = p.num_rows = INT_MAX;
                                                           }};
  for (size_t idx = 0; idx < spoilers.size(); ++idx) {
    Params bad = decode;
    spoilers[idx](bad);
    EXPECT_EQ(foveal_attention_decode_workspace(&bad), 0U) << idx;
    EXPECT_EQ(foveal_attention_decode_tiling(&bad).keys, 0) << idx;
  }
  Params prefill = good();
  EXPECT_EQ(foveal_attention_prefill_workspace(&prefill), 256U);
  prefill.head_dim = 80;
  EXPECT_EQ(foveal_attention_prefill_workspace(&prefill), 0U);
  EXPECT_EQ(foveal_attention_prefill_tiling(&prefill).keys, 0);
}

/// The same call over a cache in e4m3.
Params good_e4m3() {
  Params p = good();
  p.kv_dtype = FOVEAL_E4M3;
  p.workspace_bytes = size_t{1} << 30;
  return p;
}

TEST(PrefillScratch, HoldsTheCallOrACeiling) {
  Params p = good_e4m3();
  const size_t key = size_t{2} * 128 * 2;  // K and V, one head
  EXPECT_EQ(foveal_attention_prefill_workspace(&p), 512 + 2 * 1024 * 8 * key);
  p.total_kv_len = 1000;  // each sequence begins a tile of its own
  EXPECT_EQ(foveal_attention_prefill_workspace(&p), 512 + 1280 * 8 * key);
  p.max_kv_len = 1 << 20;
  p.total_kv_len = 0;
  EXPECT_EQ(foveal_attention_prefill_workspace(&p), 512 + (size_t{512} << 20));
  p.max_kv_len = 1 << 21;  // one head of one sequence
  EXPECT_EQ(foveal_attention_prefill_workspace(&p), 512 + (size_t{1} << 21) * key);
}

TEST(PrefillScratch, NoSizeOverflows) {
  Params p = good_e4m3();
  p.num_seqs = p.max_kv_len = INT_MAX;
  p.num_heads = p.num_kv_heads = INT_MAX;
  EXPECT_EQ(foveal_attention_prefill_workspace(&p), 0U) << "keys of one sequence over 2^31";
  p.max_kv_len -= 128;
  const size_t bytes = foveal_attention_prefill_workspace(&p);
  EXPECT_GT(bytes, size_t{INT_MAX} * 512);
  const ScratchPiece most = choose_piece(scratch_shape(p), INT64_MAX);
  EXPECT_EQ(most.num_seqs, 1);
  EXPECT_LE(most.rows, INT_MAX);
  p.total_kv_len = int64_t{1} << 38;
  EXPECT_EQ(foveal_attention_prefill_workspace(&p), 0U);
  p.total_kv_len = -1;
  EXPECT_EQ(foveal_attention_prefill_workspace(&p), 0U);
}

TEST(PrefillScratch, PiecesCoverTheCallInWhatThereIs) {
  const ScratchShape shape{.num_seqs = 5, .num_kv_heads = 8, .max_kv_len = 1000, .key_bytes = 512};
  const int64_t one = int64_t{1024} * 512;
  const auto piece = [&](int64_t heads_of_one) {
    return choose_piece(shape, scratch_offset(shape) + heads_of_one * one);
  };
  for (const int64_t room : {1, 2, 4, 5, 9, 10, 25, 39, 40, 1000}) {
    const ScratchPiece got = piece(room);
    EXPECT_LE(got.rows * got.num_kv_heads, room * 1024) << room;
    EXPECT_TRUE(got.num_seqs == 5 || got.num_kv_heads == 1) << room;
    EXPECT_GE(got.rows, got.num_seqs * 1024) << room;
  }
  EXPECT_EQ(piece(1).num_seqs, 1);
  EXPECT_EQ(piece(4).num_seqs, 4);
  EXPECT_EQ(piece(5).num_seqs, 5);
  EXPECT_EQ(piece(25).num_kv_heads, 4) << "two pieces of four, not of five and three";
  EXPECT_EQ(piece(40).num_kv_heads, 8);
}

TEST(PrefillScratch, RefusesLessThanAPiece) {
  Params p = good_e4m3();
  p.workspace_bytes = 512 + 1024 * 512 - 1;
  char message[500] = "";
  EXPECT_EQ(foveal_attention_prefill(&p, nullptr, message, sizeof(message)),
            FOVEAL_INVALID_ARGUMENT);
  EXPECT_NE(std::string(message).find("need 524800"), std::string::npos) << message;
}

TEST(PrefillScratch, HoldsKeysInInt8AndABitATile) {
  Params p = good();
  p.flags = FOVEAL_ATTENTION_INT8_VOTES;
  EXPECT_EQ(foveal_attention_prefill_workspace(&p), 256U) << "dense";
  p.skip_factor = 100;
  const ScratchShape shape = scratch_shape(p);
  EXPECT_EQ(shape.key_bytes, 129);
  EXPECT_EQ(shape.kept_bytes, (p.num_rows / 64 + 2) * p.num_heads * 4);
  EXPECT_EQ(foveal_attention_prefill_workspace(&p),
            static_cast<size_t>(scratch_offset(shape)) + size_t{2} * 1024 * 8 * 129);
  const size_t pool = prefill_pool_workspace_bytes(p);
  p.max_kv_len = 2000;
  p.total_kv_len = 2000;
  p.num_rows = 3000;
  EXPECT_EQ(prefill_pool_workspace_bytes(p), pool) << "one size for all prompts of a pool";
  p.kv_dtype = FOVEAL_E4M3;
  EXPECT_EQ(scratch_shape(p).key_bytes, 512 + 129) << "keys and values in bf16 too";
  p.q_dtype = FOVEAL_E4M3;
  EXPECT_EQ(foveal_attention_prefill_workspace(&p), 0U) << "no int8 votes of e4m3 queries";
  p = good();
  p.flags = FOVEAL_ATTENTION_INT8_VOTES;
  p.skip_factor = 100;
  p.num_heads = p.num_kv_heads = p.num_rows = INT_MAX;
  EXPECT_EQ(foveal_attention_prefill_workspace(&p), 0U) << "bits past 2^40 bytes";
}

TEST(PrefillCheck, MessagesFitWhatIsThere) {
  Params p = good();
  p.head_dim = 80;
  char small[12];
  EXPECT_EQ(foveal_attention_prefill(&p, nullptr, small, sizeof(small)), FOVEAL_UNSUPPORTED);
  EXPECT_EQ(std::string(small).size(), sizeof(small) - 1);
  EXPECT_EQ(foveal_attention_prefill(&p, nullptr, nullptr, 0), FOVEAL_UNSUPPORTED);
  EXPECT_EQ(foveal_attention_prefill(nullptr, nullptr, small, sizeof(small)),
            FOVEAL_INVALID_ARGUMENT);
}

TEST(PrefillChoose, PairsOfHeadsShareKeys) {
  Params p = good();
  EXPECT_EQ(choose_prefill(p).choice.cluster, 2);
  EXPECT_EQ(choose_prefill(p).box_rows, 64);
  p.num_heads = 24;  // three query heads a KV head
  EXPECT_EQ(choose_prefill(p).choice.cluster, 1);
  p.page_size = 128;
  EXPECT_EQ(choose_prefill(p).box_rows, 128);
  p.page_size = 16;
  EXPECT_EQ(choose_prefill(p).box_rows, 16);
  p.head_dim = 256;
  p.page_table = nullptr;
  EXPECT_EQ(choose_prefill(p).box_rows, 64);
}

TEST(PrefillChoose, SkippingAndCountingAreKernelsOfTheirOwn) {
  Params p = good();
  EXPECT_FALSE(choose_prefill(p).choice.skip);
  p.skip_factor = 10;
  EXPECT_TRUE(choose_prefill(p).choice.skip);
  EXPECT_FALSE(choose_prefill(p).choice.count);
  p.counters = reinterpret_cast<uint64_t*>(uintptr_t{4096});
  EXPECT_TRUE(choose_prefill(p).choice.count);
  EXPECT_EQ(prefill_tiling(p).keys, 128);
  p.head_dim = 192;
  EXPECT_EQ(prefill_tiling(p).keys, 64);
}

}  // namespace
}  // namespace foveal::kernels::cuda
