#pragma once

namespace foveal::kernels::cuda {

/// Blocks until all earlier work of the stream is done and visible. Every thread that reads or
/// writes what other kernels touch calls it first.
__device__ __forceinline__ void wait_for_previous() {
  asm volatile("griddepcontrol.wait;" ::: "memory");
}

/// Lets the next kernel of the stream start. It still waits, in `wait_for_previous`, for this one's
/// end. May come before this kernel's own wait: a kernel that ends has waited, so whoever waits for
/// it has waited for all before it; then several kernels ahead can fill their rings with weights.
__device__ __forceinline__ void let_next_start() {
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

}  // namespace foveal::kernels::cuda
