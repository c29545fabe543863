#include "kernels/cpu/gemm_parts.h"
#include "kernels/cpu/simd/unpack.h"

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {
namespace {

void dequantize(DType dtype, const uint8_t* row, int64_t k, float* out) {
  unpack_row(dtype, row, 0, k, k, out);
}

/// The kernels fetch kFetchAhead ahead, so nobody asks for a stream's beginning but this.
void warm(const uint8_t* weight, int64_t bytes) {
  fetch(weight, 0, bytes < kFetchAhead ? bytes : kFetchAhead);
}

}  // namespace

extern const GemmKernels kGemmKernels;
const GemmKernels kGemmKernels{
    .tile_rows = kTileRows,
    .tile_cols = kTileCols,
    .step = kStep,
    .bf16_decode = kStep == 2,
    .pack_rows = pack_rows,
    .prefill = prefill_panels,
    .exact = dot_exact,
    .decode = decode_bf16,
    .round_row = round_row,
    .warm = warm,
    .dequantize = dequantize,
};

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS
