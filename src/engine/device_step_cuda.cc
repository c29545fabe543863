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

  Ticket launch(const Batch& batch, std::span<const kv::PageId> stale,
                const PlanRow& plan_row) override;
  int32_t choice_row(Ticket step, size_t idx) const override;
  bool is_done(Ticket step) const override { return flights_[step].done.is_done(); }
  std::span<const RowResult> wait(Ticket step) override;
  void collect(Ticket step) override;
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

  /// A step that was launched, and what comes back from it.
  struct Flight {
    PinnedBuffer choices;   ///< [2, num_choices]: tokens, flags
    PinnedBuffer counters;  ///< as on the device
    PinnedBuffer scores;    ///< likewise
    Event done;
    const Batch* batch = nullptr;
    StepShape shape = {};
    size_t num_choices = 0;
    std::vector<RowResult> results = {};  ///< by Batch::logit_rows

    // Which row of logits answers which request: in a padded step every row has logits.
    int64_t logits_row(size_t idx) const {
      return shape.padded ? batch->rows_with_logits()[idx] : static_cast<int64_t>(idx);
    }
    bool any(RowUse use) const {
      return std::any_of(results.begin(), results.end(),
                         [use](const RowResult& result) { return result.use == use; });
    }
  };

  void plan_rows(Flight& flight, const PlanRow& plan_row);
  RowUse plan(const LogitRow& row, size_t at, const PlanRow& plan_row);
  void zero(std::span<const kv::PageId> stale);
  void run_model(Flight& flight);
  void run(Flight& flight, const model::ForwardInput& input);
  void run_in_blocks(Flight& flight, const model::ForwardInput& input);
  void sample(Flight& flight, float* logits);
  void score(const float* logits, int64_t first, int64_t count);
  void fetch_scores(Flight& flight);
  void fetch_logits(Flight& flight, const float* logits);
  int32_t* choices() { return reinterpret_cast<int32_t*>(choices_.data()); }
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
  Buffer counters_;           ///< [2, num_layers, max_seqs] AttentionCounters
  Buffer choices_;            ///< [2, max_seqs]: tokens, flags; of the step launched last
  Buffer scores_;             ///< [max_rows] ScoredToken, likewise
  PinnedBuffer host_logits_;  ///< [max_seqs, logits_stride], made when first needed
  std::vector<float> kept_;   ///< logits of a step with more rows than the model holds at once
  SamplePlan sampling_;
  std::vector<int32_t> places_;
  std::vector<Flight> flights_;  ///< two, in turn
  Ticket last_ = 0;
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
  attention_.count_on_device(reinterpret_cast<AttentionCounters*>(counters_.data()), seqs);
  choices_ = Buffer(stream.device(), 2 * seqs * sizeof(int32_t), "chosen tokens");
  const auto rows = static_cast<size_t>(limits_.max_rows);
  scores_ = Buffer(stream.device(), rows * sizeof(kernels::cuda::ScoredToken), "scores");
  for (int idx = 0; idx < 2; ++idx) {
    flights_.push_back({.choices = PinnedBuffer(stream.device(), choices_.size(), "chosen tokens"),
                        .counters = PinnedBuffer(stream.device(), counters_.size(), "counters"),
                        .scores = PinnedBuffer(stream.device(), scores_.size(), "scores"),
                        .done = Event(stream.device())});
  }
}

DeviceStep::Ticket CudaStep::launch(const Batch& batch, std::span<const kv::PageId> stale,
                                    const PlanRow& plan_row) {
  last_ = 1 - last_;
  Flight& flight = flights_[last_];
  flight.batch = &batch;
  flight.shape = choose_shape(batch, setup_.graph_sizes, setup_.graph_padding, limits_);
  plan_rows(flight, plan_row);
  places_.clear();
  for (const kv::PageId page : stale) storage_.append_pool_pages(page, places_);
  arrays_.send(batch, flight.shape, places_, sampling_, stream_);
  zero(stale);
  if (counts_on_device()) stream_.fill(counters_.data(), 0, counters_.size());
  run_model(flight);
  if (counts_on_device()) {
    stream_.copy(flight.counters.data(), counters_.data(), counters_.size());
  }
  flight.done.record(stream_);
  return last_;
}

int32_t CudaStep::choice_row(Ticket step, size_t idx) const {
  const Flight& flight = flights_[step];
  const bool chosen = flight.results[idx].use == RowUse::kChoose;
  return chosen ? static_cast<int32_t>(flight.logits_row(idx)) : -1;
}

