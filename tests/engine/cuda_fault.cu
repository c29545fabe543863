// Computes: nothing: writes through a null pointer, which costs the process its device.
// In/out:   none.
// Units:    none.
// Launch:   one thread.
// Needs:    any GPU.
// Numerics: none.
// Source:   ours.
// Measured: no.

#include "cuda_fault.h"

namespace foveal::test {
namespace {

__global__ void fault_kernel(int* nowhere) { *nowhere = 1; }

}  // namespace

void lose_device() {
  fault_kernel<<<1, 1>>>(nullptr);
  cudaDeviceSynchronize();
}

}  // namespace foveal::test
