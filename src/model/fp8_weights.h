#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "base/tensor_view.h"
#include "base/thread_pool.h"
#include "model/fp8_matrix.h"

namespace foveal::model {

/// Matrices in e4m3 with scales, one for all, one a row or one a block, as something that products
/// read: as bf16, or with `keep` as they are, each 32 values of a row beside their scale
/// (kE4M3x32). Rows that are no whole 32s of one scale are then expanded to float32, so that
/// nothing is rounded there either. Made when first asked for, and kept.
class Fp8Weights {
 public:
  /// `where` begins error texts; `block`: rows and columns that share a scale where it is one a
  /// block.
  Fp8Weights(std::string where, std::array<int64_t, 2> block, bool keep)
      : where_(std::move(where)), block_(block), keep_(keep), pool_(0) {}

  /// `scale`: what a stored value is multiplied by; null where the file has none. Throws
  /// kCorruptFile, naming the tensor, for scales of another shape or type, for scales that no
  /// quantisation makes, and for values that are NaN.
  const TensorView& readable(std::string_view name, const TensorView& stored,
                             const TensorView* scale);

  /// The same as it is stored.
  Fp8Matrix stored(std::string_view name, const TensorView& stored, const TensorView* scale) const;

  /// The same without the values of its scales, which are not read.
  Fp8Matrix layout(std::string_view name, const TensorView& stored, const TensorView* scale) const;

  /// The names of scales that a matrix `x.weight` may have, best first.
  static std::array<std::string, 2> scale_names(std::string_view name) {
    return {std::string(name) + "_scale_inv", std::string(name) + "_scale"};
  }

 private:
  struct Owned {
    std::unique_ptr<std::byte[]> values;
    TensorView view;
  };

  std::string where_;
  std::array<int64_t, 2> block_;
  bool keep_;
  ThreadPool pool_;
  std::mutex mutex_;
  std::map<std::string, Owned, std::less<>> owned_;
};

}  // namespace foveal::model
