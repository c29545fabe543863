#include "model/layers/latent_weights.h"

#include <cstring>

#include "base/half.h"
#include "kernels/elementwise.h"

namespace foveal::model {
namespace {

/// Columns of `from`'s rows [first, first + count) become rows of `to`.
template <class T, class Round>
void transpose(const WeightView& from, int64_t first, int64_t count, T* to, const Round& round) {
  std::vector<float> row(static_cast<size_t>(from.cols));
  for (int64_t channel = 0; channel < count; ++channel) {
    kernels::dequantize_row(from, first + channel, row.data());
    for (int64_t at = 0; at < from.cols; ++at) {
      to[at * count + channel] = round(row[static_cast<size_t>(at)]);
    }
  }
}

bool fits_bf16(const WeightView& weight) {
  if (weight.dtype == DType::kBF16) return true;
  std::vector<float> row(static_cast<size_t>(weight.cols));
  for (int64_t idx = 0; idx < weight.rows; ++idx) {
    kernels::dequantize_row(weight, idx, row.data());
    for (const float value : row) {
      if (bf16_to_float(float_to_bf16(value)) != value) return false;
    }
  }
  return true;
}

/// As GGUF has it: taken apart already, and the keys' half turned over.
LatentHeads load_apart(const Checkpoint& checkpoint, const std::string& prefix) {
  const ModelConfig& config = checkpoint.config();
  const LatentConfig& dims = *config.latent;
  const auto head_of = [&](const char* name, int32_t head, int64_t rows, int64_t cols) {
    return checkpoint.stacked_matrix(prefix + name, head, config.num_heads, rows, cols);
  };
  LatentHeads out;
  out.to_latent = head_of("k_b_proj.weight", 0, dims.kv_rank, dims.nope_dim);
  out.to_latent.rows *= config.num_heads;
  for (int32_t head = 0; head < config.num_heads; ++head) {
    out.to_values.push_back(head_of("v_b_proj.weight", head, dims.value_dim, dims.kv_rank));
  }
  return out;
}

}  // namespace

WeightView LatentHeads::to_latent_of(int64_t head) const {
  WeightView out = to_latent;
  out.rows = to_latent.rows / static_cast<int64_t>(to_values.size());
  out.data = to_latent.row(head * out.rows);
  return out;
}

LatentHeads load_latent_heads(const Checkpoint& checkpoint, const std::string& prefix) {
  for (const char* name : {"k_b_proj.weight", "v_b_proj.weight"}) {
    if (checkpoint.find(prefix + name) != nullptr) return load_apart(checkpoint, prefix);
  }
  const ModelConfig& config = checkpoint.config();
  const int64_t heads = config.num_heads;
  const int64_t nope = config.latent->nope_dim;
  const int64_t head_rows = nope + config.latent->value_dim;
  const int64_t rank = config.latent->kv_rank;
  const WeightView whole =
      load_linear(checkpoint, prefix + "kv_b_proj", heads * head_rows, rank, /*need_bias=*/false)
          .weight;
  // Where nothing is lost by it, in half the memory.
  const DType dtype = fits_bf16(whole) ? DType::kBF16 : DType::kF32;
  const int64_t bytes = dtype_info(dtype).bytes;
  LatentHeads out;
  out.to_latent = {.dtype = dtype, .rows = heads * rank, .cols = nope, .row_bytes = nope * bytes};
  for (int64_t head = 0; head < heads; ++head) {
    WeightView values = whole;
    values.rows = config.latent->value_dim;
    if (whole.data != nullptr) values.data = whole.row(head * head_rows + nope);
    out.to_values.push_back(values);
  }
  if (whole.data == nullptr) return out;
  out.memory =
      std::make_unique_for_overwrite<std::byte[]>(static_cast<size_t>(heads * rank * nope * bytes));
  out.to_latent.data = out.memory.get();
  for (int64_t head = 0; head < heads; ++head) {
    std::byte* to = out.memory.get() + head * rank * nope * bytes;
    if (dtype == DType::kBF16) {
      transpose(whole, head * head_rows, nope, reinterpret_cast<uint16_t*>(to), float_to_bf16);
    } else {
      transpose(whole, head * head_rows, nope, reinterpret_cast<float*>(to),
                [](float value) { return value; });
    }
  }
  return out;
}

}  // namespace foveal::model
