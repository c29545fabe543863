#include "attention/rocket/rocket.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <optional>

#include "attention/paged.h"
#include "attention/rocket/compact.h"
#include "attention/rocket/page_attend.h"
#include "attention/rocket/page_select.h"
#include "attention/rocket/prompt_select.h"
#include "attention/rocket/rocket_device.h"
#include "attention/rocket/settings.h"
#include "base/check.h"
#include "base/math.h"

namespace foveal::attention {
namespace {

using rocket::OwnedSelection;
using rocket::Settings;

/// Of one layer, from the first chunk that has a window query to the prompt's end; candidates from
/// there on.
struct LayerState {
  std::optional<rocket::WindowRing> ring;
  float softmax_scale = 1;
  bool exact = false;
  OwnedSelection candidates;  ///< pages, a row a KV head
};

struct RocketState final : SequenceState {
  explicit RocketState(size_t num_layers) : layers(num_layers) {}
  std::vector<LayerState> layers;
  bool has_candidates = false;
  int32_t first_new = 0;  ///< page from which on all are candidates
};

RocketState& state_of(SequenceState* state) {
  FOVEAL_INVARIANT(state != nullptr);
  return static_cast<RocketState&>(*state);  // made by make_state
}

/// The last `count` tokens in every KV head: all that a layer with a window no longer than that
/// will ever see.
OwnedSelection last_tokens(int32_t prompt_len, int32_t count, int32_t num_kv_heads) {
  OwnedSelection out{.kind = SelectionKind::kTokens, .offsets = {0}, .indices = {}};
  for (int32_t head = 0; head < num_kv_heads; ++head) {
    const auto at = out.indices.insert(out.indices.end(), static_cast<size_t>(count), 0);
    std::iota(at, out.indices.end(), prompt_len - count);
    out.offsets.push_back(static_cast<int32_t>(out.indices.size()));
  }
  return out;
}

/// The pages before `end` in which selected tokens lie.
OwnedSelection pages_of(const OwnedSelection& tokens, int32_t rank_size, int32_t end) {
  OwnedSelection out{.kind = SelectionKind::kPages, .offsets = {0}, .indices = {}};
  for (size_t row = 0; row + 1 < tokens.offsets.size(); ++row) {
    int32_t last = -1;
    for (int32_t at = tokens.offsets[row]; at < tokens.offsets[row + 1]; ++at) {
      const int32_t page = tokens.indices[static_cast<size_t>(at)] / rank_size;
      if (page != last && page < end) out.indices.push_back(page);
      last = page;
    }
    out.offsets.push_back(static_cast<int32_t>(out.indices.size()));
  }
  return out;
}

/// Adds a selection as a matrix: a row a KV head, short ones filled up with -1.
void trace_selection(TraceSink* trace, const std::string& name, const OwnedSelection& selection,
                     size_t first_row, size_t num_rows) {
  if (trace == nullptr || !trace->wants(name)) return;
  int32_t cols = 0;
  const auto begin = [&](size_t row) { return selection.offsets[first_row + row]; };
  for (size_t row = 0; row < num_rows; ++row) cols = std::max(cols, begin(row + 1) - begin(row));
  std::vector<float> values(num_rows * static_cast<size_t>(cols), -1.0F);
  for (size_t row = 0; row < num_rows; ++row) {
    std::copy(selection.indices.begin() + begin(row), selection.indices.begin() + begin(row + 1),
              values.begin() + static_cast<int64_t>(row) * cols);
  }
  trace->add(name, values.data(), static_cast<int64_t>(num_rows), cols, cols);
}

class Rocket final : public AttentionMethod {
 public:
  Rocket(Settings settings, const ModelShape& shape, DeviceKind device)
      : settings_(std::move(settings)), capabilities_(paged_capabilities(device)) {
    if (device == DeviceKind::kCuda) device_ = rocket::make_rocket_device(settings_, shape);
  }

  std::string_view name() const override { return "rocket"; }
  const Capabilities& capabilities() const override { return capabilities_; }

  std::vector<kv::LaneSpec> lanes(const kv::KvGeometry& cache) const override {
    rocket::check_page_size(cache.page_size, settings_.page_size, "rocket.page_size");
    return {{.name = "page bounds",
             .bytes_per_page =
                 rocket::bounds_bytes(cache, settings_.rank_size, settings_.bound_format)}};
  }

