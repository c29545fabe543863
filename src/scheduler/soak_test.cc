#include <gtest/gtest.h>

#include "scheduler/trace_sim.h"

namespace foveal::scheduler {
namespace {

// Longer traces: many requests live through many evictions and preemptions in one scheduler.
TEST(SchedulerSoak, LongTracesBreakNoRule) {
  const uint32_t base = std::random_device{}();
  for (uint32_t trace = 0; trace < 300; ++trace) {
    const uint32_t seed = base + trace;
    std::mt19937 rng(seed);
    TraceOptions options = random_options(rng);
    options.num_requests = 3000;
    options.num_pages += 16;
    options.config.max_queue = 64;
    TraceSim sim(options, seed);
    try {
      sim.run();
    } catch (const std::exception& error) {
      FAIL() << "seed " << seed << ": " << error.what();
    }
  }
}

}  // namespace
}  // namespace foveal::scheduler
