#pragma once

#include <vector>

#include "world.h"

namespace foveal::contract {

/// Dense causal attention in double over the plain rows, and how far a float32 engine may be off.
struct Reference {
  std::vector<double> out;        ///< [rows, num_heads, head_dim]
  std::vector<double> tolerance;  ///< [rows, num_heads]
};

Reference dense_reference(const World& world);

}  // namespace foveal::contract
