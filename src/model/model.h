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

/// The arrays of a step where the device runs behind the host. Positions, and where K and V go,
/// follow from lengths and page tables there.
struct DeviceInput {
  const int32_t* token_ids = nullptr;   ///< [rows.total]; below 0: chosen[-1 - id]
  const int32_t* chosen = nullptr;      ///< tokens that the step before chose
  const int32_t* logit_rows = nullptr;  ///< [logit_rows.size()]
  kernels::DeviceSeqs prefill;          ///< of the rows [0, rows.prefill)
  kernels::DeviceSeqs decode;           ///< of the rows [rows.prefill, rows.total)
};

/// One step's rows: prompt rows first, then one row for each decoding request.
struct ForwardInput {
  StepRows rows;
  const int32_t* token_ids = nullptr;              ///< [rows.total]
  const int32_t* positions = nullptr;              ///< [rows.total]
  std::span<const kernels::AttentionSeq> prefill;  ///< their rows: [0, rows.prefill)
  std::span<const kernels::AttentionSeq> decode;   ///< their rows: [rows.prefill, rows.total)
  std::span<const KvLayerView> kv;                 ///< [num_layers]
  std::span<const int32_t> logit_rows;             ///< rows whose logits are wanted, ascending
  TraceSink* trace = nullptr;                      ///< null: nothing is traced
  const DeviceInput* device = nullptr;             ///< CUDA: what its kernels read instead
};

/// What a model has to be ready for. Memory for steps of this size is taken once where the device
/// replays recorded steps.
struct ModelLimits {
  int64_t max_positions = 0;
  int64_t max_rows = 0;        ///< of a step
  int64_t max_logit_rows = 0;  ///< that yield logits at once
  DType kv_dtype = DType::kBF16;
  bool batch_invariant = false;  ///< CUDA: the same result whatever shares the step
  bool e4m3_prefill = false;     ///< CUDA: prefill's queries in e4m3, over such a cache
};

/// A decoder whose weights are mapped and whose scratch is its own. Engine thread only.
class Model {
 public:
  virtual ~Model() = default;

  /// Builds the model of `checkpoint` (borrowed) for the stream's device. Throws kUnsupported or
  /// kCorruptFile, naming the tensor, when weights and config disagree.
  static std::unique_ptr<Model> create(const Checkpoint& checkpoint, const ModelLimits& limits,
                                       Stream& stream);

  /// Runs one step through all layers. Returns logits [logit_rows.size(), vocab_size] on the
  /// stream's device, the caller's to change until the next call. On a CPU logits rows always take
  /// the decode path of the output GEMM, whatever their phase. On CUDA these are the logits of the
  /// first max_logit_rows of them, and all is only issued when this returns.
  virtual float* forward(const ForwardInput& input, attention::AttentionStep& attention,
                         Stream& stream) = 0;

  /// Logits of `count` further rows of the step that `forward` ran last, from the `first` of its
  /// logit rows on, at most max_logit_rows. Only CUDA needs it.
  virtual float* more_logits(const ForwardInput& input, int64_t first, int64_t count,
                             Stream& stream);

  /// Where `forward` leaves logits, for steps that are replayed without it. Only on CUDA.
  virtual float* logits() { return nullptr; }
  /// Values from one row of logits to the next.
  virtual int64_t logits_stride() const { return config().vocab_size; }
  virtual const ModelConfig& config() const = 0;
};

}  // namespace foveal::model
