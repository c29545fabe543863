#include "base/memory.h"

#include <sys/mman.h>

#include "device/backend.h"

namespace foveal::cpu {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;

}  // namespace

std::byte* allocate(size_t bytes) {
  // mmap gives zeroed pages lazily; MAP_NORESERVE is not used, so an impossible size fails here.
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return nullptr;
  if (bytes >= kHugePage) madvise(data, bytes, MADV_HUGEPAGE);  // advice: failing is harmless
  return static_cast<std::byte*>(data);
}

void release(std::byte* data, size_t bytes) { munmap(data, bytes); }

int64_t available_memory() { return available_memory_bytes(); }

}  // namespace foveal::cpu
