#include <algorithm>
#include <map>

#include "base/check.h"
#include "base/log.h"
#include "device/graph.h"
#include "engine/device_step.h"
#include "engine/step_arrays.h"
#include "kernels/cuda/elementwise.h"

namespace foveal::engine {
namespace {

using attention::Phase;
using kernels::AttentionCounters;

StepLimits limits_of(const Setup& setup) {
  const int32_t page_size = setup.geometry.page_size;
  return {.max_rows = setup.scheduler.max_step_tokens,
          .max_seqs = setup.scheduler.max_batch_size,
          .max_pages = static_cast<int32_t>((setup.max_seq_len + page_size - 1) / page_size),
          .page_size = page_size,
          .num_layers = setup.geometry.num_layers,
          .scratch_page = setup.capacity.num_pages};
}

class CudaStep final : public DeviceStep {
 public:
  CudaStep(const Setup& setup, model::Model& model, attention::AttentionStep& attention,
           const kv::KvStorage& storage, std::span<const KvLayerView> views, Stream& stream);

  void launch(const Batch& batch, std::span<const kv::PageId> stale,
              const DescribeRow& describe) override;
  std::span<const RowResult> wait() override;
  void collect() override;
  bool counts_on_device() const override {
    return attention_.counts_on_device(Phase::kPrefill) ||
           attention_.counts_on_device(Phase::kDecode);
  }

 private:
  /// A shape's recording: made when the shape comes a second time, for the first time runs what
  /// cannot be recorded (memory is taken, algorithms are chosen).
  struct Recording {
    bool seen = false;
    Graph graph;
  };

  void plan_sampling(const DescribeRow& describe);
  int64_t logits_row(size_t idx) const;
  void zero(std::span<const kv::PageId> stale);
  void run_model();
  void run(const model::ForwardInput& input);
  void run_in_blocks(const model::ForwardInput& input);
  void sample(float* logits);
  void fetch_logits(const float* logits);
  float* host_row(size_t row) {
    return reinterpret_cast<float*>(host_logits_.data()) +
           static_cast<int64_t>(row) * model_.logits_stride();
  }
  size_t vocab() const { return static_cast<size_t>(model_.config().vocab_size); }

