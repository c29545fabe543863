#include "kernels/cuda/sm90/decode_instances.cuh"

namespace foveal::kernels::cuda {

const void* decode_listed_kernel_f16(const DecodeShape& shape) {
  return decode_instance<ListedPages, foveal::cuda::F16>(shape);
}

}  // namespace foveal::kernels::cuda