  int64_t workspace_bytes(const StepLimits& limits) const override {
    return device_ ? device_->workspace_bytes(limits) : 0;
  }

  bool active(Phase phase) const override {
    const std::vector<bool>& dense = settings_.dense;
    return phase == Phase::kDecode && std::find(dense.begin(), dense.end(), false) != dense.end();
  }

  void require_use() const override {
    const bool listed = settings_.num_listed > 0;  // else it is the model that leaves no layer
    FOVEAL_CHECK(active(Phase::kDecode),
                 listed ? ErrorKind::kInvalidArgument : ErrorKind::kUnsupported,
                 listed ? "rocket.dense_layers" : "rocket",
                 "got {} layers, of which {} are among dense_layers and the others have a window; "
                 "need one at least that attends to its whole text and is not listed",
                 settings_.dense.size(), settings_.num_listed);
  }

  Resolution resolve(int32_t layer, Phase phase) const override {
    if (phase == Phase::kPrefill) {
      return {"dense", "", "rocket selects when a prompt has been read"};
    }
    if (settings_.dense.at(static_cast<size_t>(layer))) {
      return {"dense", "", "the layer has a window, or dense_layers lists it"};
    }
    const std::string first =
        settings_.ranks_all ? "ranks all pages"
                            : fmt::format("{} {} tokens", settings_.evicts ? "keeps" : "chooses",
                                          settings_.prompt_budget);
    // In the configuration's own words, with what is chosen where it says nothing.
    const int32_t topk = settings_.topk / (settings_.page_size / settings_.rank_size);
    const bool spread = settings_.bound_kind == rocket::BoundKind::kMeanStd;
    return {"rocket",
            fmt::format("{}, topk {}, page_size {}, rank_size {}, score {}", first, topk,
                        settings_.page_size, settings_.rank_size, spread ? "mean_std" : "minmax"),
            "from the configuration"};
  }

  int32_t kept_tokens(int32_t prompt_len) const override {
    return settings_.evicts ? reached_tokens(prompt_len) : prompt_len;
  }
  int32_t reached_tokens(int32_t prompt_len) const override {
    return settings_.selects(prompt_len) ? settings_.prompt_budget : prompt_len;
  }
  int32_t own_tokens(int32_t prompt_len) const override {
    return settings_.selects(prompt_len) ? settings_.window_size : 1;  // whose queries select
  }

  std::unique_ptr<SequenceState> make_state() const override {
    if (device_) return device_->make_state();
    return std::make_unique<RocketState>(settings_.dense.size());
  }

  void append(int32_t layer, Phase phase, const AttendArgs& args, Stream& stream) override {
    if (settings_.dense.at(static_cast<size_t>(layer))) return;
    if (device_) return device_->append(layer, phase, args, stream);
    rocket::update_bounds(args.kv, args.seqs, bounds(args.kv), stream);
    if (phase == Phase::kDecode) return;
    for (size_t idx = 0; idx < args.seqs.size(); ++idx) {
      if (settings_.selects(args.seqs[idx].threshold_len)) push_queries(layer, args, idx);
    }
  }

  void attend(int32_t layer, Phase phase, const AttendArgs& args, Stream& stream) override {
    FOVEAL_INVARIANT(phase == Phase::kDecode);
    if (settings_.dense.at(static_cast<size_t>(layer))) {
      return attend_paged(phase, args, {}, stream);
    }
    if (device_) return device_->attend(args, layer, stream);
    const OwnedSelection selection = select(layer, args, stream);
    std::vector<kernels::AttentionCounters> before;
    if (args.counters != nullptr) {
      before.assign(args.counters, args.counters + args.seqs.size());
    }
    rocket::attend_pages(host_params(args), selection.view(), settings_.rank_size, stream);
    count_pages(args, selection, before);
    if (args.trace == nullptr) return;
    const kernels::AttentionSeq& seq = args.seqs.front();
    trace_selection(args.trace,
                    fmt::format("rocket.decode.{}.{}", layer, seq.evicted + seq.kv_len - 1),
                    selection, 0, static_cast<size_t>(args.kv.num_kv_heads));
  }

