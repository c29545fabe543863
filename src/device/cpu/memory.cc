#include <sys/mman.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <string>

#include "device/backend.h"

namespace foveal::cpu {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;

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

}  // namespace

std::byte* allocate(size_t bytes) {
  // mmap gives zeroed pages lazily; MAP_NORESERVE is not used, so an impossible size fails here.
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return nullptr;
  if (bytes >= kHugePage) madvise(data, bytes, MADV_HUGEPAGE);  // advice: failing is harmless
  return static_cast<std::byte*>(data);
}

void release(std::byte* data, size_t bytes) { munmap(data, bytes); }

int64_t available_memory() {
  int64_t available = system_available();
  const auto limit = read_number("/sys/fs/cgroup/memory.max");
  const auto used = read_number("/sys/fs/cgroup/memory.current");
  if (limit && used) {
    // The page cache counts as used but gives way: a mapped model would otherwise count twice.
    const int64_t held = *used - cgroup_page_cache();
    available = std::min(available, std::max<int64_t>(0, *limit - held));
  }
  return available;
}

}  // namespace foveal::cpu
