#pragma once

#include <functional>
#include <memory>
#include <span>

#include "engine/batch.h"
#include "engine/setup.h"
#include "kernels/cuda/sample.h"
#include "kv/storage.h"

namespace foveal::engine {

/// What a step made of one row of Batch::logit_rows.
struct RowResult {
  std::span<float> logits;  ///< [vocab]; empty where the device chose a token
  int32_t token = -1;
  uint32_t flags = 0;  ///< kernels::cuda::SampleFlag
};

/// Fills in how the device is to sample a row; false: its logits are wanted on the host.
using DescribeRow = std::function<bool(const LogitRow&, kernels::cuda::SampleRow&,
                                       std::vector<kernels::cuda::LogitEdit>&)>;

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
                        const DescribeRow& describe) = 0;
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
