#include "model/layers/mlp.h"

#include <array>

namespace foveal::model {

Mlp Mlp::load(const Checkpoint& checkpoint, const ModelConfig& config, const DecoderTraits& traits,
              const std::string& prefix, int64_t intermediate) {
  const int64_t hidden = config.hidden_size;
  const auto projection = [&](const char* name, int64_t rows, int64_t cols) {
    return load_linear(checkpoint, prefix + name, rows, cols, config.mlp_bias);
  };
  Linear down = projection("down_proj", hidden, intermediate);
  if (traits.fused_gate_up) {
    const Linear fused = projection("gate_up_proj", 2 * intermediate, hidden);
    return {slice_rows(fused, 0, intermediate), slice_rows(fused, intermediate, intermediate),
            std::move(down), config.activation};
  }
  return {projection("gate_proj", intermediate, hidden),
          projection("up_proj", intermediate, hidden), std::move(down), config.activation};
}

void Mlp::run(const StepRows& rows, const float* x, const BlockOutput& output,
              LayerScratch& scratch, Stream& stream) const {
  const int64_t hidden = gate_.weight.cols;
  const int64_t intermediate = gate_.weight.rows;
  float* gate = scratch.gate.reserve(stream.device(), rows.total, intermediate);
  float* up = scratch.up.reserve(stream.device(), rows.total, intermediate);
  std::array<kernels::GemmOutput, 2> gate_up{gate_.output(gate, intermediate),
                                             up_.output(up, intermediate)};
  linear(rows, x, hidden, hidden, gate_up, stream);
  kernels::gated_act({.gate = gate,
                      .up = up,
                      .y = gate,
                      .m = rows.total,
                      .n = intermediate,
                      .gate_stride = intermediate,
                      .up_stride = intermediate,
                      .y_stride = intermediate,
                      .act = activation_},
                     stream);
  std::array<kernels::GemmOutput, 1> down{down_.output(output.y, hidden, output.accumulate)};
  linear(rows, gate, intermediate, intermediate, down, stream);
}

}  // namespace foveal::model
