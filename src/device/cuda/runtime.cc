#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include "device/backend.h"
#include "device/cuda/check.h"

namespace foveal::cuda {
namespace {

/// Makes a device the thread's current one, and the earlier one again at the end.
class CurrentDevice {
 public:
  explicit CurrentDevice(Device device) {
    check(cudaGetDevice(&before_), "cudaGetDevice");
    if (before_ != device.index) check(cudaSetDevice(device.index), "cudaSetDevice");
  }
  ~CurrentDevice() { cudaSetDevice(before_); }
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;

 private:
  int before_ = 0;
};

cudaStream_t stream_of(void* stream) { return static_cast<cudaStream_t>(stream); }
cudaEvent_t event_of(void* event) { return static_cast<cudaEvent_t>(event); }

std::string driver_problem(cudaError_t status) {
  int version = 0;
  cudaDriverGetVersion(&version);
  if (version == 0) return "no CUDA driver is installed";
  if (status == cudaErrorInsufficientDriver) {
    return fmt::format("the CUDA driver is of CUDA {}.{}, needed is {}.{} or newer", version / 1000,
                       version % 1000 / 10, CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
  }
  if (status == cudaErrorNoDevice) return "the CUDA driver shows no GPU";
  return fmt::format("the CUDA driver does not start: {}", cudaGetErrorString(status));
}

}  // namespace

GpuList list_gpus() {
  GpuList list;
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess) {
    cudaGetLastError();
    list.problem = driver_problem(status);
    return list;
  }
  for (int index = 0; index < count; ++index) {
    cudaDeviceProp device{};
    check(cudaGetDeviceProperties(&device, index), "cudaGetDeviceProperties");
    list.gpus.push_back({.name = device.name, .major = device.major, .minor = device.minor});
  }
  return list;
}

std::byte* allocate(Device device, size_t bytes) {
  const CurrentDevice current(device);
  void* data = nullptr;
  const cudaError_t status = cudaMalloc(&data, bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return nullptr;
  }
  check(status, "cudaMalloc");
  // Waited for: our streams are not ordered with the default one, on which it is zeroed.
  cudaError_t zeroed = cudaMemsetAsync(data, 0, bytes, cudaStreamLegacy);
  if (zeroed == cudaSuccess) zeroed = cudaStreamSynchronize(cudaStreamLegacy);
  if (zeroed != cudaSuccess) cudaFree(data);
  check(zeroed, "cudaMemsetAsync of new memory");
  return static_cast<std::byte*>(data);
}

// What fails in a release is an error that an earlier call has reported, or the driver's shutdown.
void release(Device /*device*/, std::byte* data) noexcept { cudaFree(data); }

int64_t available_memory(Device device) {
  const CurrentDevice current(device);
  size_t available = 0;
  size_t total = 0;
  check(cudaMemGetInfo(&available, &total), "cudaMemGetInfo");
  return static_cast<int64_t>(available);
}

std::byte* allocate_pinned(Device device, size_t bytes) {
  const CurrentDevice current(device);
  void* data = nullptr;
  const cudaError_t status = cudaHostAlloc(&data, bytes, cudaHostAllocPortable);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return nullptr;
  }
  check(status, "cudaHostAlloc");
  return static_cast<std::byte*>(data);
}

void release_pinned(std::byte* data) noexcept { cudaFreeHost(data); }

void make_current(Device device) { check(cudaSetDevice(device.index), "cudaSetDevice"); }

void* create_stream(Device device) {
  const CurrentDevice current(device);
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  return stream;
}

void destroy_stream(void* stream) noexcept {
  cudaStreamSynchronize(stream_of(stream));  // what it works on may be freed next
  cudaStreamDestroy(stream_of(stream));
}

void synchronize_stream(void* stream) {
  check(cudaStreamSynchronize(stream_of(stream)), "cudaStreamSynchronize");
}

bool is_capturing(void* stream) {
  cudaStreamCaptureStatus status{};
  check(cudaStreamIsCapturing(stream_of(stream), &status), "cudaStreamIsCapturing");
  return status != cudaStreamCaptureStatusNone;
}

void copy(void* to, const void* from, size_t bytes, void* stream) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream_of(stream)), "cudaMemcpyAsync");
}

void fill(void* to, int value, size_t bytes, void* stream) {
  check(cudaMemsetAsync(to, value, bytes, stream_of(stream)), "cudaMemsetAsync");
}

void* create_event(Device device, bool timed) {
  const CurrentDevice current(device);
  cudaEvent_t event = nullptr;
  const unsigned flags = timed ? cudaEventDefault : cudaEventDisableTiming;
  check(cudaEventCreateWithFlags(&event, flags), "cudaEventCreateWithFlags");
  return event;
}

void destroy_event(void* event) noexcept { cudaEventDestroy(event_of(event)); }

void record_event(void* event, void* stream) {
  check(cudaEventRecord(event_of(event), stream_of(stream)), "cudaEventRecord");
}

void wait_event(void* stream, void* event) {
  check(cudaStreamWaitEvent(stream_of(stream), event_of(event), 0), "cudaStreamWaitEvent");
}

bool is_event_done(void* event) {
  const cudaError_t status = cudaEventQuery(event_of(event));
  if (status == cudaErrorNotReady) {
    cudaGetLastError();
    return false;
  }
  check(status, "cudaEventQuery");
  return true;
}

void synchronize_event(void* event) {
  check(cudaEventSynchronize(event_of(event)), "cudaEventSynchronize");
}

float elapsed_ms(void* from, void* to) {
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, event_of(from), event_of(to)), "cudaEventElapsedTime");
  return milliseconds;
}

}  // namespace foveal::cuda
