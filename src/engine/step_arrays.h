#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "device/staging.h"
#include "engine/batch.h"
#include "kernels/cuda/sample.h"
#include "model/model.h"

namespace foveal::engine {

/// What bounds the arrays of any step.
struct StepLimits {
  int32_t max_rows = 0;
  int32_t max_seqs = 0;
  int32_t max_pages = 0;  ///< of one text
  int32_t page_size = 0;
  int32_t num_layers = 0;
  int32_t scratch_page = 0;  ///< nobody's: where rows that only fill up a step read and write
};

/// Sizes of a step that kernels are launched with. Steps that only decode are filled up to few of
/// them, recorded or not, so that recording changes no result; those that are traced are not.
struct StepShape {
  int32_t decode_rows = 0;     ///< filled-up rows included
  int32_t prefill_stride = 0;  ///< pages of a table row
  int32_t decode_stride = 0;
  bool padded = false;  ///< one of the sizes that are recorded; every row yields logits
};

/// `sizes` as from `graph_sizes`.
StepShape choose_shape(const Batch& batch, std::span<const int32_t> sizes, bool padding,
                       const StepLimits& limits);

/// Rows that the device samples or scores.
struct SamplePlan {
  std::vector<kernels::cuda::SampleRow> rows;  ///< one for each row of logits, or none
  std::vector<kernels::cuda::LogitEdit> edits;
  std::vector<int32_t> edit_begin;  ///< [rows + 1]
  /// Tokens whose log-probabilities are wanted, one for each row of logits (-1: none), or empty.
  std::vector<int32_t> scored;
  void clear() {
    scored.clear();
    rows.clear();
    edits.clear();
    edit_begin.assign(1, 0);
  }
};

/// The arrays of a step on the device, sent in one copy.
class StepArrays {
 public:
  StepArrays(Device device, const StepLimits& limits);

  /// `places`: KvStorage::append_pool_pages of pages to be zeroed. Views are valid until the step
  /// after the next.
  void send(const Batch& batch, const StepShape& shape, std::span<const int32_t> places,
            const SamplePlan& sampling, const Stream& stream);

  const model::DeviceInput& input() const { return input_; }
  /// Rows that yield logits: Batch::logit_rows', or every row of a padded step.
  std::span<const int32_t> logit_rows() const { return logit_rows_; }
  const int32_t* places() const { return places_; }
  const kernels::cuda::SampleRow* sample_rows() const { return sample_rows_; }
  const kernels::cuda::LogitEdit* edits() const { return edits_; }
  const int32_t* edit_begin() const { return edit_begin_; }
  const int32_t* scored() const { return scored_; }

  static constexpr size_t kMaxEdits = 65536;  ///< of a step; rows beyond are sampled on the host

 private:
  void add_tokens(std::span<const int32_t> tokens, const StepShape& shape, int64_t prefill_rows);
  using States = std::span<attention::SequenceState* const>;
  kernels::DeviceSeqs add_prefill(std::span<const kernels::AttentionSeq> seqs, States states,
                                  int32_t stride);
  kernels::DeviceSeqs add_decode(std::span<const kernels::AttentionSeq> seqs, States states,
                                 const StepShape& shape);
  void add_seqs(std::span<const kernels::AttentionSeq> seqs, States states,
                kernels::DeviceSeqs& out);
  void add_rest(std::span<const int32_t> places, const SamplePlan& sampling);
  template <class T>
  const T* add_copy(std::span<const T> values);

  StepLimits limits_;
  StepUpload upload_;
  model::DeviceInput input_;
  std::vector<int32_t> logit_rows_;
  const int32_t* places_ = nullptr;
  const kernels::cuda::SampleRow* sample_rows_ = nullptr;
  const kernels::cuda::LogitEdit* edits_ = nullptr;
  const int32_t* edit_begin_ = nullptr;
  const int32_t* scored_ = nullptr;
};

}  // namespace foveal::engine
