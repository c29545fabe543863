#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "calibrate/kl.h"

namespace foveal::calibrate {

/// What a model loses when this layer alone skips tiles.
struct LayerCost {
  int32_t layer = 0;
  double kl = 0;
  double left_out = 0;  ///< of all layers' query-key pairs, mean of the phases that skip
};

/// Which layers stay dense so that the others keep to a KL, and what that does.
struct Exclusion {
  double budget_kl = 0;
  int64_t length = 0;                 ///< tokens of a window
  double kl = 0;                      ///< of all layers together, on the windows that decide
  std::vector<LayerCost> alone;       ///< by layer; empty where none had to be asked
  std::vector<int32_t> dense_layers;  ///< ascending
  /// On windows that the choice did not see: without exclusions, and with them.
  KlResult before, after;
};

/// Share of query-key pairs left out, mean over the phases that leave out any.
double left_out(const SparsityReport& sparsity);

/// Layers in the order in which they should become dense: most KL first. Not for what they leave
/// out: any difference at all costs some 2e-4 by rounding, which a layer that hardly skips pays
/// too.
std::vector<int32_t> exclusion_order(std::vector<LayerCost> costs);

/// The smallest count of 1..most whose KL, as `kl_of` measures it, is within the budget, taking KL
/// to fall with the count: bisection. Nothing where not even `most` is.
std::optional<int64_t> fewest_within(double budget, int64_t most,
                                     const std::function<double(int64_t)>& kl_of);

/// Measures `sparse` (Skip Softmax with its factors) on every second window; where its KL exceeds
/// the budget, each layer alone, then how many of the worst must stay dense. `in_time` is asked
/// before each layer: those that it leaves out become dense last. Layers that skip nothing are not
/// asked. Throws kInvalidArgument where no
/// choice keeps to the budget.
Exclusion exclude_layers(const KlToDense& dense, const SkipSoftmaxAttentionConfig& sparse,
                         int32_t num_layers, double budget_kl,
                         const std::function<bool()>& in_time);

}  // namespace foveal::calibrate