  const Setup& setup_;
  model::Model& model_;
  attention::AttentionStep& attention_;
  const kv::KvStorage& storage_;
  std::span<const KvLayerView> views_;
  Stream& stream_;
  StepLimits limits_;
  StepArrays arrays_;
  std::map<std::pair<int32_t, int32_t>, Recording> recordings_;  ///< by rows and table stride
  Buffer counters_;  ///< [2, num_layers, max_seqs] AttentionCounters
  PinnedBuffer host_counters_;
  Buffer choices_;  ///< [2, max_rows]: tokens, flags
  PinnedBuffer host_choices_;
  PinnedBuffer host_logits_;  ///< [max_seqs, logits_stride], made when first needed
  std::vector<float> kept_;   ///< logits of a step with more rows than the model holds at once
  const Batch* batch_ = nullptr;
  StepShape shape_;
  SamplePlan sampling_;
  std::vector<bool> chosen_;  ///< by Batch::logit_rows: the device samples it
  std::vector<RowResult> results_;
  std::vector<int32_t> places_;
  bool any_chosen_ = false;
};

CudaStep::CudaStep(const Setup& setup, model::Model& model, attention::AttentionStep& attention,
                   const kv::KvStorage& storage, std::span<const KvLayerView> views, Stream& stream)
    : setup_(setup),
      model_(model),
      attention_(attention),
      storage_(storage),
      views_(views),
      stream_(stream),
      limits_(limits_of(setup)),
      arrays_(stream.device(), limits_) {
  const auto seqs = static_cast<size_t>(limits_.max_seqs);
  const size_t count = 2 * static_cast<size_t>(limits_.num_layers) * seqs;
  counters_ = Buffer(stream.device(), count * sizeof(AttentionCounters), "counters");
  host_counters_ = PinnedBuffer(stream.device(), count * sizeof(AttentionCounters), "counters");
  attention_.count_on_device(reinterpret_cast<AttentionCounters*>(counters_.data()), seqs);
  choices_ = Buffer(stream.device(), 2 * seqs * sizeof(int32_t), "chosen tokens");
  host_choices_ = PinnedBuffer(stream.device(), 2 * seqs * sizeof(int32_t), "chosen tokens");
}

void CudaStep::launch(const Batch& batch, std::span<const kv::PageId> stale,
                      const DescribeRow& describe) {
  batch_ = &batch;
  shape_ = choose_shape(batch, setup_.graph_sizes, setup_.graph_padding, limits_);
  plan_sampling(describe);
  places_.clear();
  for (const kv::PageId page : stale) storage_.append_pool_pages(page, places_);
  arrays_.send(batch, shape_, places_, sampling_, stream_);
  zero(stale);
  if (counts_on_device()) stream_.fill(counters_.data(), 0, counters_.size());
  run_model();
  if (counts_on_device()) {
    stream_.copy(host_counters_.data(), counters_.data(), counters_.size());
  }
}

// Which rows of logits answer which request: in a padded step every row has logits.
int64_t CudaStep::logits_row(size_t idx) const {
  return shape_.padded ? batch_->rows_with_logits()[idx] : static_cast<int64_t>(idx);
}

void CudaStep::plan_sampling(const DescribeRow& describe) {
  const std::span<const LogitRow> rows = batch_->logit_rows();
  sampling_.clear();
  chosen_.assign(rows.size(), false);
  results_.assign(rows.size(), {});
  any_chosen_ = false;
  const size_t num_rows = shape_.padded ? static_cast<size_t>(shape_.decode_rows) : rows.size();
  if (num_rows > static_cast<size_t>(limits_.max_seqs)) return;  // see run_in_blocks
  sampling_.rows.resize(num_rows);
  size_t next = 0;
  for (size_t row = 0; row < num_rows; ++row) {
    if (next < rows.size() && static_cast<size_t>(logits_row(next)) == row) {
      const size_t before = sampling_.edits.size();
      const bool good = describe(rows[next], sampling_.rows[row], sampling_.edits) &&
                        sampling_.edits.size() <= StepArrays::kMaxEdits;
      if (!good) {
        sampling_.edits.resize(before);
        sampling_.rows[row] = {};
      }
      chosen_[next++] = good;
      any_chosen_ = any_chosen_ || good;
    }
    sampling_.edit_begin.push_back(static_cast<int32_t>(sampling_.edits.size()));
  }
}

void CudaStep::zero(std::span<const kv::PageId> stale) {
  if (stale.empty()) return;
  kernels::cuda::zero_pages(storage_.pool(), storage_.lane_page_bytes(), arrays_.places(),
                            static_cast<int64_t>(places_.size()), stream_);
}

void CudaStep::run_model() {
  model::ForwardInput input = batch_->input(views_, /*exact=*/false);
  input.rows.total = input.rows.prefill + shape_.decode_rows;
  input.logit_rows = arrays_.logit_rows();
  input.device = &arrays_.input();
  if (input.logit_rows.size() > static_cast<size_t>(limits_.max_seqs)) return run_in_blocks(input);
  run(input);
}

void CudaStep::run(const model::ForwardInput& input) {
  float* logits = nullptr;
  if (!shape_.padded || !setup_.record_graphs) {
    logits = model_.forward(input, attention_, stream_);
  } else {
    Recording& recording = recordings_[{shape_.decode_rows, shape_.decode_stride}];
    if (!recording.seen) {
      recording.seen = true;
      logits = model_.forward(input, attention_, stream_);
    } else {
      if (recording.graph.empty()) {
        recording.graph =
            Graph::capture(stream_, [&] { model_.forward(input, attention_, stream_); });
        log_debug("recorded a step of {} rows, {} pages each", shape_.decode_rows,
                  shape_.decode_stride);
      }
      recording.graph.launch(stream_);
      logits = model_.logits();
    }
  }
  if (logits == nullptr || results_.empty()) return;
  fetch_logits(logits);
  if (any_chosen_) sample(logits);
}

// A prompt whose logits are wanted has more rows than the model makes logits of at once.
void CudaStep::run_in_blocks(const model::ForwardInput& input) {
  const auto total = static_cast<int64_t>(input.logit_rows.size());
  const auto width = static_cast<int64_t>(vocab());
  kept_.resize(static_cast<size_t>(total * width));
  const float* logits = model_.forward(input, attention_, stream_);
  for (int64_t first = 0; first < total; first += limits_.max_seqs) {
    const int64_t count = std::min<int64_t>(limits_.max_seqs, total - first);
    if (first > 0) logits = model_.more_logits(input, first, count, stream_);
    for (int64_t row = 0; row < count; ++row) {
      float* to = kept_.data() + (first + row) * width;
      stream_.copy(to, logits + row * model_.logits_stride(), vocab() * sizeof(float));
      results_[static_cast<size_t>(first + row)].logits = {to, vocab()};
    }
  }
}

void CudaStep::fetch_logits(const float* logits) {
  size_t held = 0;
  for (size_t idx = 0; idx < results_.size(); ++idx) {
    if (chosen_[idx]) continue;
    if (host_logits_.size() == 0) {
      const auto bytes = static_cast<size_t>(limits_.max_seqs * model_.logits_stride()) * 4;
      host_logits_ = PinnedBuffer(stream_.device(), bytes, "logits");
    }
    float* to = host_row(held++);
    stream_.copy(to, logits + logits_row(idx) * model_.logits_stride(), vocab() * sizeof(float));
    results_[idx].logits = {to, vocab()};
  }
}

void CudaStep::sample(float* logits) {
  const auto rows = static_cast<int64_t>(sampling_.rows.size());
  auto* tokens = reinterpret_cast<int32_t*>(choices_.data());
  kernels::cuda::sample({.logits = logits,
                         .m = rows,
                         .vocab = model_.config().vocab_size,
                         .logits_stride = model_.logits_stride(),
                         .rows = arrays_.sample_rows(),
                         .edits = arrays_.edits(),
                         .edit_begin = arrays_.edit_begin(),
                         .tokens = tokens,
                         .flags = reinterpret_cast<uint32_t*>(tokens + rows)},
                        stream_);
  stream_.copy(host_choices_.data(), choices_.data(),
               2 * static_cast<size_t>(rows) * sizeof(int32_t));
}

std::span<const RowResult> CudaStep::wait() {
  stream_.synchronize();
  const auto* tokens = reinterpret_cast<const int32_t*>(host_choices_.data());
  const auto* flags = reinterpret_cast<const uint32_t*>(tokens + sampling_.rows.size());
  for (size_t idx = 0; idx < results_.size(); ++idx) {
    if (!chosen_[idx]) continue;
    results_[idx].token = tokens[logits_row(idx)];
    results_[idx].flags = flags[logits_row(idx)];
  }
  return results_;
}

void CudaStep::collect() {
  const bool counted = counts_on_device();
  attention_.collect(
      batch_->prefill(), batch_->decode(),
      counted ? reinterpret_cast<const AttentionCounters*>(host_counters_.data()) : nullptr);
}

}  // namespace

std::unique_ptr<DeviceStep> make_device_step(const Setup& setup, model::Model& model,
                                             attention::AttentionStep& attention,
                                             const kv::KvStorage& storage,
                                             std::span<const KvLayerView> views, Stream& stream) {
  return std::make_unique<CudaStep>(setup, model, attention, storage, views, stream);
}

}  // namespace foveal::engine
