#pragma once

#include "device/choose.h"
#include "device/device.h"

// What each backend provides. cpu/ always does; cuda functions come from cuda/ or, where the build
// has no CUDA, from cuda_stub.cc, so that callers have no #ifdef. Streams, events and graphs are
// opaque here, so that no CUDA header is needed above this folder.

namespace foveal::cpu {

/// Null when the system refuses. Zeroed.
std::byte* allocate(size_t bytes);
void release(std::byte* data, size_t bytes);
/// The smaller of what the system and this process's cgroup can still give.
int64_t available_memory();

}  // namespace foveal::cpu

namespace foveal::cuda {

GpuList list_gpus();

/// Null when the device has not that much. Zeroed.
std::byte* allocate(Device device, size_t bytes);
void release(Device device, std::byte* data) noexcept;
int64_t available_memory(Device device);
/// Host memory that the device copies from and to without the processor. Null when refused.
std::byte* allocate_pinned(Device device, size_t bytes);
void release_pinned(std::byte* data) noexcept;

/// The calling thread's CUDA calls go to this device from now on.
void make_current(Device device);

void* create_stream(Device device);
void destroy_stream(void* stream) noexcept;
void synchronize_stream(void* stream);
bool is_capturing(void* stream);
void copy(void* to, const void* from, size_t bytes, void* stream);
void fill(void* to, int value, size_t bytes, void* stream);

void* create_event(Device device, bool timed);
void destroy_event(void* event) noexcept;
void record_event(void* event, void* stream);
void wait_event(void* stream, void* event);
bool is_event_done(void* event);
void synchronize_event(void* event);
float elapsed_ms(void* from, void* to);

void begin_capture(void* stream);
/// The recorded work, ready to launch.
void* end_capture(void* stream);
void abandon_capture(void* stream) noexcept;
void launch_graph(void* graph, void* stream);
void destroy_graph(void* graph) noexcept;

}  // namespace foveal::cuda
