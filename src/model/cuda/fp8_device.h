#pragma once

#include <optional>
#include <string_view>

#include "model/checkpoint.h"

namespace foveal::model {

/// A matrix as a device is to hold it: with scales in e4m3, else in bf16.
struct StoredMatrix {
  WeightView weight;
  std::optional<Fp8Scales> scales;

  /// Whether a scale is a block's of 128 rows and columns, not a row's or all values'.
  bool by_block() const { return scales && scales->cols < weight.cols; }
};

/// The matrix as it is stored where that is e4m3 that products on the device read: scales a tensor,
/// a row or a block of 128 x 128, rows of whole 16s; experts, which lie side by side, of whole
/// blocks. Nothing where it is not: it is to be expanded.
std::optional<StoredMatrix> stored_fp8(const Checkpoint& checkpoint, std::string_view name);

/// Whether the tensor is one of those, and not one that products never see: embeddings, the output
/// matrix, and what latent attention absorbs.
bool is_fp8_on_device(const Checkpoint& checkpoint, std::string_view name);

}  // namespace foveal::model