  void after_prefill(const PromptEnd& end, Stream& stream) override {
    const int32_t prompt_len = end.seq.kv_len;
    if (!settings_.selects(prompt_len)) return;
    FOVEAL_INVARIANT(end.fresh.empty() != settings_.evicts);
    if (device_) return device_->after_prefill(end, stream);
    RocketState& state = state_of(end.state);
    state.first_new = prompt_len / settings_.rank_size;
    state.has_candidates = !settings_.evicts;
    for (size_t layer = 0; layer < settings_.dense.size(); ++layer) {
      const KvLayerView& kv = end.kv[layer];
      if (settings_.dense[layer]) {
        if (settings_.evicts) {
          move(last_tokens(prompt_len, settings_.prompt_budget, kv.num_kv_heads), kv, end, stream);
        }
        continue;
      }
      LayerState& own = state.layers[layer];
      const OwnedSelection kept = select_prompt(own, kv, end.seq, stream);
      own.ring.reset();
      trace_selection(end.trace, fmt::format("rocket.prompt.{}", layer), kept, 0,
                      static_cast<size_t>(kv.num_kv_heads));
      if (settings_.evicts) {
        move(kept, kv, end, stream);
        update_moved(kv, end, stream);
      } else {
        own.candidates = pages_of(kept, settings_.rank_size, state.first_new);
      }
    }
  }

 private:
  rocket::PageBounds bounds(const KvLayerView& kv) const {
    FOVEAL_INVARIANT(kv.lanes != nullptr);
    return {.data = kv.lanes[0],
            .bytes_per_page = rocket::bounds_bytes(kv, settings_.rank_size, settings_.bound_format),
            .format = settings_.bound_format,
            .kind = settings_.bound_kind,
            .page_size = settings_.rank_size};
  }

  void push_queries(int32_t layer, const AttendArgs& args, size_t idx) const {
    const kernels::AttentionSeq& seq = args.seqs[idx];
    if (seq.kv_len <= seq.threshold_len - settings_.window_size) return;
    const int64_t width = int64_t{args.num_heads} * args.kv.head_dim;
    LayerState& own = state_of(args.states[idx]).layers[static_cast<size_t>(layer)];
    if (!own.ring) own.ring.emplace(settings_.window_size, width);
    own.softmax_scale = args.softmax_scale;
    own.exact = args.exact;
    own.ring->push(static_cast<const float*>(args.q) + seq.q_begin * args.q_stride, args.q_stride,
                   seq.kv_len - seq.q_len, seq.q_len);
  }

  OwnedSelection select_prompt(const LayerState& own, const KvLayerView& kv,
                               const kernels::AttentionSeq& seq, Stream& stream) const {
    FOVEAL_INVARIANT(own.ring.has_value());
    return rocket::select_prompt(
        {.ring = &*own.ring,
         .kv = kv,
         .pages = seq.pages,
         .num_heads = static_cast<int32_t>(own.ring->width() / kv.head_dim),
         .prompt_len = seq.kv_len,
         .budget = settings_.prompt_budget,
         .sink = settings_.sink_tokens(),
         .kernel_size = settings_.kernel_size,
         .softmax_scale = own.softmax_scale,
         .exact = own.exact},
        stream);
  }

  static void move(const OwnedSelection& kept, const KvLayerView& kv, const PromptEnd& end,
                   Stream& stream) {
    rocket::compact(kv, end.seq.pages, kept.view(), end.fresh.data(), stream);
  }

  void update_moved(const KvLayerView& kv, const PromptEnd& end, Stream& stream) const {
    const kernels::AttentionSeq moved{.q_len = settings_.prompt_budget,
                                      .kv_len = settings_.prompt_budget,
                                      .threshold_len = settings_.prompt_budget,
                                      .pages = end.fresh.data()};
    rocket::update_bounds(kv, {&moved, 1}, bounds(kv), stream);
  }

