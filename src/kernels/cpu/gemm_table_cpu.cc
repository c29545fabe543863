#include "kernels/cpu/gemm_parts.h"
#include "kernels/cpu/simd/unpack.h"

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {
namespace {

void dequantize(DType dtype, const uint8_t* row, int64_t k, float* out) {
  unpack_row(dtype, row, 0, k, k, out);
}

}  // namespace

extern const GemmKernels kGemmKernels;
const GemmKernels kGemmKernels{
    .tile_rows = kTileRows,
    .tile_cols = kTileCols,
    .step = kStep,
    .bf16_decode = false,
    .pack_rows = pack_rows,
    .prefill = prefill_panel,
    .exact = dot_exact,
    .decode = dot_exact,
    .round_row = nullptr,
    .dequantize = dequantize,
};

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS
