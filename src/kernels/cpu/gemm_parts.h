#pragma once

#include "kernels/cpu/gemm_kernels.h"

/// The functions of one level, which gemm_table_cpu.cc gathers into its table.
namespace foveal::kernels::cpu::FOVEAL_ISA_NS {

void pack_rows(const float* x, int64_t x_stride, int64_t rows, int64_t k, uint32_t* out);
/// Steps [begin, begin + steps) of one panel (slice.n <= kTileCols) into task.panel, zeros after
/// the end of k.
void pack_panel(const PrefillTask& task, int64_t begin, int64_t steps);
void prefill_panels(const PrefillTask& task);
void dot_exact(const DotTask& task);
void decode_bf16(const DotTask& task);
void round_row(const float* x, int64_t k, int64_t padded_k, uint16_t* x_bf16, float* x_sums);

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS
