#include <gtest/gtest.h>

#include "scheduler/trace_sim.h"

namespace foveal::scheduler {
namespace {

TEST(SchedulerTrace, RandomTracesBreakNoRule) {
  constexpr uint32_t kTraces = 5000;
  int64_t preempted = 0;
  int64_t reused = 0;
  int64_t finished = 0;
  int64_t compacted = 0;
  const uint32_t base = std::random_device{}();
  for (uint32_t trace = 0; trace < kTraces; ++trace) {
    const uint32_t seed = base + trace;
    std::mt19937 rng(seed);
    TraceSim sim(random_options(rng), seed);
    try {
      sim.run();
    } catch (const std::exception& error) {
      FAIL() << "seed " << seed << ": " << error.what();
    }
    preempted += sim.num_preempted();
    reused += sim.num_reused_tokens();
    finished += sim.num_finished();
    compacted += sim.num_compacted();
  }
  // The traces must reach what they are for.
  EXPECT_GT(preempted, kTraces / 10);
  EXPECT_GT(reused, kTraces / 10);
  EXPECT_GT(finished, kTraces);
  EXPECT_GT(compacted, kTraces / 10);
}

TEST(SchedulerTrace, SameSeedSameCourse) {
  for (uint32_t seed = 1; seed <= 50; ++seed) {
    std::mt19937 rng(seed);
    const TraceOptions options = random_options(rng);
    TraceSim first(options, seed);
    TraceSim second(options, seed);
    first.run();
    second.run();
    EXPECT_EQ(first.num_steps(), second.num_steps()) << seed;
    EXPECT_EQ(first.num_reused_tokens(), second.num_reused_tokens()) << seed;
    EXPECT_EQ(first.num_preempted(), second.num_preempted()) << seed;
  }
}

}  // namespace
}  // namespace foveal::scheduler
