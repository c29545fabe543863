#include "base/check.h"
#include "kernels/cpu/gemm_kernels.h"
#include "kernels/cpu/isa.h"
#include "kernels/elementwise.h"

namespace foveal::kernels {

void dequantize_row(const WeightView& weight, int64_t row, float* out) {
  FOVEAL_CHECK(row >= 0 && row < weight.rows, ErrorKind::kInvalidArgument, "dequantize",
               "got row {} of {}; need one that exists", row, weight.rows);
  const auto bytes = row_bytes(weight.dtype, weight.cols);
  FOVEAL_CHECK(is_weight_dtype(weight.dtype) && bytes && weight.row_bytes >= *bytes,
               ErrorKind::kInvalidArgument, "dequantize",
               "got {} columns of {} in {} bytes; need whole blocks of a weight dtype", weight.cols,
               dtype_name(weight.dtype), weight.row_bytes);
  cpu::gemm_kernels().dequantize(weight.dtype, reinterpret_cast<const uint8_t*>(weight.row(row)),
                                 weight.cols, out);
}

namespace cpu {

const GemmKernels& gemm_kernels() {
  switch (active_isa()) {
#if defined(__x86_64__)
    case Isa::kAvx2:
      return avx2::kGemmKernels;
    case Isa::kAvx512:
      return avx512::kGemmKernels;
    case Isa::kAvx512Bf16:
      return avx512bf16::kGemmKernels;
#endif
    default:
      return portable::kGemmKernels;
  }
}

}  // namespace cpu
}  // namespace foveal::kernels
