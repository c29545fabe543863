#include "model/layers/weights.h"

#include "base/check.h"

namespace foveal::model {

Linear load_linear(const Checkpoint& checkpoint, const std::string& prefix, int64_t rows,
                   int64_t cols, bool need_bias) {
  Linear out;
  out.weight = checkpoint.matrix(prefix + ".weight", rows, cols);
  const bool has_bias = checkpoint.find(prefix + ".bias") != nullptr;
  if (need_bias || has_bias) out.bias = checkpoint.vector(prefix + ".bias", rows);
  return out;
}

Linear slice_rows(const Linear& fused, int64_t first, int64_t count) {
  FOVEAL_INVARIANT(first >= 0 && count > 0 && first + count <= fused.weight.rows);
  Linear out;
  out.weight = fused.weight;
  out.weight.data = fused.weight.row(first);
  out.weight.rows = count;
  if (!fused.bias.empty()) {
    out.bias.assign(fused.bias.begin() + first, fused.bias.begin() + first + count);
  }
  return out;
}

}  // namespace foveal::model
