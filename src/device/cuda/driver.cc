#include "device/cuda/driver.h"

#include <cuda_runtime_api.h>

#include "base/check.h"
#include "device/cuda/check.h"

namespace foveal::cuda {
namespace {

template <class Function>
void look_up(const char* name, unsigned version, Function& function) {
  void* address = nullptr;
  cudaDriverEntryPointQueryResult result{};
  check(cudaGetDriverEntryPointByVersion(name, &address, version, cudaEnableDefault, &result),
        "cudaGetDriverEntryPointByVersion");
  FOVEAL_CHECK(result == cudaDriverEntryPointSuccess && address != nullptr, ErrorKind::kUnsupported,
               "cuda", "got a driver without {}; need one of CUDA {} or newer", name,
               version / 1000);
  function = reinterpret_cast<Function>(address);
}

}  // namespace

const Driver& driver() {
  static const Driver kDriver = [] {
    Driver table;
    look_up("cuTensorMapEncodeTiled", 12000, table.tensor_map_encode_tiled);
    return table;
  }();
  return kDriver;
}

void check(CUresult status, std::string_view call) {
  FOVEAL_CHECK(status == CUDA_SUCCESS, ErrorKind::kInternal, "cuda",
               "got CUDA driver error {} from {}; need success", static_cast<int>(status), call);
}

}  // namespace foveal::cuda
