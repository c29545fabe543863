#pragma once

#include "model/cuda/latent.h"

namespace foveal::model {

/// Dense latent attention of a step's prompt rows in the form of heads: keys and values of each
/// head made from the cached latents, then attention at a head's width. Costs a product a key and
/// step, and saves most of what a pair costs.
class LatentHeadForm final : public attention::HeadForm {
 public:
  /// Queries, rotated in place, are in the scratch's qkv; outputs go to its attention.
  LatentHeadForm(const DeviceLatent& weights, const LatentRun& run)
      : weights_(weights), run_(run) {}

  /// Whether the step's prompt rows take it: where there is a kernel, the method attends to all,
  /// and it is estimated to be faster. Never in batch-invariant mode: the estimate knows the batch.
  static bool taken(const LatentRun& run);

  void attend(const attention::AttendArgs& args, Stream& stream) const override;

 private:
  struct Seqs;
  Seqs next_seqs(const attention::AttendArgs& args, size_t first) const;
  void gather(const attention::AttendArgs& args, const Seqs& seqs, const Stream& stream) const;
  void attend(const attention::AttendArgs& args, const Seqs& seqs, Stream& stream) const;

  const DeviceLatent& weights_;
  const LatentRun& run_;
};

}  // namespace foveal::model
