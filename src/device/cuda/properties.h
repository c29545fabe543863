#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace foveal::cuda {

/// What choosers of kernel configurations go by.
struct DeviceProperties {
  std::string name;
  int major = 0;  ///< compute capability
  int minor = 0;
  int num_sms = 0;
  int64_t l2_bytes = 0;
  int64_t memory_bytes = 0;
  double memory_gbs = 0;        ///< GB/s by the data sheet: clock times width; 0: not known
  size_t max_shared_bytes = 0;  ///< a block, opted in
  int driver_version = 0;       ///< of CUDA, 13000 for 13.0
};

/// Of GPU `index`; read once and kept. Any thread. Throws kInternal when the GPU does not answer.
const DeviceProperties& device_properties(int index);

/// The calling thread's current GPU (Stream::make_current).
int current_device();

}  // namespace foveal::cuda
