#include "device/cuda/check.h"

#include <cuda_runtime_api.h>

#include "base/error.h"

namespace foveal::cuda {
namespace {

// For a person who reads the error of a kernel that ran long after its launch.
thread_local const char* last_kernel = "";

// Errors that a kernel raises while it runs; after them the process's context is of no more use.
bool is_from_kernel(cudaError_t status) {
  switch (status) {
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
      return true;
    default:
      return false;
  }
}

}  // namespace

void check(cudaError_t status, std::string_view call) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // else the next check would report it again
  if (status == cudaErrorMemoryAllocation) {
    fail(ErrorKind::kOutOfMemory, "cuda", "got no memory in {}; need more free on the GPU", call);
  }
  if (is_from_kernel(status)) {
    fail(ErrorKind::kInternal, "cuda",
         "got {} ({}) in {} from an earlier kernel, the last launched was {}; need a new process "
         "(CUDA_LAUNCH_BLOCKING=1 finds the kernel)",
         cudaGetErrorName(status), cudaGetErrorString(status), call,
         *last_kernel == '\0' ? "none of this thread" : last_kernel);
  }
  fail(ErrorKind::kInternal, "cuda", "got {} ({}) from {}; need success", cudaGetErrorName(status),
       cudaGetErrorString(status), call);
}

void check_launch(const char* kernel) { check_launch(cudaGetLastError(), kernel); }

void check_launch(cudaError_t status, const char* kernel) {
  if (status == cudaSuccess) {
    last_kernel = kernel;
    return;
  }
  cudaGetLastError();
  fail(status == cudaErrorMemoryAllocation ? ErrorKind::kOutOfMemory : ErrorKind::kInternal, kernel,
       "got {} ({}) at launch; need a launch that the GPU takes", cudaGetErrorName(status),
       cudaGetErrorString(status));
}

}  // namespace foveal::cuda
