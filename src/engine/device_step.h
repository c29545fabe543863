#pragma once

#include <functional>
#include <memory>
#include <span>

#include "engine/batch.h"
#include "engine/setup.h"
#include "kernels/cuda/sample.h"
#include "kernels/cuda/token_logprob.h"
#include "kv/storage.h"

namespace foveal::engine {

/// What a step made of one row of Batch::logit_rows.
struct RowResult {
  RowUse use = RowUse::kLogits;
  std::span<float> logits;  ///< kLogits: [vocab]
  int32_t token = -1;       ///< kChoose
  uint32_t flags = 0;       ///< kChoose: kernels::cuda::SampleFlag
  kernels::cuda::ScoredToken score;
};

/// How a row is to be used; a device that cannot do it gives the host the logits.
struct RowPlan {
  RowUse use = RowUse::kLogits;
  kernels::cuda::SampleRow how;  ///< kChoose
  int32_t token = -1;            ///< kScore
};
/// May add edits, of kChoose.
using PlanRow = std::function<RowPlan(const LogitRow&, std::vector<kernels::cuda::LogitEdit>&)>;

/// Steps on a device that runs behind the host: arrays go up in one copy, kernels are issued, or
/// replayed where the step only decodes, and tokens come back. A second step may be launched while
/// one runs: it finds the first one's tokens on the device. Engine thread only.
class DeviceStep {
 public:
  /// A launched step; valid until the next launch but one.
  using Ticket = size_t;

  virtual ~DeviceStep() = default;

  /// Issues a step and returns while it runs. `stale`: pages to be zeroed before it. The batch must
  /// live as long as the ticket is used.
  virtual Ticket launch(const Batch& batch, std::span<const kv::PageId> stale,
                        const PlanRow& plan_row) = 0;
  /// Which of the step's choices is that of Batch::logit_rows[idx]; -1: the host chooses.
  virtual int32_t choice_row(Ticket step, size_t idx) const = 0;
  virtual bool is_done(Ticket step) const = 0;
  /// One result for each of Batch::logit_rows. Throws what a kernel did wrong.
  virtual std::span<const RowResult> wait(Ticket step) = 0;
  /// Whether `collect` must come after `wait`.
  virtual bool counts_on_device() const = 0;
  /// Fills AttentionStep's counters for the step.
  virtual void collect(Ticket step) = 0;
};

/// All borrowed. `attention` counts into memory that the step owns. Throws kUnsupported in builds
/// without CUDA.
std::unique_ptr<DeviceStep> make_device_step(const Setup& setup, model::Model& model,
                                             attention::AttentionStep& attention,
                                             const kv::KvStorage& storage,
                                             std::span<const KvLayerView> views, Stream& stream);

}  // namespace foveal::engine
