#include "base/error.h"
#include "device/backend.h"

// A build without CUDA: there are no GPUs, so nothing else here can be reached with a valid device.

namespace foveal::cuda {
namespace {

[[noreturn]] void absent() {
  fail(ErrorKind::kUnsupported, "device", "got cuda; need cpu (CUDA is not in this build)");
}

}  // namespace

GpuList list_gpus() { return {.problem = "CUDA is not in this build", .gpus = {}}; }

std::byte* allocate(Device /*device*/, size_t /*bytes*/) { absent(); }
void release(Device /*device*/, std::byte* /*data*/) noexcept {}
int64_t available_memory(Device /*device*/) { absent(); }
std::byte* allocate_pinned(Device /*device*/, size_t /*bytes*/) { absent(); }
void release_pinned(std::byte* /*data*/) noexcept {}

void make_current(Device /*device*/) { absent(); }

void* create_stream(Device /*device*/) { absent(); }
void destroy_stream(void* /*stream*/) noexcept {}
void synchronize_stream(void* /*stream*/) { absent(); }
bool is_capturing(void* /*stream*/) { absent(); }
void copy(void* /*to*/, const void* /*from*/, size_t /*bytes*/, void* /*stream*/) { absent(); }
void fill(void* /*to*/, int /*value*/, size_t /*bytes*/, void* /*stream*/) { absent(); }

void* create_event(Device /*device*/, bool /*timed*/) { absent(); }
void destroy_event(void* /*event*/) noexcept {}
void record_event(void* /*event*/, void* /*stream*/) { absent(); }
void wait_event(void* /*stream*/, void* /*event*/) { absent(); }
bool is_event_done(void* /*event*/) { absent(); }
void synchronize_event(void* /*event*/) { absent(); }
float elapsed_ms(void* /*from*/, void* /*to*/) { absent(); }

void begin_capture(void* /*stream*/) { absent(); }
void* end_capture(void* /*stream*/) { absent(); }
void abandon_capture(void* /*stream*/) noexcept {}
void launch_graph(void* /*graph*/, void* /*stream*/) { absent(); }
void destroy_graph(void* /*graph*/) noexcept {}

}  // namespace foveal::cuda
