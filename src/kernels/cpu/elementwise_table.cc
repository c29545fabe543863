#include "kernels/cpu/elementwise_cpu.h"
#include "kernels/cpu/isa.h"

namespace foveal::kernels::cpu {

const ElementwiseTable& elementwise_table() {
#if defined(__x86_64__)
  switch (active_isa()) {
    case Isa::kAvx512Bf16:
      return avx512bf16::elementwise_rows;
    case Isa::kAvx512:
      return avx512::elementwise_rows;
    case Isa::kAvx2:
      return avx2::elementwise_rows;
    case Isa::kPortable:
      break;
  }
#endif
  return portable::elementwise_rows;
}

}  // namespace foveal::kernels::cpu
