#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "attention/method.h"
#include "attention/step.h"
#include "base/kv_view.h"
#include "base/trace.h"
#include "model/checkpoint.h"
#include "model/layers/step_rows.h"

namespace foveal::model {

/// One step's rows as device arrays: prompt rows first, then one row for each decoding request.
struct ForwardInput {
  StepRows rows;
  const int32_t* token_ids = nullptr;              ///< [rows.total]
  const int32_t* positions = nullptr;              ///< [rows.total]
  std::span<const kernels::AttentionSeq> prefill;  ///< their rows: [0, rows.prefill)
  std::span<const kernels::AttentionSeq> decode;   ///< their rows: [rows.prefill, rows.total)
  std::span<const KvLayerView> kv;                 ///< [num_layers]
  std::span<const int32_t> logit_rows;             ///< rows whose logits are wanted, ascending
  TraceSink* trace = nullptr;                      ///< null: nothing is traced
};

/// A decoder whose weights are mapped and whose scratch is its own. Engine thread only.
class Model {
 public:
  virtual ~Model() = default;

  /// Builds the model of `checkpoint` (borrowed). `max_positions` bounds the positions it will see.
  /// Throws kUnsupported or kCorruptFile, naming the tensor, when weights and config disagree.
  static std::unique_ptr<Model> create(const Checkpoint& checkpoint, int64_t max_positions,
                                       Stream& stream);

  /// Runs one step through all layers. Returns logits [logit_rows.size(), vocab_size], the caller's
  /// to change until the next call. Logits rows always take the decode path of the output GEMM,
  /// whatever their phase.
  virtual float* forward(const ForwardInput& input, attention::AttentionStep& attention,
                         Stream& stream) = 0;

  virtual const ModelConfig& config() const = 0;
  virtual attention::ModelShape shape() const = 0;
};

}  // namespace foveal::model
