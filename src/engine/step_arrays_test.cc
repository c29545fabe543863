// The arrays of a step, on a CPU: the same code writes them for a GPU.
#include "engine/step_arrays.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace foveal::engine {
namespace {

constexpr int32_t kPage = 16;
const StepLimits kLimits{.max_rows = 64,
                         .max_seqs = 8,
                         .max_pages = 5,
                         .page_size = kPage,
                         .num_layers = 2,
                         .scratch_page = 40};

struct StepArraysTest : testing::Test {
  void add(scheduler::RequestId id, int32_t prompt) {
    scheduler.add({.id = id,
                   .prompt = std::vector<int32_t>(static_cast<size_t>(prompt), 7),
                   .max_new_tokens = 20});
  }
  /// Runs a step without a model: every sampled token is 9.
  void step() {
    plan = scheduler.next_step();
    batch.build(plan, scheduler, [](auto) { return Batch::Wishes{.logits_from = 1000}; });
  }
  void finish_step() {
    for (const scheduler::SeqWork& work : plan.work) {
      if (work.sample) scheduler.append_token(work.id, 9);
    }
  }
  template <class T>
  static std::vector<T> values(const T* data, int64_t count) {
    return {data, data + count};
  }

  kv::PageAllocator pages{40};
  scheduler::Scheduler scheduler{
      {.max_batch_size = 8, .max_step_tokens = 64, .prefill_chunk = 64, .page_size = kPage},
      pages,
      nullptr};
  ThreadPool pool{1};
  Stream stream{Device{}, pool};
  StepArrays arrays{Device{}, kLimits};
  scheduler::StepPlan plan;
  Batch batch;
  SamplePlan sampling;
};

TEST_F(StepArraysTest, PromptsAsRunsOfRows) {
  add(1, 20);
  add(2, 3);
  step();
  const StepShape shape = choose_shape(batch, {}, /*padding=*/true, kLimits);
  EXPECT_FALSE(shape.padded);
  EXPECT_EQ(shape.decode_rows, 0);
  EXPECT_EQ(shape.prefill_stride, 2);
  sampling.clear();
  arrays.send(batch, shape, {}, sampling, stream);
  const kernels::DeviceSeqs& seqs = arrays.input().prefill;
  EXPECT_EQ(seqs.num_seqs, 2);
  EXPECT_EQ(seqs.num_rows, 23);
  EXPECT_EQ(seqs.max_q_len, 20);
  EXPECT_EQ(seqs.max_kv_len, 20);
  EXPECT_EQ(seqs.total_kv_len, 23);
  EXPECT_EQ(values(seqs.cu_q, 3), (std::vector<int32_t>{0, 20, 23}));
  EXPECT_EQ(values(seqs.kv_len, 2), (std::vector<int32_t>{20, 3}));
  EXPECT_EQ(values(seqs.threshold_len, 2), (std::vector<int32_t>{20, 3}));
  EXPECT_EQ(values(seqs.skip_factors, 2), (std::vector<float>{-1, -1}));
  const auto first = scheduler.page_table(1);
  const auto second = scheduler.page_table(2);
  EXPECT_EQ(values(seqs.page_table, 4),
            (std::vector<int32_t>{first[0], first[1], second[0], kLimits.scratch_page}));
  EXPECT_EQ(values(arrays.input().logit_rows, 2), (std::vector<int32_t>{19, 22}));
  EXPECT_EQ(arrays.input().decode.num_seqs, 0);
}

TEST_F(StepArraysTest, DecodesFilledUpToASizeThatIsRecorded) {
  for (const scheduler::RequestId id : {1, 2, 3}) add(id, 17);
  step();
  finish_step();
  step();
  const std::vector<int32_t> sizes{1, 2, 4, 8};
  const StepShape shape = choose_shape(batch, sizes, /*padding=*/true, kLimits);
  EXPECT_TRUE(shape.padded);
  EXPECT_EQ(shape.decode_rows, 4);
  EXPECT_EQ(shape.decode_stride, 2);
  sampling.clear();
  arrays.send(batch, shape, {}, sampling, stream);
  const model::DeviceInput& input = arrays.input();
  EXPECT_EQ(values(input.token_ids, 4), (std::vector<int32_t>{9, 9, 9, 0}));
  EXPECT_EQ(values(input.decode.kv_len, 4), (std::vector<int32_t>{18, 18, 18, 1}));
  EXPECT_EQ(input.decode.max_kv_len, 2 * kPage);
  EXPECT_EQ(input.decode.cu_q, nullptr);
  EXPECT_EQ(input.decode.page_table[3 * 2], kLimits.scratch_page);
  EXPECT_EQ(values(input.logit_rows, 4), (std::vector<int32_t>{0, 1, 2, 3}));

  // The same shape again has the same addresses: a recording reads them.
  finish_step();
  step();
  const int32_t* kv_len = input.decode.kv_len;
  const int32_t* table = input.decode.page_table;
  arrays.send(batch, shape, std::vector<int32_t>{1, 2, 3}, sampling, stream);
  EXPECT_EQ(arrays.input().decode.kv_len, kv_len);
  EXPECT_EQ(arrays.input().decode.page_table, table);
  EXPECT_EQ(values(kv_len, 4), (std::vector<int32_t>{19, 19, 19, 1}));
  EXPECT_EQ(values(arrays.places(), 3), (std::vector<int32_t>{1, 2, 3}));
}

TEST_F(StepArraysTest, NothingIsFilledUpBesidePrompts) {
  add(1, 17);
  step();
  finish_step();
  add(2, 5);
  step();
  const std::vector<int32_t> sizes{4, 8};
  const StepShape shape = choose_shape(batch, sizes, /*padding=*/true, kLimits);
  EXPECT_FALSE(shape.padded);
  EXPECT_EQ(shape.decode_rows, 1);
  sampling.clear();
  arrays.send(batch, shape, {}, sampling, stream);
  EXPECT_EQ(arrays.input().prefill.num_rows, 5);
  EXPECT_EQ(arrays.input().decode.num_rows, 1);
  EXPECT_EQ(values(arrays.input().token_ids, 6), (std::vector<int32_t>{7, 7, 7, 7, 7, 9}));
}

TEST_F(StepArraysTest, SendsWhatRowsAreSampledBy) {
  add(1, 4);
  step();
  sampling.clear();
  sampling.rows.push_back({.temperature = 0.5, .seed = 3});
  sampling.edits.push_back({.token = 5, .what = kernels::cuda::LogitEdit::kBan});
  sampling.edit_begin.push_back(1);
  arrays.send(batch, choose_shape(batch, {}, /*padding=*/true, kLimits), {}, sampling, stream);
  EXPECT_EQ(arrays.sample_rows()[0].temperature, 0.5);
  EXPECT_EQ(arrays.edits()[0].token, 5);
  EXPECT_EQ(values(arrays.edit_begin(), 2), (std::vector<int32_t>{0, 1}));
}

}  // namespace
}  // namespace foveal::engine
