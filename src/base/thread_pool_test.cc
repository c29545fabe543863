#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <vector>

#include "foveal/error.h"

namespace foveal {
namespace {

TEST(ThreadPool, EveryIndexOnce) {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.num_threads(), threads);
    for (const int64_t count : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> hits(static_cast<size_t>(count));
      pool.run(count, [&](int64_t idx, int worker) {
        EXPECT_GE(worker, 0);
        EXPECT_LT(worker, threads);
        hits[static_cast<size_t>(idx)].fetch_add(1);
      });
      for (const auto& hit : hits) EXPECT_EQ(hit.load(), 1);
    }
  }
}

TEST(ThreadPool, ManyShortRegions) {
  ThreadPool pool(3);
  int64_t sum = 0;
  for (int region = 0; region < 20000; ++region) {
    std::atomic<int64_t> part{0};
    pool.run(4, [&](int64_t idx, int) { part.fetch_add(idx); });
    sum += part.load();
  }
  EXPECT_EQ(sum, 20000 * 6);
}

// Far more threads than cores: most wake when their region is over, and must not touch the next
// one.
TEST(ThreadPool, LateWorkersTakeNothing) {
  ThreadPool pool(32);
  for (int region = 1; region <= 2000; ++region) {
    const int64_t count = 2 + region % 7;
    std::vector<std::atomic<int>> hits(static_cast<size_t>(count));
    pool.run(count, [&](int64_t idx, int) { hits.at(static_cast<size_t>(idx)).fetch_add(1); });
    for (const auto& hit : hits) ASSERT_EQ(hit.load(), 1) << region;
  }
}

TEST(ThreadPool, WakesAfterSleep) {
  ThreadPool pool(2);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  std::atomic<int> hits{0};
  pool.run(64, [&](int64_t, int) { hits.fetch_add(1); });
  EXPECT_EQ(hits.load(), 64);
}

TEST(ThreadPool, RethrowsAndStaysUsable) {
  ThreadPool pool(4);
  EXPECT_THROW(pool.run(100,
                        [](int64_t idx, int) {
                          if (idx == 13) throw std::runtime_error("13");
                        }),
               std::runtime_error);
  std::atomic<int> hits{0};
  pool.run(10, [&](int64_t, int) { hits.fetch_add(1); });
  EXPECT_EQ(hits.load(), 10);
}

TEST(ThreadPool, RefusesAbsurdSizes) {
  EXPECT_THROW(ThreadPool(-1), Error);
  EXPECT_THROW(ThreadPool(100000), Error);
}

}  // namespace
}  // namespace foveal
