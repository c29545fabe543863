#include "kernels/cuda/sm90/decode_instances.cuh"

namespace foveal::kernels::cuda {

const void* decode_kernel_bf16(const DecodeShape& shape) {
  return decode_instance<AllPages, foveal::cuda::Bf16>(shape);
}

}  // namespace foveal::kernels::cuda
