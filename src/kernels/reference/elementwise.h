#pragma once

#include <cstdint>
#include <vector>

#include "kernels/elementwise.h"

namespace foveal::kernels::reference {

/// Scalar loops in double over the same params; results are returned as dense [m, n], the params'
/// outputs are left alone.
std::vector<double> rms_norm(const RmsNormParams& params);
std::vector<double> rope(const RopeParams& params);
std::vector<double> gated_act(const GatedActParams& params);
double activation(double x, Activation act);

/// [m, num_experts]: the softmax that moe_route chooses from.
std::vector<double> router_softmax(const MoeRouteParams& params);

}  // namespace foveal::kernels::reference
