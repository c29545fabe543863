#include "model/cuda/latent_form.h"

#include <gtest/gtest.h>

#include <vector>

namespace foveal::model {
namespace {

constexpr LatentConfig kDeepSeek{
    .q_rank = 1536, .kv_rank = 512, .nope_dim = 128, .rope_dim = 64, .value_dim = 128};
constexpr HeadFormRoom kRoom{.heads = 128, .head_values = int64_t{256} << 20, .processors = 132};

bool heads_win(const std::vector<std::pair<int32_t, int32_t>>& rows_and_keys,
               const HeadFormRoom& room = kRoom) {
  std::vector<kernels::AttentionSeq> seqs;
  for (const auto& [rows, keys] : rows_and_keys) seqs.push_back({.q_len = rows, .kv_len = keys});
  return heads_take_less(kDeepSeek, room, seqs);
}

TEST(LatentForm, WholePromptsTakeHeads) {
  for (const int32_t length : {64, 512, 8192, 163840}) EXPECT_TRUE(heads_win({{length, length}}));
}

// As measured on an H200: docs/kernels/cuda_mla.md.
TEST(LatentForm, FewRowsOfALongContextTakeLatents) {
  for (const int32_t keys : {4096, 8192, 32768, 131072}) EXPECT_FALSE(heads_win({{64, keys}}));
  EXPECT_FALSE(heads_win({{128, 8192}}));
  EXPECT_TRUE(heads_win({{256, 8192}}));
  EXPECT_FALSE(heads_win({{128, 32768}}));
  EXPECT_TRUE(heads_win({{512, 32768}}));
  EXPECT_FALSE(heads_win({{512, 131072}}));
  EXPECT_TRUE(heads_win({{2048, 131072}}));
}

TEST(LatentForm, TheWholeStepDecides) {
  EXPECT_TRUE(heads_win({{64, 8192}, {8000, 8000}}));
  EXPECT_FALSE(heads_win({{64, 131072}, {500, 500}}));
}

// Which are computed 64 at a time over latents. As measured on an H200.
TEST(LatentForm, FewHeadsTakeHeadsSooner) {
  HeadFormRoom few = kRoom;
  few.heads = 16;
  EXPECT_FALSE(heads_win({{16, 8192}}, few));
  EXPECT_FALSE(heads_win({{64, 8192}}, few));
  EXPECT_TRUE(heads_win({{128, 8192}}, few));
  EXPECT_TRUE(heads_win({{128, 32768}}, few));
  EXPECT_TRUE(heads_win({{512, 131072}}, few));
  few.heads = 2;
  EXPECT_TRUE(heads_win({{128, 128}}, few));
}

// Blocks of the form of heads cost what whole ones do.
TEST(LatentForm, PartsOfBlocksCountAsBlocks) {
  HeadFormRoom few = kRoom;
  few.heads = 16;
  EXPECT_TRUE(heads_win({{256, 8192}}, few));
  EXPECT_FALSE(heads_win({{32, 8192}, {32, 8192}, {32, 8192}, {32, 8192}}, few));
}

TEST(LatentForm, AsManyHeadsAsThereIsRoomFor) {
  EXPECT_EQ(kRoom.heads_at_once(kDeepSeek, 1), 128);
  EXPECT_EQ(kRoom.heads_at_once(kDeepSeek, 32768), 32);
  EXPECT_EQ(kRoom.heads_at_once(kDeepSeek, 131072), 8);
  EXPECT_EQ(kRoom.heads_at_once(kDeepSeek, int64_t{1} << 30), 1);
}

}  // namespace
}  // namespace foveal::model
