#include "model/fp8_check.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/check.h"
#include "model/fp8_weights.h"

namespace foveal::model {
namespace {

constexpr std::byte kNan{0x7f};  // with either sign

/// "x.weight" of a scale's name; empty where the name is another's.
std::string_view scaled_by(std::string_view scale) {
  for (const std::string_view end : {"_scale_inv", "_scale"}) {
    if (!scale.ends_with(end)) continue;
    const std::string_view name = scale.substr(0, scale.size() - end.size());
    // "input_scale" and "k_scale" are of activations and caches.
    return name.ends_with(".weight") ? name : std::string_view();
  }
  return {};
}

void check_scale(const Checkpoint& checkpoint, const std::string& scale, std::string_view name) {
  const TensorView* weight = checkpoint.find(name);
  FOVEAL_CHECK(weight != nullptr, ErrorKind::kCorruptFile, checkpoint.folder(),
               "got scale '{}' and no '{}'; need both or neither", scale, name);
  FOVEAL_CHECK(weight->dtype == DType::kF8E4M3, ErrorKind::kCorruptFile, checkpoint.folder(),
               "got '{}' as {} with a scale '{}'; need it as f8_e4m3, or no scale", name,
               dtype_name(weight->dtype), scale);
  const std::array<std::string, 2> names = Fp8Weights::scale_names(name);
  FOVEAL_CHECK(checkpoint.find(names[0]) == nullptr || checkpoint.find(names[1]) == nullptr,
               ErrorKind::kCorruptFile, checkpoint.folder(), "got '{}' and '{}'; need one of them",
               names[0], names[1]);
}

/// A module is named from the model on, from an outer module on, or by its last words alone.
bool is_inside(std::string_view tensor, std::string_view module) {
  for (size_t at = tensor.find(module); at != std::string_view::npos;
       at = tensor.find(module, at + 1)) {
    const size_t end = at + module.size();
    const bool begins = at == 0 || tensor[at - 1] == '.';
    if (begins && end < tensor.size() && tensor[end] == '.') return true;
  }
  return false;
}

}  // namespace

bool has_e4m3_nan(const std::byte* values, int64_t count) {
  // Eight at a time: of the seven bits below the sign, 0x7f alone carries into the eighth.
  constexpr uint64_t kBelowSign = 0x7f7f7f7f7f7f7f7fU;
  constexpr uint64_t kOnes = 0x0101010101010101U;
  uint64_t carried = 0;
  int64_t at = 0;
  for (; at + 8 <= count; at += 8) {
    uint64_t eight = 0;
    std::memcpy(&eight, values + at, sizeof(eight));
    carried |= (eight & kBelowSign) + kOnes;
  }
  bool odd = (carried & ~kBelowSign) != 0;
  for (; at < count; ++at) odd = odd || (values[at] & kNan) == kNan;
  return odd;
}

void refuse_e4m3_nan(const std::string& where, std::string_view name, const WeightView& matrix) {
  const std::byte* end = matrix.data + matrix.rows * matrix.cols;
  const std::byte* found =
      std::find_if(matrix.data, end, [](std::byte value) { return (value & kNan) == kNan; });
  const int64_t at = found - matrix.data;
  fail(ErrorKind::kCorruptFile, where, "got a NaN at [{}, {}] of '{}'; need numbers in f8_e4m3",
       at / matrix.cols, at % matrix.cols, name);
}

void check_fp8_tensors(const Checkpoint& checkpoint, std::span<const std::string> exempt) {
  for (const std::string& name : checkpoint.names()) {
    const std::string_view scaled = scaled_by(name);
    if (!scaled.empty()) check_scale(checkpoint, name, scaled);
    if (!checkpoint.fp8_layout(name)) continue;  // checks its scale's shape
    const auto module = std::find_if(exempt.begin(), exempt.end(),
                                     [&](const std::string& one) { return is_inside(name, one); });
    FOVEAL_CHECK(module == exempt.end(), ErrorKind::kCorruptFile, checkpoint.folder(),
                 "got '{}' as f8_e4m3 and '{}' among the modules that quantization_config leaves "
                 "out (modules_to_not_convert); need a config and a file that agree",
                 name, *module);
  }
}

}  // namespace foveal::model
