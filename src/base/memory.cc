#include "base/memory.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <string>

namespace foveal {
namespace {

std::optional<int64_t> read_number(const char* path) {
  std::ifstream file(path);
  int64_t value = 0;
  if (file >> value) return value;
  return std::nullopt;  // absent, or the word "max"
}

int64_t cgroup_page_cache() {
  std::ifstream file("/sys/fs/cgroup/memory.stat");
  std::string key;
  int64_t value = 0;
  int64_t cache = 0;
  while (file >> key >> value) {
    if (key == "inactive_file" || key == "active_file") cache += value;
  }
  return cache;
}

int64_t cgroup_available() {
  const auto limit = read_number("/sys/fs/cgroup/memory.max");
  const auto used = read_number("/sys/fs/cgroup/memory.current");
  if (!limit || !used) return std::numeric_limits<int64_t>::max();
  // The page cache counts as used but gives way: a mapped model would otherwise count twice.
  const int64_t held = *used - cgroup_page_cache();
  return std::max<int64_t>(0, *limit - held);
}

int64_t system_available() {
  std::ifstream file("/proc/meminfo");
  std::string key;
  int64_t kib = 0;
  std::string unit;
  while (file >> key >> kib >> unit) {
    if (key == "MemAvailable:") return kib * 1024;
  }
  return std::numeric_limits<int64_t>::max();
}

int64_t address_space_available() {
  rlimit limit{};
  if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) {
    return std::numeric_limits<int64_t>::max();
  }
  const int64_t held = read_number("/proc/self/statm").value_or(0) * sysconf(_SC_PAGESIZE);
  const auto most = std::min<rlim_t>(limit.rlim_cur, std::numeric_limits<int64_t>::max());
  return std::max<int64_t>(0, static_cast<int64_t>(most) - held);
}

}  // namespace

int64_t available_memory_bytes() {
  return std::min({system_available(), cgroup_available(), address_space_available()});
}

}  // namespace foveal
