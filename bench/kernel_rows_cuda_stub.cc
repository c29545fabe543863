#include "base/check.h"
#include "kernel_rows.h"

// A build without CUDA: parse_device lets nobody come here.

namespace foveal::bench {

class CudaRows {};

CudaKernels::CudaKernels() {
  fail(ErrorKind::kUnsupported, "device", "got cuda; need a build with CUDA");
}
CudaKernels::~CudaKernels() = default;

const Roof& CudaKernels::roof() const {
  fail(ErrorKind::kUnsupported, "device", "got cuda; need a build with CUDA");
}

void CudaKernels::time(const std::vector<std::string>&, const KernelShape&,
                       const std::function<void(const KernelRow&)>&) {
  fail(ErrorKind::kUnsupported, "device", "got cuda; need a build with CUDA");
}

}  // namespace foveal::bench