  OwnedSelection select(int32_t layer, const AttendArgs& args, Stream& stream) const {
    std::vector<rocket::PageCandidates> candidates(args.seqs.size());
    for (size_t idx = 0; idx < candidates.size() && !settings_.evicts; ++idx) {
      const RocketState& state = state_of(args.states[idx]);
      if (!state.has_candidates) continue;
      candidates[idx] = {.prompt = &state.layers[static_cast<size_t>(layer)].candidates,
                         .first_new = state.first_new};
    }
    return rocket::select_pages({.q = static_cast<const float*>(args.q),
                                 .q_stride = args.q_stride,
                                 .num_heads = args.num_heads,
                                 .kv = args.kv,
                                 .seqs = args.seqs,
                                 .bounds = bounds(args.kv),
                                 .topk = settings_.topk,
                                 .sink = settings_.sink,
                                 .recent = settings_.recent,
                                 .max_over_group = settings_.max_over_group,
                                 .num_channels = settings_.num_channels,
                                 .softmax_scale = args.softmax_scale,
                                 .exact = args.exact,
                                 .candidates = candidates},
                                stream);
  }

  /// Blocks of the report are pages, whichever kernel ran.
  void count_pages(const AttendArgs& args, const OwnedSelection& selection,
                   const std::vector<kernels::AttentionCounters>& before) const {
    if (args.counters == nullptr) return;
    const auto heads = static_cast<size_t>(args.kv.num_kv_heads);
    for (size_t idx = 0; idx < before.size(); ++idx) {
      const auto pages =
          static_cast<uint64_t>(ceil_div(args.seqs[idx].kv_len, settings_.rank_size)) * heads;
      const int32_t read = selection.offsets[(idx + 1) * heads] - selection.offsets[idx * heads];
      args.counters[idx].tiles = before[idx].tiles + pages;
      args.counters[idx].tiles_skipped =
          before[idx].tiles_skipped + pages - static_cast<uint64_t>(read);
    }
  }

  Settings settings_;
  Capabilities capabilities_;
  std::unique_ptr<rocket::RocketDevice> device_;  ///< null on a CPU
};

MethodExample example(std::string name, const RocketSparseAttentionConfig& config,
                      bool equals_dense) {
  return {.name = std::move(name),
          .config = std::make_shared<const SparseAttentionConfig>(config),
          .equals_dense = equals_dense};
}

}  // namespace

std::unique_ptr<AttentionMethod> make_rocket(const SparseAttentionConfig* config,
                                             const MethodContext& context) {
  if (config == nullptr) return nullptr;
  // Before a head size that a latent cache alone has is refused.
  FOVEAL_CHECK(
      context.shape.value_dim == 0, ErrorKind::kUnsupported, "rocket",
      "got a latent cache (multi-head latent attention) on {}; need one of K and V per KV head",
      context.device.kind == DeviceKind::kCpu ? "cpu" : "cuda");
  return std::make_unique<Rocket>(
      rocket::make_settings(std::get<RocketSparseAttentionConfig>(*config), context.shape),
      context.shape, context.device.kind);
}

std::vector<MethodExample> rocket_examples() {
  constexpr int64_t kAll = 1 << 20;
  const RocketSparseAttentionConfig all{.topk = kAll, .prompt_budget = kAll};
  RocketSparseAttentionConfig all_turns = all;
  all_turns.mode = "multi_turn";
  const RocketSparseAttentionConfig evict{
      .window_size = 8, .kernel_size = 7, .topk = 8, .prompt_budget = 64};
  RocketSparseAttentionConfig turns = evict;
  turns.mode = "multi_turn";
  RocketSparseAttentionConfig candidates = turns;
  candidates.candidates = "prompt";
  RocketSparseAttentionConfig other = candidates;
  other.topr = 0.5;
  other.kt_cache_dtype = "bfloat16";
  other.rank_size = 4;
  other.score = "minmax";
  other.pool_group = "max";
  other.force_recent = 2;
  other.sink = 1;
  return {example("all", all, /*equals_dense=*/true),
          example("all_turns", all_turns, /*equals_dense=*/true),
          example("evict", evict, /*equals_dense=*/false),
          example("multi_turn", turns, /*equals_dense=*/false),
          example("candidates", candidates, /*equals_dense=*/false),
          example("other_scores", other, /*equals_dense=*/false)};
}

}  // namespace foveal::attention
