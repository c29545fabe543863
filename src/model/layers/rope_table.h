#pragma once

#include <cstdint>
#include <vector>

#include "base/thread_pool.h"
#include "model/config.h"

namespace foveal::model {

/// cos and sin of every angle a model uses, float32, [num_positions, rotary_dim / 2].
///
/// Frequencies and angles are rounded to float32 in the order Hugging Face's modeling_rope_utils
/// computes them, because at positions of some hundreds that rounding is most of a float32 run's
/// noise: an engine that agrees there agrees to about a fifth of the tolerance elsewhere.
class RopeTable {
 public:
  RopeTable(const RopeConfig& config, int32_t rotary_dim, int64_t num_positions, ThreadPool& pool);

  const float* cos() const { return cos_.data(); }
  const float* sin() const { return sin_.data(); }
  int64_t num_positions() const { return num_positions_; }

 private:
  int64_t num_positions_;
  std::vector<float> cos_;
  std::vector<float> sin_;
};

/// Inverse frequencies [rotary_dim / 2] after scaling, and the factor on cos and sin.
struct RopeFrequencies {
  std::vector<float> inverse;
  double attention_factor = 1.0;
};
RopeFrequencies rope_frequencies(const RopeConfig& config, int32_t rotary_dim,
                                 int64_t num_positions);

}  // namespace foveal::model
