#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "model/checkpoint.h"

namespace foveal::model {

/// A matrix as a device is to hold it: with scales in e4m3, else in bf16.
struct StoredMatrix {
  WeightView weight;
  std::optional<Fp8Scales> scales;
  std::string name = {};  ///< the checkpoint's, of a matrix with scales

  /// Whether a scale is a block's of 128 rows and columns, not a row's or all values'.
  bool by_block() const { return scales && scales->cols < weight.cols; }
};

/// Which matrices of a checkpoint a device holds in e4m3, decided here for whoever plans, loads or
/// shows them: those with scales a tensor, a row or a block of 128 x 128, and rows of whole 16s. A
/// layer's experts lie side by side, so that they are all kept or none, by block in whole blocks.
/// The others are expanded to bf16, as is what products in e4m3 never see: embeddings, the output
/// matrix, and what latent attention absorbs.
class Fp8OnDevice {
 public:
  /// The checkpoint is borrowed.
  explicit Fp8OnDevice(const Checkpoint& checkpoint);

  /// The matrix as it is stored where it is kept so; else nothing.
  std::optional<StoredMatrix> stored(std::string_view name) const;
  /// The names of those. Layers that the model leaves out are in neither list.
  const std::set<std::string, std::less<>>& kept() const { return kept_; }
  /// Those in e4m3 that are expanded, by name: why, as "rows of 40 values, no multiple of 16".
  const std::map<std::string, std::string, std::less<>>& expanded() const { return expanded_; }
  /// The same in one line, by reason: "2 (model.layers.0.self_attn.kv_b_proj.weight, ...): latent
  /// attention takes them apart; ..."; empty where there are none.
  std::string summary() const;

 private:
  /// Expanded for a reason, or kept without one.
  void put(const std::string& name, const std::string& why);

  const Checkpoint& checkpoint_;
  std::set<std::string, std::less<>> kept_;
  std::map<std::string, std::string, std::less<>> expanded_;
};

}  // namespace foveal::model
