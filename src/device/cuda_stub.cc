#include "base/error.h"
#include "device/backend.h"

namespace foveal::cuda {
namespace {

[[noreturn]] void absent() {
  fail(ErrorKind::kUnsupported, "device", "got cuda; need cpu (CUDA is not in this build)");
}

}  // namespace

bool in_build() { return false; }
std::byte* allocate(Device /*device*/, size_t /*bytes*/) { absent(); }
void release(Device /*device*/, std::byte* /*data*/) {}
int64_t available_memory(Device /*device*/) { absent(); }

}  // namespace foveal::cuda
