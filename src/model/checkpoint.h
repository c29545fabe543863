#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/tensor_view.h"
#include "model/config.h"
#include "model/fp8_matrix.h"
#include "tokenizer/tokenizer.h"

namespace foveal::model {

/// A model on disk: hyperparameters, and tensors by their Hugging Face name whatever the format
/// (`model.layers.3.self_attn.q_proj.weight`). Files are mapped read-only for its lifetime; tensors
/// are views into the map. All sizes and offsets were checked when it was opened.
class Checkpoint {
 public:
  virtual ~Checkpoint() = default;

  /// `path`: a .gguf file (of a model in parts the first), or a folder with config.json and
  /// *.safetensors (an index or one file), or a folder that holds one model in .gguf. Throws
  /// kNotFound, kCorruptFile or kUnsupported (an unknown architecture lists the known ones).
  static std::unique_ptr<Checkpoint> open(const std::string& path);

  virtual const ModelConfig& config() const = 0;
  /// Whether a tensor belongs to a layer past the model's last: such layers predict further tokens
  /// (multi-token prediction), and are not read.
  bool leaves_out(std::string_view name) const;
  /// Null when absent.
  virtual const TensorView* find(std::string_view name) const = 0;
  /// All names, sorted.
  virtual std::vector<std::string> names() const = 0;
  /// "GGUF v3" or "safetensors (2 shards)".
  virtual std::string format() const = 0;
  /// Of all tensors but those left out.
  virtual int64_t total_bytes() const = 0;
  /// Those that reading every tensor will still take from the memory that is free now.
  virtual int64_t bytes_to_come() const { return total_bytes(); }
  /// The vocabulary inside, for GGUF files.
  virtual const tokenizer::GgufVocab* vocab() const { return nullptr; }
  /// The folder the model lies in (where tokenizer.json would be).
  virtual std::string folder() const = 0;
  /// From now on, weights that have scales keep their eight bits (kE4M3x32) where their rows allow
  /// it, and lose nothing where they do not. What multiplies them must know the type.
  virtual void keep_fp8() {}
  /// Advises the system that all tensors are needed soon.
  virtual void prefetch() const {}

  /// A matrix, checked to be [rows, cols] and of a weight dtype; kCorruptFile names it otherwise.
  /// One in e4m3 with scales is expanded to bf16 when first asked for, or see keep_fp8.
  WeightView matrix(std::string_view name, int64_t rows, int64_t cols) const;
  /// The same where it is stored in e4m3, as it is stored; nothing where it is not. A name with
  /// "{}" is a stacked tensor's (expert_matrix), of which one matrix is meant.
  virtual std::optional<Fp8Matrix> fp8_matrix(std::string_view name) const {
    return fp8_layout(name);
  }
  /// The same without the values of its scales, which are not read: all that plans look at.
  virtual std::optional<Fp8Matrix> fp8_layout(std::string_view name) const {
    (void)name;
    return std::nullopt;
  }
  /// A vector of n values, widened to float32; kCorruptFile names the first that is not finite.
  std::vector<float> vector(std::string_view name, int64_t n) const;
  /// Expert e of a mixture's matrix, from separate tensors or a stacked one: `name` holds "{}"
  /// where the expert's number goes (`model.layers.0.mlp.experts.{}.up_proj.weight`).
  WeightView expert_matrix(std::string_view name, int32_t expert, int64_t rows, int64_t cols) const;
  /// Matrix `idx` of the tensor [count, rows, cols] of this name: one that holds more than the
  /// config says is refused as one that holds less.
  WeightView stacked_matrix(std::string_view name, int32_t idx, int32_t count, int64_t rows,
                            int64_t cols) const;

 protected:
  /// `find` of what is to be multiplied with: as it is stored, or in a type that products read.
  virtual const TensorView* find_weight(std::string_view name) const { return find(name); }
};

}  // namespace foveal::model
