#include "attention/dsa/dispatch.h"

#include "kernels/cpu/isa.h"

namespace foveal::attention::dsa {

using kernels::cpu::Isa;

const kernels::cpu::IndexKernels& index_kernels() {
#if defined(__x86_64__)
  switch (kernels::cpu::active_isa()) {
    case Isa::kPortable:
      return kernels::cpu::portable::kIndexKernels;
    case Isa::kAvx2:
      return kernels::cpu::avx2::kIndexKernels;
    case Isa::kAvx512:
      return kernels::cpu::avx512::kIndexKernels;
    case Isa::kAvx512Bf16:
      return kernels::cpu::avx512bf16::kIndexKernels;
  }
#endif
  return kernels::cpu::portable::kIndexKernels;
}

}  // namespace foveal::attention::dsa