void CudaStep::plan_rows(Flight& flight, const PlanRow& plan_row) {
  const std::span<const LogitRow> rows = flight.batch->logit_rows();
  sampling_.clear();
  flight.results.assign(rows.size(), {});
  const StepShape& shape = flight.shape;
  const size_t num_rows = shape.padded ? static_cast<size_t>(shape.decode_rows) : rows.size();
  flight.num_choices = num_rows;
  // More rows than the model makes logits of at once are a prompt's: see run_in_blocks.
  if (num_rows <= static_cast<size_t>(limits_.max_seqs)) sampling_.rows.resize(num_rows);
  size_t next = 0;
  for (size_t at = 0; at < num_rows; ++at) {
    if (next < rows.size() && static_cast<size_t>(flight.logits_row(next)) == at) {
      flight.results[next].use = plan(rows[next], at, plan_row);
      ++next;
    }
    sampling_.edit_begin.push_back(static_cast<int32_t>(sampling_.edits.size()));
  }
  if (!flight.any(RowUse::kScore)) sampling_.scored.clear();
}

RowUse CudaStep::plan(const LogitRow& row, size_t at, const PlanRow& plan_row) {
  const size_t before = sampling_.edits.size();
  const RowPlan plan = plan_row(row, sampling_.edits);
  sampling_.scored.resize(at + 1, -1);
  sampling_.scored[at] = plan.token;
  if (plan.use != RowUse::kChoose) return plan.use;
  if (sampling_.rows.empty() || sampling_.edits.size() > StepArrays::kMaxEdits) {
    sampling_.edits.resize(before);
    return RowUse::kLogits;
  }
  sampling_.rows[at] = plan.how;
  return RowUse::kChoose;
}

void CudaStep::zero(std::span<const kv::PageId> stale) {
  if (stale.empty()) return;
  kernels::cuda::zero_pages(storage_.pool(), storage_.lane_page_bytes(), arrays_.places(),
                            static_cast<int64_t>(places_.size()), stream_);
}

void CudaStep::run_model(Flight& flight) {
  model::ForwardInput input = flight.batch->input(views_, /*exact=*/false);
  input.rows.total = input.rows.prefill + flight.shape.decode_rows;
  input.logit_rows = arrays_.logit_rows();
  model::DeviceInput device = arrays_.input();
  device.chosen = choices();
  input.device = &device;
  if (input.logit_rows.size() > static_cast<size_t>(limits_.max_seqs)) {
    return run_in_blocks(flight, input);
  }
  run(flight, input);
}

void CudaStep::run(Flight& flight, const model::ForwardInput& input) {
  float* logits = nullptr;
  const StepShape& shape = flight.shape;
  if (!shape.padded || !setup_.record_graphs) {
    logits = model_.forward(input, attention_, stream_);
  } else {
    Recording& recording = recordings_[{shape.decode_rows, shape.decode_stride}];
    if (!recording.seen) {
      recording.seen = true;
      logits = model_.forward(input, attention_, stream_);
    } else {
      if (recording.graph.empty()) {
        recording.graph =
            Graph::capture(stream_, [&] { model_.forward(input, attention_, stream_); });
        log_debug("recorded a step of {} rows, {} pages each", shape.decode_rows,
                  shape.decode_stride);
      }
      recording.graph.launch(stream_);
      logits = model_.logits();
    }
  }
  if (logits == nullptr || flight.results.empty()) return;
  fetch_logits(flight, logits);
  if (flight.any(RowUse::kScore)) {
    score(logits, 0, static_cast<int64_t>(flight.results.size()));
    fetch_scores(flight);
  }
  if (flight.any(RowUse::kChoose)) sample(flight, logits);
}

