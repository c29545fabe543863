#include "kernels/cuda/launch.h"

#include "base/check.h"
#include "device/cuda/properties.h"

namespace foveal::kernels::cuda {

void* native_stream(const Stream& stream, std::string_view kernel) {
  FOVEAL_CHECK(stream.device().kind == DeviceKind::kCuda, ErrorKind::kUnsupported, kernel,
               "got device {}; need a cuda device", device_name(stream.device()));
  return stream.native();
}

bool has_fast_memory() {
  constexpr double kFastGbs = 4200;
  return foveal::cuda::device_properties(foveal::cuda::current_device()).memory_gbs > kFastGbs;
}

int num_multiprocessors() {
  return foveal::cuda::device_properties(foveal::cuda::current_device()).num_sms;
}

}  // namespace foveal::kernels::cuda
