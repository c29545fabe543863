#include "kernels/cuda/launch.h"

#include <cuda_runtime_api.h>

#include <array>
#include <atomic>

#include "base/check.h"

namespace foveal::kernels::cuda {

void* native_stream(const Stream& stream, std::string_view kernel) {
  FOVEAL_CHECK(stream.device().kind == DeviceKind::kCuda, ErrorKind::kUnsupported, kernel,
               "got device {}; need a cuda device", device_name(stream.device()));
  return stream.native();
}

void check_cuda(int error, std::string_view kernel) {
  if (error == cudaSuccess) return;
  const auto code = static_cast<cudaError_t>(error);
  fail(ErrorKind::kInternal, kernel, "got CUDA error {} ({})", cudaGetErrorName(code),
       cudaGetErrorString(code));
}

int num_multiprocessors() {
  constexpr int kMaxDevices = 64;
  static std::array<std::atomic<int>, kMaxDevices> known{};
  int device = 0;
  check_cuda(cudaGetDevice(&device), "cudaGetDevice");
  std::atomic<int>& count = known.at(static_cast<size_t>(device));
  if (count == 0) {
    int value = 0;
    check_cuda(cudaDeviceGetAttribute(&value, cudaDevAttrMultiProcessorCount, device),
               "cudaDeviceGetAttribute");
    count = value;
  }
  return count;
}

}  // namespace foveal::kernels::cuda
