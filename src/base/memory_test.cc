#include "base/memory.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace foveal {
namespace {

TEST(Memory, AvailableIsPositive) { EXPECT_GT(available_memory_bytes(), 0); }

// In a child, whose limit does not stay.
int with_limit(rlim_t bytes, int64_t most) {
  const pid_t child = fork();
  if (child == 0) {
    const rlimit limit{bytes, bytes};
    if (setrlimit(RLIMIT_AS, &limit) != 0) _exit(2);
    const int64_t available = available_memory_bytes();
    _exit(available >= 0 && available <= most ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(Memory, AnAddressSpaceLimitCounts) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "the sanitizer's shadow is larger than any limit";
#endif
  const rlim_t limit = rlim_t{1} << 30;
  EXPECT_EQ(with_limit(limit, (int64_t{1} << 30) - (1 << 20)), 0);
}

}  // namespace
}  // namespace foveal
