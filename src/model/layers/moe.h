#pragma once

#include <optional>
#include <vector>

#include "model/layers/mlp.h"

namespace foveal::model {

/// A router over experts that are each a gated MLP, and one that every row takes besides where the
/// config has it; a row's experts are summed in ascending expert order, so its result does not
/// depend on which rows share the step.
class Moe {
 public:
  /// `prefix`: "model.layers.3.mlp.".
  Moe(const Checkpoint& checkpoint, const ModelConfig& config, const std::string& prefix);

  void run(const StepRows& rows, const float* x, const BlockOutput& output, LayerScratch& scratch,
           Stream& stream);

 private:
  void route(const StepRows& rows, const float* x, Stream& stream);
  StepRows gather(int32_t expert, const StepRows& rows, const float* x, float* gathered);

  int32_t hidden_ = 0;
  int32_t experts_per_token_ = 0;
  bool normalize_ = false;
  RouterConfig routing_;
  Linear router_;
  std::vector<float> router_bias_;  ///< [experts] where routing is by sigmoids
  std::vector<Mlp> experts_;
  std::optional<Mlp> shared_;
  Activation router_logits_, gathered_, produced_;
  std::vector<int32_t> indices_;  ///< [rows, experts_per_token]
  std::vector<float> weights_;    ///< likewise
  std::vector<int64_t> members_;  ///< rows of the expert at hand
  std::vector<float> shares_;     ///< and their weights
};

}  // namespace foveal::model
