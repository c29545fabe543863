#pragma once

#include "model/layers/attention_block.h"

namespace foveal::model {

/// down(act(gate(x)) * up(x)).
class Mlp {
 public:
  Mlp(Linear gate, Linear up, Linear down, kernels::Activation activation)
      : gate_(std::move(gate)),
        up_(std::move(up)),
        down_(std::move(down)),
        activation_(activation) {}

  /// `prefix`: "model.layers.3.mlp.".
  static Mlp load(const Checkpoint& checkpoint, const ModelConfig& config,
                  const DecoderTraits& traits, const std::string& prefix, int64_t intermediate);

  /// `x` [rows.total, hidden].
  void run(const StepRows& rows, const float* x, const BlockOutput& output, LayerScratch& scratch,
           Stream& stream) const;

 private:
  Linear gate_, up_, down_;
  kernels::Activation activation_;
};

}  // namespace foveal::model
