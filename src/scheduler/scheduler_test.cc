#include "scheduler/scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <vector>

#include "foveal/error.h"

namespace foveal::scheduler {
namespace {

constexpr SchedulerConfig kConfig = {.max_batch_size = 4,
                                     .max_step_tokens = 32,
                                     .prefill_chunk = 16,
                                     .chunk_multiple = 4,
                                     .page_size = 4,
                                     .max_queue = 8};

std::vector<int32_t> prompt(int32_t len, int32_t first = 100) {
  std::vector<int32_t> tokens(static_cast<size_t>(len));
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

NewRequest request(RequestId id, int32_t len, int32_t max_new, int32_t first_token = 100) {
  return {.id = id, .prompt = prompt(len, first_token), .max_new_tokens = max_new};
}

class SchedulerTest : public testing::Test {
 protected:
  explicit SchedulerTest(int32_t num_pages = 16, SchedulerConfig config = kConfig)
      : allocator(num_pages),
        prefix(allocator, config.page_size),
        scheduler(config, allocator, &prefix) {}
  ~SchedulerTest() override { EXPECT_NO_THROW(scheduler.check_integrity()); }

  void expect(const SeqWork& work, const SeqWork& want) {
    EXPECT_EQ(work.id, want.id);
    EXPECT_EQ(work.phase, want.phase);
    EXPECT_EQ(work.start, want.start);
    EXPECT_EQ(work.count, want.count);
    EXPECT_EQ(work.prompt_done, want.prompt_done);
    EXPECT_EQ(work.sample, want.sample);
  }

  kv::PageAllocator allocator;
  kv::PrefixIndex prefix;
  Scheduler scheduler;
};

// A step planned before the token of the one before is known.
TEST_F(SchedulerTest, PlansWithAPendingToken) {
  ASSERT_EQ(scheduler.add(request(1, 4, 8)), AddResult::kQueued);
  scheduler.next_step();
  scheduler.append_token(1, 50);
  StepPlan plan = scheduler.next_step();
  ASSERT_EQ(plan.work.size(), 1U);
  scheduler.append_pending(1);
  EXPECT_EQ(scheduler.token(1, 5), kPendingToken);
  EXPECT_THROW(scheduler.append_pending(1), Error);  // one at a time
  plan = scheduler.next_step();
  ASSERT_EQ(plan.work.size(), 1U);
  expect(plan.work[0], {.id = 1, .phase = Phase::kDecode, .start = 5, .count = 1, .sample = true});
  scheduler.settle_token(1, 51);
  EXPECT_EQ(scheduler.token(1, 5), 51);
  EXPECT_THROW(scheduler.settle_token(1, 52), Error);
  scheduler.append_token(1, 52);
  scheduler.finish(1);
}

// The token of a request that was preempted while it was pending: it is replayed like the others.
TEST_F(SchedulerTest, APreemptedRequestGetsItsPendingToken) {
  for (const RequestId id : {1, 2}) {
    ASSERT_EQ(scheduler.add(request(id, 28, 12, 1000 * static_cast<int32_t>(id))),
              AddResult::kQueued);
  }
  StepPlan plan;
  int steps = 0;
  while (plan.preempted.empty()) {
    ASSERT_LT(++steps, 60);
    const std::vector<SeqWork> before = plan.work;
    plan = scheduler.next_step();
    for (const SeqWork& work : before) {
      if (work.sample) scheduler.settle_token(work.id, 7);
    }
    for (const SeqWork& work : plan.work) {
      if (work.sample) scheduler.append_pending(work.id);
    }
  }
  ASSERT_EQ(plan.preempted, std::vector<RequestId>{2});
  EXPECT_EQ(scheduler.token(2, scheduler.num_tokens(2) - 1), 7);
  EXPECT_NO_THROW(scheduler.check_integrity());
}

TEST_F(SchedulerTest, ChunksThenDecodesThenEnds) {
  ASSERT_EQ(scheduler.add(request(7, 18, 2)), AddResult::kQueued);
  StepPlan plan = scheduler.next_step();
  ASSERT_EQ(plan.work.size(), 1U);
  expect(plan.work[0], {.id = 7, .phase = Phase::kPrefill, .start = 0, .count = 16});
  EXPECT_EQ(plan.admitted, std::vector<RequestId>{7});
  EXPECT_EQ(plan.new_pages.size(), 4U);

  plan = scheduler.next_step();
  expect(plan.work.at(0), {.id = 7, .start = 16, .count = 2, .prompt_done = true, .sample = true});
  EXPECT_TRUE(scheduler.next_step().empty()) << "its token is not known yet";
  scheduler.append_token(7, 42);
  EXPECT_EQ(scheduler.num_tokens(7), 19);
  EXPECT_EQ(scheduler.token(7, 18), 42);
  EXPECT_EQ(scheduler.token(7, 17), 117);

  plan = scheduler.next_step();
  expect(plan.work.at(0),
         {.id = 7, .phase = Phase::kDecode, .start = 18, .count = 1, .sample = true});
  scheduler.append_token(7, 43);
  EXPECT_TRUE(scheduler.next_step().empty()) << "the last token is never processed";
  EXPECT_THROW(scheduler.append_token(7, 44), Error);
  scheduler.finish(7);
  EXPECT_TRUE(scheduler.idle());
  EXPECT_EQ(prefix.num_pages(), 4) << "18 prompt tokens fill four pages of 4";
  EXPECT_EQ(allocator.num_free(), 12);
}

TEST_F(SchedulerTest, APromptWithoutNewTokensIsOnlyPrefilled) {
  scheduler.add(request(1, 5, 0));
  const StepPlan plan = scheduler.next_step();
  expect(plan.work.at(0), {.id = 1, .start = 0, .count = 5, .prompt_done = true});
  EXPECT_TRUE(scheduler.next_step().empty());
  EXPECT_THROW(scheduler.append_token(1, 0), Error);
  scheduler.finish(1);
  EXPECT_TRUE(scheduler.idle());
}

TEST_F(SchedulerTest, DecodesKeepTheirRowsBesidePrefill) {
  scheduler.add(request(1, 4, 8));
  scheduler.next_step();
  scheduler.append_token(1, 0);
  scheduler.add(request(2, 20, 1, 200));
  scheduler.add(request(3, 20, 1, 300));
  const StepPlan plan = scheduler.next_step();
  // One chunk of 16 rows is all that prompts get beside a decode.
  ASSERT_EQ(plan.work.size(), 2U);
  expect(plan.work[0], {.id = 2, .start = 0, .count = 16});
  expect(plan.work[1], {.id = 1, .phase = Phase::kDecode, .start = 4, .count = 1, .sample = true});
  scheduler.append_token(1, 0);
  const StepPlan next = scheduler.next_step();
  // The first prompt's last 4 rows leave 12, a multiple of 4, to the second.
  ASSERT_EQ(next.work.size(), 3U);
  expect(next.work[0], {.id = 2, .start = 16, .count = 4, .prompt_done = true, .sample = true});
  expect(next.work[1], {.id = 3, .start = 0, .count = 12});
}

TEST_F(SchedulerTest, AFullPrefixStillComputesItsLastTokens) {
  scheduler.add(request(1, 16, 0));
  scheduler.next_step();
  scheduler.finish(1);
  scheduler.add(request(2, 16, 1));
  const StepPlan plan = scheduler.next_step();
  EXPECT_EQ(scheduler.reused_tokens(2), 12);
  expect(plan.work.at(0), {.id = 2, .start = 12, .count = 4, .prompt_done = true, .sample = true});
  EXPECT_EQ(plan.new_pages.size(), 1U);
}

TEST_F(SchedulerTest, RootsAndRequestsThatDoNotShareAreApart) {
  scheduler.add(request(1, 16, 0));
  scheduler.next_step();
  scheduler.finish(1);
  NewRequest other = request(2, 16, 0);
  other.prefix_root = 5;
  scheduler.add(other);
  NewRequest alone = request(3, 16, 0);
  alone.reuse_prefix = false;
  scheduler.add(alone);
  scheduler.next_step();
  EXPECT_EQ(scheduler.reused_tokens(2), 0);
  EXPECT_EQ(scheduler.reused_tokens(3), 0);
  scheduler.finish(3);
  EXPECT_EQ(prefix.num_pages(), 4) << "3 publishes nothing";
}

TEST_F(SchedulerTest, ACancelledPromptIsNotPublished) {
  scheduler.add(request(1, 16, 4));
  scheduler.next_step();  // planned, and then the step fails
  EXPECT_TRUE(scheduler.cancel(1));
  EXPECT_FALSE(scheduler.cancel(1));
  EXPECT_EQ(prefix.num_pages(), 0);
  EXPECT_EQ(allocator.num_free(), 16);
  EXPECT_THROW(scheduler.finish(1), Error);
  EXPECT_THROW(scheduler.page_table(1), Error);
}

TEST_F(SchedulerTest, WhatAPromptKeepsMovesToPagesOfItsOwn) {
  NewRequest wanted = request(1, 10, 4);
  wanted.kept = 5;
  scheduler.add(wanted);
  EXPECT_EQ(scheduler.next_step().new_pages.size(), 5U) << "3 to read the prompt, 2 to copy to";
  const std::vector<kv::PageId> spare(scheduler.spare_pages(1).begin(),
                                      scheduler.spare_pages(1).end());
  ASSERT_EQ(spare.size(), 2U);
  EXPECT_THROW(scheduler.append_token(1, 5), Error) << "before it was copied";
  scheduler.compact(1);
  EXPECT_TRUE(std::ranges::equal(scheduler.page_table(1), spare));
  EXPECT_EQ(scheduler.evicted(1), 5);
  EXPECT_EQ(prefix.num_pages(), 2) << "the prompt's whole pages, not the copy";
  EXPECT_EQ(allocator.num_free(), 12);
  EXPECT_THROW(scheduler.compact(1), Error);
  for (int32_t token = 0; token < 4; ++token) {
    scheduler.append_token(1, token);
    const StepPlan plan = scheduler.next_step();
    if (token == 3) break;
    EXPECT_EQ(plan.work.at(0).start, 10 + token) << "positions go on";
    EXPECT_TRUE(plan.new_pages.empty()) << "slots 5 to 7 have their page";
  }
  scheduler.finish(1);
  EXPECT_EQ(allocator.num_free(), 14);
}

TEST_F(SchedulerTest, TheTailIsComputedAgain) {
  scheduler.add(request(1, 16, 1));
  scheduler.next_step();
  scheduler.finish(1);
  NewRequest wanted = request(2, 16, 1);
  wanted.tail = 5;
  scheduler.add(wanted);
  wanted.id = 3;
  wanted.tail = 20;
  scheduler.add(wanted);
  scheduler.next_step();
  EXPECT_EQ(scheduler.reused_tokens(2), 8);
  EXPECT_EQ(scheduler.reused_tokens(3), 0);
}

TEST_F(SchedulerTest, AdmitsByWhatStaysAndByOnePromptBeingRead) {
  // 16 pages hold one prompt of 40 tokens with its output, or many that keep 4 tokens.
  for (RequestId id = 1; id <= 3; ++id) {
    NewRequest wanted = request(id, 40, 4, static_cast<int32_t>(1000 * id));
    wanted.kept = 4;
    wanted.reuse_prefix = false;
    ASSERT_EQ(scheduler.add(wanted), AddResult::kQueued);
  }
  for (int step = 0; step < 12; ++step) {
    for (const SeqWork& work : scheduler.next_step().work) {
      if (work.prompt_done) scheduler.compact(work.id);
      scheduler.check_integrity();
    }
  }
  EXPECT_EQ(scheduler.num_running(), 3);
  EXPECT_EQ(allocator.num_free(), 13) << "each waits for its first token with one page";
}

TEST_F(SchedulerTest, RefusesWhatCanNeverWork) {
  EXPECT_EQ(scheduler.add(request(1, 60, 5)), AddResult::kNeverFits);
  EXPECT_EQ(scheduler.add(request(1, 60, std::numeric_limits<int32_t>::max())),
            AddResult::kNeverFits);
  EXPECT_THROW(scheduler.add(request(1, 0, 5)), Error);
  EXPECT_THROW(scheduler.add(request(1, 1, -1)), Error);
  NewRequest keeps = request(1, 48, 4);
  for (const int32_t kept : {0, 49}) {
    keeps.kept = kept;
    EXPECT_THROW(scheduler.add(keeps), Error);
  }
  keeps.kept = 20;  // 12 pages to read it and 5 to copy to are more than 16
  EXPECT_EQ(scheduler.add(keeps), AddResult::kNeverFits);
  for (RequestId id = 1; id <= 8; ++id) {
    EXPECT_EQ(scheduler.add(request(id, 4, 1)), AddResult::kQueued);
  }
  EXPECT_EQ(scheduler.add(request(9, 4, 1)), AddResult::kQueueFull);
  EXPECT_THROW(scheduler.add(request(8, 4, 1)), Error);
}

/// How many of `count` prompts of 7,000 tokens that keep `kept` are in at once, before any has made
/// a token; then all of these make `num_new`, and nobody may lose its pages for it.
int32_t number_that_fit(int32_t num_pages, int32_t count, int32_t kept, int32_t num_new) {
  kv::PageAllocator allocator(num_pages);
  Scheduler scheduler({.max_batch_size = count, .max_step_tokens = 2048}, allocator, nullptr);
  for (int32_t idx = 0; idx < count; ++idx) {
    NewRequest wanted = request(static_cast<RequestId>(idx + 1), 7000, num_new);
    wanted.kept = kept;
    EXPECT_EQ(scheduler.add(std::move(wanted)), AddResult::kQueued);
  }
  std::vector<RequestId> in;
  const auto step = [&] {
    const StepPlan plan = scheduler.next_step();
    EXPECT_TRUE(plan.preempted.empty());
    for (const SeqWork& work : plan.work) {
      if (!work.prompt_done) continue;
      if (kept < 7000) scheduler.compact(work.id);
      in.push_back(work.id);
    }
    return !plan.empty();
  };
  while (step()) {
  }
  const auto fit = static_cast<int32_t>(in.size());
  for (int32_t idx = fit; idx < count; ++idx) scheduler.cancel(static_cast<RequestId>(idx + 1));
  for (int32_t token = 0; token < num_new; ++token) {
    for (const RequestId id : in) scheduler.append_token(id, token);
    step();
  }
  scheduler.check_integrity();
  return fit;
}

// Memory is what a request that keeps a budget of its prompt is made for. The lane of page bounds
// (e5m2, pages of 4) makes a page 9/8 as large, so of the same bytes there are 8/9 as many; one
// prompt at a time is held whole.
TEST(SchedulerMemoryTest, NineTimesAsManyFitThatKeep512Of7000) {
  constexpr int32_t kDense = 10;
  constexpr int32_t kPages = kDense * 221;  // of 32 tokens, for 7,064 each
  EXPECT_EQ(number_that_fit(kPages, 2 * kDense, 7000, 64), kDense);
  EXPECT_GE(number_that_fit(kPages * 8 / 9, 12 * kDense, 512, 64), 9 * kDense);
}

TEST(SchedulerConfigTest, RefusesSettingsThatCouldNotGoOn) {
  kv::PageAllocator allocator(4);
  const auto refused = [&](auto change) {
    SchedulerConfig config = kConfig;
    change(config);
    EXPECT_THROW(Scheduler(config, allocator, nullptr), Error);
  };
  refused([](SchedulerConfig& c) { c.max_batch_size = 0; });
  refused([](SchedulerConfig& c) { c.prefill_chunk = 3; });
  refused([](SchedulerConfig& c) { c.max_step_tokens = 3; });
  refused([](SchedulerConfig& c) { c.chunk_multiple = 0; });
  refused([](SchedulerConfig& c) { c.page_size = 0; });
  refused([](SchedulerConfig& c) { c.max_queue = 0; });
  kv::PrefixIndex other(allocator, 8);
  EXPECT_THROW(Scheduler(kConfig, allocator, &other), Error);
}

class FewRowsTest : public SchedulerTest {
 protected:
  FewRowsTest()
      : SchedulerTest(32, {.max_batch_size = 8,
                           .max_step_tokens = 6,
                           .prefill_chunk = 4,
                           .chunk_multiple = 4,
                           .page_size = 4}) {}
};

// Decodes that come back from a pause leave too few rows for a chunk. New requests would become
// decodes too and could keep the prompt waiting for ever.
TEST_F(FewRowsTest, NobodyIsLetInWhileAPromptWaitsForRows) {
  scheduler.add(request(1, 1, 9, 10));
  scheduler.add(request(2, 1, 9, 20));
  scheduler.next_step();
  scheduler.add(request(3, 12, 9, 30));
  scheduler.add(request(4, 1, 9, 50));
  EXPECT_EQ(scheduler.next_step().admitted, (std::vector<RequestId>{3, 4}));
  for (const RequestId id : {1, 2, 4}) scheduler.append_token(id, 0);
  scheduler.add(request(5, 1, 9, 60));
  StepPlan plan = scheduler.next_step();
  EXPECT_TRUE(plan.admitted.empty());
  ASSERT_EQ(plan.work.size(), 3U);
  EXPECT_EQ(plan.work[0].phase, Phase::kDecode) << "3 rows are left, fewer than a chunk";
  scheduler.finish(1);
  plan = scheduler.next_step();
  EXPECT_EQ(plan.work.at(0).id, 3U);
  EXPECT_EQ(plan.admitted, std::vector<RequestId>{5});
}

class SmallPoolTest : public SchedulerTest {
 protected:
  SmallPoolTest() : SchedulerTest(5) {}
};

TEST_F(SmallPoolTest, TheLatestIsPreemptedAndReplaysItsTokens) {
  scheduler.add(request(1, 4, 12));
  scheduler.add(request(2, 4, 8, 200));
  StepPlan plan = scheduler.next_step();
  ASSERT_EQ(plan.admitted, (std::vector<RequestId>{1, 2}));
  std::vector<int32_t> second;  // tokens of request 2 before it lost its pages
  while (plan.preempted.empty()) {
    for (const SeqWork& work : plan.work) {
      ASSERT_TRUE(work.sample);
      const int32_t token = 1000 * static_cast<int32_t>(work.id) + work.start;
      scheduler.append_token(work.id, token);
      if (work.id == 2) second.push_back(token);
    }
    plan = scheduler.next_step();
  }
  // Pages of 4, five of them: both hold two, and at position 8 the first takes the last one.
  EXPECT_EQ(plan.preempted, std::vector<RequestId>{2});
  EXPECT_EQ(scheduler.num_running(), 1);
  EXPECT_EQ(scheduler.page_table(2).size(), 0U);
  EXPECT_EQ(scheduler.num_tokens(2), 4 + static_cast<int32_t>(second.size()));
  scheduler.cancel(1);

  plan = scheduler.next_step();
  ASSERT_EQ(plan.admitted, std::vector<RequestId>{2});
  expect(plan.work.at(0), {.id = 2, .start = 0, .count = 4, .prompt_done = true});
  for (size_t idx = 0; idx < second.size(); ++idx) {
    plan = scheduler.next_step();
    const auto position = 4 + static_cast<int32_t>(idx);
    EXPECT_EQ(scheduler.token(2, position), second[idx]);
    expect(plan.work.at(0), {.id = 2,
                             .phase = Phase::kDecode,
                             .start = position,
                             .count = 1,
                             .sample = idx + 1 == second.size()});
  }
}

TEST_F(SmallPoolTest, NobodyIsLetInWhoWouldBePreemptedAtOnce) {
  scheduler.add(request(1, 4, 12));
  scheduler.next_step();
  scheduler.append_token(1, 0);
  scheduler.add(request(2, 8, 1, 200));  // three pages, which are free until 1 needs its next
  StepPlan plan = scheduler.next_step();
  EXPECT_TRUE(plan.admitted.empty());
  scheduler.finish(1);
  EXPECT_EQ(scheduler.next_step().admitted, std::vector<RequestId>{2});
}

TEST_F(SmallPoolTest, PrefixPagesGoBeforeRequestsDo) {
  scheduler.add(request(1, 8, 0));
  scheduler.next_step();
  scheduler.finish(1);
  ASSERT_EQ(prefix.num_pages(), 2);
  scheduler.add(request(2, 19, 1, 500));
  StepPlan plan = scheduler.next_step();
  EXPECT_EQ(plan.work.at(0).count, 16);
  plan = scheduler.next_step();
  EXPECT_TRUE(plan.work.at(0).prompt_done);
  EXPECT_EQ(allocator.num_free(), 0);
}

TEST_F(SmallPoolTest, NobodyOvertakesTheHeadOfTheQueue) {
  scheduler.add(request(1, 8, 8));
  scheduler.next_step();
  scheduler.append_token(1, 0);
  scheduler.add(request(2, 16, 4, 200));  // needs the whole pool
  scheduler.add(request(3, 1, 1, 300));   // would fit now
  for (int step = 0; step < 7; ++step) {
    const StepPlan plan = scheduler.next_step();
    ASSERT_TRUE(plan.admitted.empty());
    scheduler.append_token(1, 0);
  }
  scheduler.finish(1);
  EXPECT_EQ(scheduler.next_step().admitted, std::vector<RequestId>{2});
}

}  // namespace
}  // namespace foveal::scheduler
