#pragma once

#include <cstdint>
#include <vector>

#include "kernels/elementwise.h"

namespace foveal::kernels::reference {

/// Scalar loops in double over the same params; results are returned as dense [m, n], the params'
/// outputs are left alone.
std::vector<double> rms_norm(const RmsNormParams& params);
std::vector<double> layer_norm(const LayerNormParams& params);
std::vector<double> rope(const RopeParams& params);
std::vector<double> gated_act(const GatedActParams& params);
double activation(double x, Activation act);

/// [m, num_experts]: the softmax that moe_route chooses from.
std::vector<double> router_softmax(const MoeRouteParams& params);

/// DeepSeek-V3's routing of one row by the plain words of its paper, over sorted lists: the chosen
/// experts in descending order of choice, and their weights.
struct RoutedRow {
  std::vector<int32_t> experts;
  std::vector<double> weights;
};
RoutedRow route_by_sigmoids(const MoeRouteParams& params, int64_t row);

}  // namespace foveal::kernels::reference
