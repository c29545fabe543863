#include "model/fp8_weights.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>

#include "base/check.h"
#include "base/half.h"
#include "base/math.h"
#include "model/fp8_check.h"

namespace foveal::model {
namespace {

std::vector<float> widen(const TensorView& scale) {
  std::vector<float> out(static_cast<size_t>(scale.num_elements()));
  for (size_t idx = 0; idx < out.size(); ++idx) {
    if (scale.dtype == DType::kF32) {
      std::memcpy(&out[idx], scale.data + idx * sizeof(float), sizeof(float));
    } else {
      uint16_t bits = 0;
      std::memcpy(&bits, scale.data + idx * sizeof(bits), sizeof(bits));
      out[idx] = scale.dtype == DType::kBF16 ? bf16_to_float(bits) : f16_to_float(bits);
    }
  }
  return out;
}

/// How many rows and columns share a scale; without values.
Fp8Scales layout_of(const std::string& where, std::string_view name, const TensorView& stored,
                    const TensorView* scale, const std::array<int64_t, 2>& block) {
  FOVEAL_CHECK(scale != nullptr, ErrorKind::kCorruptFile, where,
               "got '{}' as f8_e4m3 without a scale; need '{}' or '{}'", name,
               Fp8Weights::scale_names(name)[0], Fp8Weights::scale_names(name)[1]);
  FOVEAL_CHECK(stored.shape.size() == 2, ErrorKind::kUnsupported, where,
               "got '{}' as f8_e4m3 [{}]; need a matrix", name, fmt::join(stored.shape, ", "));
  const bool readable =
      scale->dtype == DType::kF32 || scale->dtype == DType::kBF16 || scale->dtype == DType::kF16;
  FOVEAL_CHECK(readable, ErrorKind::kUnsupported, where,
               "got the scale of '{}' as {}; need f32, bf16 or f16", name,
               dtype_name(scale->dtype));
  const int64_t rows = stored.shape[0];
  const int64_t cols = stored.shape[1];
  const int64_t row_blocks = ceil_div(rows, block[0]);
  const int64_t col_blocks = ceil_div(cols, block[1]);
  const std::vector<int64_t>& shape = scale->shape;
  const bool column = shape.size() == 1 || (shape.size() == 2 && shape[1] == 1);
  if (scale->num_elements() == 1) return {.rows = rows, .cols = cols, .per_row = 1};
  if (column && shape[0] == rows) return {.rows = 1, .cols = cols, .per_row = 1};
  FOVEAL_CHECK(shape == (std::vector<int64_t>{row_blocks, col_blocks}), ErrorKind::kCorruptFile,
               where, "got the scale of '{}' as [{}]; need one, [{}], [{}, 1] or [{}, {}]", name,
               fmt::join(shape, ", "), rows, rows, row_blocks, col_blocks);
  return {.rows = block[0], .cols = block[1], .per_row = col_blocks};
}

/// What a quantisation can have made: positive, no less than arithmetic that takes the smallest
/// numbers for zero keeps, and far above what the largest weight asks for. Others would be garbage
/// in silence, or a NaN in every logit with the first token.
std::vector<float> values_of(const std::string& where, std::string_view name,
                             const TensorView& scale) {
  constexpr float kLeast = std::numeric_limits<float>::min();
  constexpr float kMost = 65536;
  std::vector<float> out = widen(scale);
  const auto odd = std::find_if_not(out.begin(), out.end(), [](float value) {
    return value >= kLeast && value <= kMost;  // false of a NaN
  });
  FOVEAL_CHECK(odd == out.end(), ErrorKind::kCorruptFile, where,
               "got {} in the scale of '{}'; need numbers from {:.3g} to {}", *odd, name, kLeast,
               kMost);
  return out;
}

const std::array<float, 256>& e4m3_values() {
  static const std::array<float, 256> kValues = [] {
    std::array<float, 256> values{};
    for (size_t bits = 0; bits < values.size(); ++bits) {
      values[bits] = e4m3_to_float(static_cast<uint8_t>(bits));
    }
    return values;
  }();
  return kValues;
}

void put(float value, float& to) { to = value; }
void put(float value, uint16_t& to) { to = float_to_bf16(value); }

template <class T>
void expand_row(const std::byte* from, int64_t cols, const float* scales, int64_t block, T* to) {
  const std::array<float, 256>& values = e4m3_values();
  for (int64_t first = 0; first < cols; first += block, ++scales) {
    const int64_t end = std::min(cols, first + block);
    for (int64_t col = first; col < end; ++col) {
      put(values[static_cast<size_t>(from[col])] * *scales, to[col]);
    }
  }
}

constexpr int64_t kGroup = 32;  // of kE4M3x32

void pack_row(const std::byte* from, int64_t cols, const float* scales, int64_t block,
              std::byte* to) {
  for (int64_t col = 0; col < cols; col += kGroup) {
    std::memcpy(to, &scales[col / block], sizeof(float));
    std::memcpy(to + sizeof(float), from + col, kGroup);
    to += sizeof(float) + kGroup;
  }
}

void convert_row(const std::byte* from, int64_t cols, const float* scales, int64_t block, DType as,
                 std::byte* to) {
  if (as == DType::kE4M3x32) return pack_row(from, cols, scales, block, to);
  if (as == DType::kF32) {
    return expand_row(from, cols, scales, block, reinterpret_cast<float*>(to));
  }
  expand_row(from, cols, scales, block, reinterpret_cast<uint16_t*>(to));
}

}  // namespace

const TensorView& Fp8Weights::readable(std::string_view name, const TensorView& stored,
                                       const TensorView* scale) {
  const std::lock_guard lock(mutex_);
  const auto known = owned_.find(name);
  if (known != owned_.end()) return known->second.view;
  const Fp8Matrix matrix = this->stored(name, stored, scale);
  const Fp8Scales& scales = matrix.scales;
  const int64_t rows = stored.shape[0];
  const int64_t cols = stored.shape[1];
  const bool whole = cols % kGroup == 0 && (scales.cols % kGroup == 0 || scales.cols >= cols);
  const DType as = !keep_ ? DType::kBF16 : whole ? DType::kE4M3x32 : DType::kF32;
  const int64_t row_size = row_bytes(as, cols).value();
  Owned owned;
  owned.values = std::make_unique_for_overwrite<std::byte[]>(static_cast<size_t>(rows * row_size));
  owned.view = {.data = owned.values.get(), .dtype = as, .shape = stored.shape};
  std::atomic<bool> odd = false;
  pool_.run(rows, [&](int64_t row, int) {
    if (has_e4m3_nan(stored.data + row * cols, cols)) odd = true;
    convert_row(stored.data + row * cols, cols,
                scales.values.data() + row / scales.rows * scales.per_row, scales.cols, as,
                owned.values.get() + row * row_size);
  });
  if (odd) refuse_e4m3_nan(where_, name, matrix.weight);
  return owned_.emplace(name, std::move(owned)).first->second.view;
}

Fp8Matrix Fp8Weights::stored(std::string_view name, const TensorView& stored,
                             const TensorView* scale) const {
  Fp8Matrix out = layout(name, stored, scale);
  out.scales.values = values_of(where_, name, *scale);
  return out;
}

Fp8Matrix Fp8Weights::layout(std::string_view name, const TensorView& stored,
                             const TensorView* scale) const {
  Fp8Scales scales = layout_of(where_, name, stored, scale, block_);
  return {.weight = {.data = stored.data,
                     .dtype = stored.dtype,
                     .rows = stored.shape[0],
                     .cols = stored.shape[1],
                     .row_bytes = stored.shape[1]},
          .scales = std::move(scales)};
}

}  // namespace foveal::model