// A prompt whose logits are wanted has more rows than the model makes logits of at once.
void CudaStep::run_in_blocks(Flight& flight, const model::ForwardInput& input) {
  const auto total = static_cast<int64_t>(input.logit_rows.size());
  const bool scored = flight.any(RowUse::kScore);
  const auto held = std::count_if(flight.results.begin(), flight.results.end(),
                                  [](const auto& row) { return row.use == RowUse::kLogits; });
  kept_.resize(static_cast<size_t>(held) * vocab());
  float* to = kept_.data();
  const float* logits = model_.forward(input, attention_, stream_);
  for (int64_t first = 0; first < total; first += limits_.max_seqs) {
    const int64_t count = std::min<int64_t>(limits_.max_seqs, total - first);
    if (first > 0) logits = model_.more_logits(input, first, count, stream_);
    if (scored) score(logits, first, count);
    for (int64_t row = 0; row < count; ++row) {
      RowResult& result = flight.results[static_cast<size_t>(first + row)];
      if (result.use != RowUse::kLogits) continue;
      stream_.copy(to, logits + row * model_.logits_stride(), vocab() * sizeof(float));
      result.logits = {to, vocab()};
      to += vocab();
    }
  }
  if (scored) fetch_scores(flight);
}

// Scored rows are a prompt's: their step is not padded.
void CudaStep::score(const float* logits, int64_t first, int64_t count) {
  using kernels::cuda::ScoredToken;
  kernels::cuda::token_logprobs({.logits = logits,
                                 .m = count,
                                 .vocab = model_.config().vocab_size,
                                 .logits_stride = model_.logits_stride(),
                                 .tokens = arrays_.scored() + first,
                                 .out = reinterpret_cast<ScoredToken*>(scores_.data()) + first},
                                stream_);
}

void CudaStep::fetch_scores(Flight& flight) {
  stream_.copy(flight.scores.data(), scores_.data(),
               flight.results.size() * sizeof(kernels::cuda::ScoredToken));
}

void CudaStep::fetch_logits(Flight& flight, const float* logits) {
  size_t held = 0;
  for (size_t idx = 0; idx < flight.results.size(); ++idx) {
    if (flight.results[idx].use != RowUse::kLogits) continue;
    if (host_logits_.size() == 0) {
      const auto bytes = static_cast<size_t>(limits_.max_seqs * model_.logits_stride()) * 4;
      host_logits_ = PinnedBuffer(stream_.device(), bytes, "logits");
    }
    float* to = host_row(held++);
    stream_.copy(to, logits + flight.logits_row(idx) * model_.logits_stride(),
                 vocab() * sizeof(float));
    flight.results[idx].logits = {to, vocab()};
  }
}

void CudaStep::sample(Flight& flight, float* logits) {
  const auto rows = static_cast<int64_t>(sampling_.rows.size());
  kernels::cuda::sample({.logits = logits,
                         .m = rows,
                         .vocab = model_.config().vocab_size,
                         .logits_stride = model_.logits_stride(),
                         .rows = arrays_.sample_rows(),
                         .edits = arrays_.edits(),
                         .edit_begin = arrays_.edit_begin(),
                         .tokens = choices(),
                         .flags = reinterpret_cast<uint32_t*>(choices() + rows)},
                        stream_);
  stream_.copy(flight.choices.data(), choices_.data(),
               2 * static_cast<size_t>(rows) * sizeof(int32_t));
}

std::span<const RowResult> CudaStep::wait(Ticket step) {
  Flight& flight = flights_[step];
  flight.done.synchronize();
  const auto* tokens = reinterpret_cast<const int32_t*>(flight.choices.data());
  const auto* flags = reinterpret_cast<const uint32_t*>(tokens + flight.num_choices);
  const auto* scores = reinterpret_cast<const kernels::cuda::ScoredToken*>(flight.scores.data());
  for (size_t idx = 0; idx < flight.results.size(); ++idx) {
    RowResult& result = flight.results[idx];
    if (result.use == RowUse::kScore) result.score = scores[idx];
    if (result.use != RowUse::kChoose) continue;
    result.token = tokens[flight.logits_row(idx)];
    result.flags = flags[flight.logits_row(idx)];
  }
  return flight.results;
}

void CudaStep::collect(Ticket step) {
  const Flight& flight = flights_[step];
  const auto* counters = reinterpret_cast<const AttentionCounters*>(flight.counters.data());
  attention_.collect(flight.batch->prefill(), flight.batch->decode(),
                     counts_on_device() ? counters : nullptr);
}

}  // namespace

std::unique_ptr<DeviceStep> make_device_step(const Setup& setup, model::Model& model,
                                             attention::AttentionStep& attention,
                                             const kv::KvStorage& storage,
                                             std::span<const KvLayerView> views, Stream& stream) {
  return std::make_unique<CudaStep>(setup, model, attention, storage, views, stream);
}

}  // namespace foveal::engine
