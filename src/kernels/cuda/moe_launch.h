#pragma once

#include "kernels/cuda/moe.h"

namespace foveal::kernels::cuda {

void moe_route_launch(const MoeRouteParams& params, void* stream);
void moe_sort_launch(const MoeSortParams& params, void* stream);
void moe_combine_launch(const MoeCombineParams& params, void* stream);
void grouped_gemm_launch(const GroupedGemmParams& params, void* stream);
/// Of weights and x in e4m3, for many slots an expert.
void grouped_e4m3_launch(const GroupedGemmParams& params, void* stream);

inline constexpr int32_t kMaxExperts = 1024;
inline constexpr int32_t kMaxExpertsPerToken = 32;

}  // namespace foveal::kernels::cuda
