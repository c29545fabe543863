#include "device/cuda/properties.h"

#include <cuda_runtime_api.h>

#include <map>
#include <mutex>

#include "device/cuda/check.h"

namespace foveal::cuda {
namespace {

/// 0 where the driver does not tell.
double memory_rate(int index) {
  int clock_khz = 0;
  int width_bits = 0;
  const bool known =
      cudaDeviceGetAttribute(&clock_khz, cudaDevAttrMemoryClockRate, index) == cudaSuccess &&
      cudaDeviceGetAttribute(&width_bits, cudaDevAttrGlobalMemoryBusWidth, index) == cudaSuccess;
  if (!known) {
    cudaGetLastError();  // nobody's failure
    return 0;
  }
  constexpr double kTransfersAClock = 2;
  return kTransfersAClock * clock_khz * 1e3 * width_bits / 8 / 1e9;
}

DeviceProperties read_properties(int index) {
  cudaDeviceProp device{};
  check(cudaGetDeviceProperties(&device, index), "cudaGetDeviceProperties");
  int driver = 0;
  check(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
  return {.name = device.name,
          .major = device.major,
          .minor = device.minor,
          .num_sms = device.multiProcessorCount,
          .l2_bytes = device.l2CacheSize,
          .memory_bytes = static_cast<int64_t>(device.totalGlobalMem),
          .memory_gbs = memory_rate(index),
          .max_shared_bytes = device.sharedMemPerBlockOptin,
          .driver_version = driver};
}

}  // namespace

const DeviceProperties& device_properties(int index) {
  static std::mutex mutex;
  static std::map<int, DeviceProperties> known;  // its elements stay where they are
  const std::scoped_lock lock(mutex);
  const auto found = known.find(index);
  if (found != known.end()) return found->second;
  return known.emplace(index, read_properties(index)).first->second;
}

int current_device() {
  int index = 0;
  check(cudaGetDevice(&index), "cudaGetDevice");
  return index;
}

}  // namespace foveal::cuda
