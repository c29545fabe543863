#include "model/dummy_checkpoint.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <filesystem>

#include "base/check.h"
#include "base/half.h"
#include "base/math.h"
#include "base/memory.h"
#include "device/device.h"
#include "model/arch/registry.h"
#include "model/config_json.h"
#include "model/mapped_file.h"
#include "model/table_checkpoint.h"

namespace foveal::model {
namespace fs = std::filesystem;
namespace {

constexpr float kDeviation = 0.02F;  // what released models are initialised with
constexpr size_t kMostText = size_t{4} << 20;

/// A well mixed 64-bit word for each (seed, index): SplitMix64.
uint64_t mix(uint64_t seed, uint64_t index) {
  uint64_t word = seed + index * 0x9E3779B97F4A7C15U;
  word = (word ^ (word >> 30U)) * 0xBF58476D1CE4E5B9U;
  word = (word ^ (word >> 27U)) * 0x94D049BB133111EBU;
  return word ^ (word >> 31U);
}

class DummyCheckpoint : public TableCheckpoint {
 public:
  DummyCheckpoint(const std::string& path, std::optional<int64_t> num_layers, DummyData data,
                  bool fp8)
      : data_(data), fp8_(fp8 && data != DummyData::kHost) {
    std::error_code code;
    const bool folder = fs::is_directory(path, code);
    const fs::path file = folder ? fs::path(path) / "config.json" : fs::path(path);
    folder_ = file.parent_path().string();
    read_config(file, num_layers);
    add_tensors();
    make_data(file);
  }

  std::string format() const override { return "dummy (random weights)"; }
  int64_t bytes_to_come() const override { return total_bytes_ - made_bytes_; }
  std::optional<Fp8Matrix> fp8_layout(std::string_view name) const override {
    const TensorView* stored = find(name);
    if (stored == nullptr || stored->dtype != DType::kF8E4M3) return std::nullopt;
    const size_t dims = stored->shape.size();
    const int64_t rows = stored->shape[dims - 2];
    const int64_t cols = stored->shape[dims - 1];
    Fp8Scales scales{.rows = rows, .cols = cols, .per_row = 1};
    if (config_.fp8_by_block) {
      scales.rows = config_.fp8_block[0];
      scales.cols = config_.fp8_block[1];
      scales.per_row = ceil_div(cols, scales.cols);
    }
    return Fp8Matrix{
        .weight = {.dtype = stored->dtype, .rows = rows, .cols = cols, .row_bytes = cols},
        .scales = std::move(scales)};
  }

 protected:
  const TensorView* find_weight(std::string_view name) const override {
    const auto wide = wide_.find(name);
    return wide == wide_.end() ? find(name) : &wide->second;
  }

 private:
  void read_config(const fs::path& file, std::optional<int64_t> num_layers) {
    constexpr char kNeed[] = "need a config.json or its folder for dummy weights";
    std::error_code code;
    FOVEAL_CHECK(fs::is_regular_file(file, code), ErrorKind::kNotFound, file.string(),
                 "got nothing to read; {}", kNeed);
    const MappedFile mapped(file.string());
    const std::string_view text(reinterpret_cast<const char*>(mapped.bytes().data()),
                                mapped.bytes().size());
    FOVEAL_CHECK(text.size() <= kMostText && !text.starts_with("GGUF"), ErrorKind::kInvalidArgument,
                 file.string(), "got {} of {} bytes; {}",
                 text.starts_with("GGUF") ? "a GGUF file" : "a file", text.size(), kNeed);
    config_ = parse_config_json(text, file.string());
    config_.fp8_weights = config_.fp8_weights && fp8_;
    traits_ = find_architecture(config_.architecture).traits(config_);
    if (!num_layers) return;
    FOVEAL_CHECK(*num_layers >= 1 && *num_layers <= config_.num_layers, ErrorKind::kInvalidArgument,
                 "num_layers", "got {}; need 1 to {}", *num_layers, config_.num_layers);
    config_.num_layers = static_cast<int32_t>(*num_layers);
    const auto layers = static_cast<size_t>(*num_layers);
    config_.windows.resize(layers);
    config_.use_rope.resize(layers);
    config_.moe_layers.resize(std::min(config_.moe_layers.size(), layers));
    if (config_.indexer) config_.indexer->full.resize(layers);
  }

  void add_tensors() {
    const int64_t hidden = config_.hidden_size;
    add("model.embed_tokens.weight", {config_.vocab_size, hidden});
    if (!config_.tie_embeddings) add("lm_head.weight", {config_.vocab_size, hidden});
    add_norm("model.norm", hidden);
    for (int32_t layer = 0; layer < config_.num_layers; ++layer) {
      const std::string prefix = fmt::format("model.layers.{}.", layer);
      add_norm(prefix + "input_layernorm", hidden);
      add_norm(prefix + "post_attention_layernorm", hidden);
      if (traits_.sandwich_norms) {
        add_norm(prefix + "pre_feedforward_layernorm", hidden);
        add_norm(prefix + "post_feedforward_layernorm", hidden);
      }
      if (config_.latent) {
        add_latent(prefix + "self_attn.", layer);
      } else {
        add_attention(prefix + "self_attn.");
      }
      const bool experts =
          config_.num_experts > 0 && config_.moe_layers.at(static_cast<size_t>(layer)) != 0;
      experts ? add_experts(prefix + "mlp.") : add_mlp(prefix + "mlp.", config_.intermediate_size);
    }
  }

  void add_attention(const std::string& prefix) {
    const int64_t hidden = config_.hidden_size;
    const int64_t q_rows = int64_t{config_.num_heads} * config_.head_dim;
    const int64_t kv_rows = int64_t{config_.num_kv_heads} * config_.head_dim;
    if (traits_.fused_qkv) {
      add_linear(prefix + "qkv_proj", q_rows + 2 * kv_rows, hidden, traits_.qkv_bias);
    } else {
      add_linear(prefix + "q_proj", q_rows, hidden, traits_.qkv_bias);
      add_linear(prefix + "k_proj", kv_rows, hidden, traits_.qkv_bias);
      add_linear(prefix + "v_proj", kv_rows, hidden, traits_.qkv_bias);
    }
    add_linear(prefix + "o_proj", hidden, q_rows, /*bias=*/false);
    if (!traits_.qk_norm) return;
    add_norm(prefix + "q_norm", config_.head_dim);
    add_norm(prefix + "k_norm", config_.head_dim);
  }

  void add_latent(const std::string& prefix, int32_t layer) {
    const LatentConfig& dims = *config_.latent;
    const int64_t hidden = config_.hidden_size;
    const int64_t heads = config_.num_heads;
    const int64_t q_rows = heads * config_.head_dim;
    if (dims.q_rank > 0) {
      add_linear(prefix + "q_a_proj", dims.q_rank, hidden, config_.attention_bias);
      add_norm(prefix + "q_a_layernorm", dims.q_rank);
      add_linear(prefix + "q_b_proj", q_rows, dims.q_rank, /*bias=*/false);
    } else {
      add_linear(prefix + "q_proj", q_rows, hidden, /*bias=*/false);
    }
    add_linear(prefix + "kv_a_proj_with_mqa", dims.width(), hidden, config_.attention_bias);
    add_norm(prefix + "kv_a_layernorm", dims.kv_rank);
    add_linear(prefix + "kv_b_proj", heads * (dims.nope_dim + dims.value_dim), dims.kv_rank,
               /*bias=*/false);
    add_linear(prefix + "o_proj", hidden, heads * dims.value_dim, config_.attention_bias);
    if (!config_.indexer || config_.indexer->full.at(static_cast<size_t>(layer)) == 0) return;
    const IndexerConfig& indexer = *config_.indexer;
    const std::string index = prefix + "indexer.";
    add_linear(index + "wq_b", int64_t{indexer.num_heads} * indexer.head_dim, dims.q_rank,
               /*bias=*/false);
    add_linear(index + "wk", indexer.head_dim, hidden, /*bias=*/false);
    add(index + "weights_proj.weight", {indexer.num_heads, hidden});
    add_norm(index + "k_norm", indexer.head_dim);
    add(index + "k_norm.bias", {indexer.head_dim});
  }

  void add_mlp(const std::string& prefix, int64_t intermediate) {
    const int64_t hidden = config_.hidden_size;
    if (traits_.fused_gate_up) {
      add_linear(prefix + "gate_up_proj", 2 * intermediate, hidden, config_.mlp_bias);
    } else {
      add_linear(prefix + "gate_proj", intermediate, hidden, config_.mlp_bias);
      add_linear(prefix + "up_proj", intermediate, hidden, config_.mlp_bias);
    }
    add_linear(prefix + "down_proj", hidden, intermediate, config_.mlp_bias);
  }

  void add_experts(const std::string& prefix) {
    const int64_t count = config_.num_experts;
    const int64_t hidden = config_.hidden_size;
    const int64_t intermediate = config_.moe_intermediate_size;
    add(prefix + "gate.weight", {count, hidden});
    if (config_.router.sigmoid) add(prefix + "gate.e_score_correction_bias", {count});
    if (config_.shared_intermediate_size > 0) {
      add_mlp(prefix + "shared_experts.", config_.shared_intermediate_size);
    }
    add_linear(prefix + "experts.{}.gate_proj", {count, intermediate, hidden});
    add_linear(prefix + "experts.{}.up_proj", {count, intermediate, hidden});
    add_linear(prefix + "experts.{}.down_proj", {count, hidden, intermediate});
  }

  /// What released FP8 checkpoints hold in e4m3: not the router, nor the indexer's head weights.
  void add_linear(const std::string& name, std::vector<int64_t> shape) {
    add(name + ".weight", std::move(shape), config_.fp8_weights ? DType::kF8E4M3 : DType::kBF16);
  }

  void add_linear(const std::string& name, int64_t rows, int64_t cols, bool bias) {
    add_linear(name, {rows, cols});
    if (bias) add(name + ".bias", {rows});
  }

  void add_norm(const std::string& name, int64_t n) { add(name + ".weight", {n}); }

  void add(const std::string& name, std::vector<int64_t> shape, DType dtype = DType::kBF16) {
    std::optional<int64_t> bytes = dtype_info(dtype).bytes;
    for (const int64_t extent : shape) bytes = bytes ? checked_mul(*bytes, extent) : std::nullopt;
    if (bytes) bytes = checked_add(*bytes, total_bytes_);
    FOVEAL_CHECK(bytes.has_value(), ErrorKind::kCorruptFile, folder_,
                 "got weights of 2^63 bytes at {}; need fewer", name);
    if (has_data(shape)) made_bytes_ += *bytes - total_bytes_;
    total_bytes_ = *bytes;
    if (dtype != DType::kBF16) wide_[name] = {.dtype = DType::kBF16, .shape = shape};
    tensors_[name] = {.data = nullptr, .dtype = dtype, .shape = std::move(shape)};
  }

  bool has_data(const std::vector<int64_t>& shape) const {
    return data_ == DummyData::kHost || (data_ == DummyData::kDevice && shape.size() == 1);
  }

  /// After all shapes are known: memory is given on first use, and what runs out then is killed.
  void make_data(const fs::path& file) {
    const int64_t available = available_memory_bytes();
    FOVEAL_CHECK(made_bytes_ <= available, ErrorKind::kOutOfMemory, file.string(),
                 "got dummy weights of {} MiB; need at most the {} MiB of memory free here, by "
                 "num_layers for instance",
                 made_bytes_ >> 20, available >> 20);
    for (auto& [name, tensor] : tensors_) {
      if (!has_data(tensor.shape)) continue;
      int64_t count = 1;
      for (const int64_t extent : tensor.shape) count *= extent;
      memory_.emplace_back(Device{}, static_cast<size_t>(count) * 2, name);
      auto* values = reinterpret_cast<uint16_t*>(memory_.back().data());
      if (name.ends_with("norm.weight")) {
        std::fill_n(values, count, float_to_bf16(1.0F - traits_.norm_offset));
      } else {
        fill(values, count, std::hash<std::string>{}(name));
      }
      tensor.data = memory_.back().data();
    }
  }

  // Uniform of the deviation above: as good as normal here, and cheap.
  static void fill(uint16_t* values, int64_t count, uint64_t seed) {
    const float reach = kDeviation * std::sqrt(3.0F);
    for (int64_t idx = 0; idx < count; ++idx) {
      const auto word = static_cast<int32_t>(mix(seed, static_cast<uint64_t>(idx)) >> 32U);
      values[idx] = float_to_bf16(static_cast<float>(word) * (reach / 2147483648.0F));
    }
  }

  DummyData data_;
  bool fp8_;
  std::map<std::string, TensorView, std::less<>> wide_;  // what is in e4m3, as who expands it sees
  DecoderTraits traits_;
  std::deque<Buffer> memory_;
  int64_t made_bytes_ = 0;  // of them in memory
};

}  // namespace

std::unique_ptr<Checkpoint> open_dummy_checkpoint(const std::string& path,
                                                  std::optional<int64_t> num_layers, DummyData data,
                                                  bool fp8) {
  return std::make_unique<DummyCheckpoint>(path, num_layers, data, fp8);
}

}  // namespace foveal::model
