#include "kernels/cuda/sm90/decode_instances.cuh"

namespace foveal::kernels::cuda {

const void* decode_listed_kernel_e4m3(const DecodeShape& shape) {
  return decode_instance<ListedPages, E4m3>(shape);
}

}  // namespace foveal::kernels::cuda
