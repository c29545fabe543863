// The method on CUDA: from its calls to the kernels' parameters.
#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "attention/paged_cuda.h"
#include "attention/rocket/rocket_device.h"
#include "base/check.h"
#include "base/math.h"
#include "kernels/cuda/rocket.h"

namespace foveal::attention::rocket {
namespace {

namespace cuda = kernels::cuda;

/// Memory of one size that requests take in turn. In stream order, so that what an ended request
/// left may still be read by a step under way when the next one gets it.
class Recycler {
 public:
  explicit Recycler(const char* name) : name_(name) {}
  Buffer take(Device device, size_t bytes) {
    if (free_.empty()) return {device, bytes, name_};
    Buffer out = std::move(free_.back());
    free_.pop_back();
    return out;
  }
  void give(Buffer buffer) {
    if (buffer.size() > 0) free_.push_back(std::move(buffer));
  }

 private:
  const char* name_;
  std::vector<Buffer> free_;
};

struct Shared {
  Recycler rings{"window queries"};
  Recycler lists{"candidates"};
};

struct DeviceState final : SequenceState {
  explicit DeviceState(std::shared_ptr<Shared> from) : shared(std::move(from)) {}
  ~DeviceState() override {
    shared->rings.give(std::move(rings));
    shared->lists.give(std::move(lists));
  }
  DeviceState(const DeviceState&) = delete;
  DeviceState& operator=(const DeviceState&) = delete;
  const void* device_data() const override { return lists.size() > 0 ? lists.data() : nullptr; }

  std::shared_ptr<Shared> shared;
  Buffer rings;  ///< [num_layers, window, width] bf16, until the prompt's end
  Buffer lists;  ///< foveal_rocket_params::candidates, a block a layer
  float softmax_scale = 1;
};

DeviceState& state_of(SequenceState* state) {
  FOVEAL_INVARIANT(state != nullptr);
  return static_cast<DeviceState&>(*state);  // made by make_state
}

class RocketCuda final : public RocketDevice {
 public:
  RocketCuda(const Settings& settings, const ModelShape& shape)
      : settings_(settings), shape_(shape), shared_(std::make_shared<Shared>()) {
    FOVEAL_CHECK(settings.ranks_all || settings.kernel_size <= cuda::kMostPoolKernel,
                 ErrorKind::kUnsupported, "rocket.kernel_size", "got {} on CUDA; need at most {}",
                 settings.kernel_size, cuda::kMostPoolKernel);
  }

  /// Of decode: nearly all of it scores of pages, where a step has many. With what DeviceWorkspace
  /// adds.
  int64_t workspace_bytes(const StepLimits& limits) const override {
    foveal_rocket_params most{};
    most.attention.num_seqs = most.attention.num_rows = static_cast<int32_t>(limits.max_seqs);
    most.attention.num_heads = shape_.num_heads;
    most.attention.num_kv_heads = shape_.num_kv_heads;
    most.attention.head_dim = shape_.head_dim;
    most.attention.max_kv_len = static_cast<int32_t>(limits.max_kv_len);
    most.bounds.page_tokens = settings_.rank_size;
    most.topk = settings_.topk;
    return static_cast<int64_t>(cuda::rocket_decode_workspace_bytes(most)) / 4 * 5;
  }

  std::unique_ptr<SequenceState> make_state() override {
    return std::make_unique<DeviceState>(shared_);
  }

  void append(int32_t layer, Phase phase, const AttendArgs& args, Stream& stream) override {
    if (phase == Phase::kDecode) return;  // the step brings its page's bounds up to date
    foveal_bounds_params bounds = bounds_params(args.kv);
    const kernels::DeviceSeqs& seqs = *args.device_seqs;
    bounds.num_seqs = seqs.num_seqs;
    bounds.max_q_len = seqs.max_q_len;
    bounds.cu_q = seqs.cu_q;
    bounds.kv_len = seqs.kv_len;
    bounds.page_table = seqs.page_table;
    bounds.page_table_stride = seqs.page_table_stride;
    cuda::rocket_bounds(bounds, stream.native());
    for (size_t idx = 0; idx < args.seqs.size(); ++idx) push_queries(layer, args, idx, stream);
  }

  void attend(const AttendArgs& args, int32_t layer, Stream& stream) override {
    FOVEAL_INVARIANT(args.workspace != nullptr);
    foveal_rocket_params params{};
    params.struct_size = sizeof(params);
    params.attention = paged_params(args, /*skip_factor=*/0);
    params.attention.cu_q = nullptr;
    params.attention.counters = reinterpret_cast<uint64_t*>(args.counters);
    params.topk = settings_.topk;
    params.num_channels = settings_.num_channels;
    params.bounds = lane(args.kv);
    params.sink_pages = settings_.sink;
    params.recent_pages = settings_.recent;
    params.flags = settings_.max_over_group ? FOVEAL_ROCKET_GROUP_MAX : 0;
    if (!settings_.evicts && !settings_.ranks_all) {
      params.candidates = reinterpret_cast<const int32_t* const*>(args.device_seqs->states);
      params.candidates_offset = list_offset(layer, args.kv.num_kv_heads);
      params.candidates_stride = list_stride();
    }
    give_workspace(params.attention, cuda::rocket_decode_workspace_bytes(params), args, stream);
    cuda::rocket_decode(params, stream.native());
  }

  void after_prefill(const PromptEnd& end, Stream& stream) override {
    DeviceState& state = state_of(end.state);
    const int32_t prompt_len = end.seq.kv_len;
    send_tables(end, stream);
    const KvLayerView& first = end.kv.front();
    const auto kept = int64_t{first.num_kv_heads} * settings_.prompt_budget;
    auto* tokens = reinterpret_cast<int32_t*>(
        kept_.reserve(stream.device(), static_cast<size_t>(kept) * sizeof(int32_t)));
    if (!settings_.evicts) {
      const int64_t cells = list_offset(shape_.num_layers, first.num_kv_heads);
      state.lists =
          shared_->lists.take(stream.device(), static_cast<size_t>(cells) * sizeof(int32_t));
    }
    for (int32_t layer = 0; layer < shape_.num_layers; ++layer) {
      const KvLayerView& kv = end.kv[static_cast<size_t>(layer)];
      if (settings_.dense[static_cast<size_t>(layer)]) {
        if (!settings_.evicts) continue;
        cuda::rocket_keep_range(tokens, settings_.prompt_budget, kv.num_kv_heads,
                                prompt_len - settings_.prompt_budget, settings_.prompt_budget,
                                stream.native());
        move(kv, tokens, stream);
        continue;
      }
      select_prompt(layer, kv, end.seq, state, tokens, stream);
      if (end.trace != nullptr) trace_kept(*end.trace, layer, kv.num_kv_heads, tokens, stream);
      if (settings_.evicts) {
        move(kv, tokens, stream);
        bound_moved(kv, stream);
      } else {
        list_candidates(layer, kv, prompt_len, state, tokens, stream);
      }
    }
    shared_->rings.give(std::move(state.rings));
    state.rings = {};
  }

 private:
  /// A prompt's candidates in a layer and KV head: their number and the pages, of which there are
  /// no more than kept tokens.
  int64_t list_stride() const { return int64_t{settings_.prompt_budget} + 1; }
  /// Of a layer's lists, behind the first own page.
  int64_t list_offset(int64_t layer, int64_t num_kv_heads) const {
    return 1 + layer * num_kv_heads * list_stride();
  }
  int64_t width() const { return int64_t{shape_.num_heads} * shape_.head_dim; }

  foveal_page_bounds lane(const KvLayerView& kv) const {
    FOVEAL_INVARIANT(kv.lanes != nullptr);
    const bool bf16 = settings_.bound_format == BoundFormat::kBf16;
    return {.data = kv.lanes[0],
            .page_stride = bounds_bytes(kv, settings_.rank_size, settings_.bound_format) /
                           kernels::cpu::bound_bytes(settings_.bound_format),
            .dtype = bf16 ? FOVEAL_BOUND_BF16 : FOVEAL_BOUND_E5M2,
            .page_tokens = settings_.rank_size,
            .kind = settings_.bound_kind == BoundKind::kMeanStd ? FOVEAL_BOUND_MEAN_STD
                                                                : FOVEAL_BOUND_MIN_MAX};
  }

  foveal_bounds_params bounds_params(const KvLayerView& kv) const {
    foveal_bounds_params out{};
    out.struct_size = sizeof(out);
    fill_keys(out, kv);
    out.bounds = lane(kv);
    return out;
  }

  void push_queries(int32_t layer, const AttendArgs& args, size_t idx, Stream& stream) {
    const kernels::AttentionSeq& seq = args.seqs[idx];
    const int32_t prompt_len = seq.threshold_len;
    if (!settings_.selects(prompt_len)) return;
    if (seq.kv_len <= prompt_len - settings_.window_size) return;
    FOVEAL_INVARIANT(args.activation == DType::kBF16);
    DeviceState& state = state_of(args.states[idx]);
    const int64_t layer_bytes = settings_.window_size * width() * 2;
    if (state.rings.size() == 0) {
      state.rings = shared_->rings.take(stream.device(),
                                        static_cast<size_t>(layer_bytes * shape_.num_layers));
    }
    state.softmax_scale = args.softmax_scale;
    cuda::rocket_push(
        {.q = static_cast<const std::byte*>(args.q) + int64_t{seq.q_begin} * args.q_stride * 2,
         .q_stride_bytes = args.q_stride * 2,
         .row_bytes = static_cast<int32_t>(width() * 2),
         .ring = state.rings.data() + layer * layer_bytes,
         .window = settings_.window_size,
         .position = seq.kv_len - seq.q_len,
         .num_rows = seq.q_len},
        stream.native());
  }

  /// The prompt's pages, the fresh ones and their length, for the kernels of a prompt's end.
  void send_tables(const PromptEnd& end, Stream& stream) {
    const auto pages = static_cast<size_t>(ceil_div(end.seq.kv_len, end.kv.front().page_size));
    std::vector<int32_t> words = {settings_.prompt_budget};
    words.insert(words.end(), end.seq.pages, end.seq.pages + pages);
    words.insert(words.end(), end.fresh.begin(), end.fresh.end());
    const size_t bytes = words.size() * sizeof(int32_t);
    moved_len_ = reinterpret_cast<int32_t*>(tables_.reserve(stream.device(), bytes));
    stream.copy(moved_len_, words.data(), bytes);
    from_pages_ = moved_len_ + 1;
    to_pages_ = from_pages_ + pages;
  }

  void select_prompt(int32_t layer, const KvLayerView& kv, const kernels::AttentionSeq& seq,
                     const DeviceState& state, int32_t* tokens, Stream& stream) {
    FOVEAL_INVARIANT(state.rings.size() > 0);
    foveal_rocket_prompt_params params{};
    params.struct_size = sizeof(params);
    fill_keys(params, kv);
    params.q_dtype = FOVEAL_BF16;
    params.q = state.rings.data() + layer * settings_.window_size * width() * 2;
    params.q_row_stride = width();
    params.q_head_stride = kv.head_dim;
    params.page_table = from_pages_;
    params.num_heads = shape_.num_heads;
    params.prompt_len = seq.kv_len;
    params.window = settings_.window_size;
    params.budget = settings_.prompt_budget;
    params.sink_tokens = settings_.sink_tokens();
    params.kernel_size = settings_.kernel_size;
    params.softmax_scale = state.softmax_scale;
    params.q_scale = 1;
    params.k_scale = kv.k_scale;
    params.kept = tokens;
    const size_t bytes = cuda::rocket_prompt_workspace_bytes(params);
    params.workspace = prompt_workspace_.reserve(stream.device(), bytes);
    params.workspace_bytes = prompt_workspace_.size();
    cuda::rocket_prompt(params, stream.native());
  }

  /// A row a KV head.
  void trace_kept(TraceSink& trace, int32_t layer, int32_t heads, const int32_t* tokens,
                  const Stream& stream) const {
    const std::string name = fmt::format("rocket.prompt.{}", layer);
    if (!trace.wants(name)) return;
    std::vector<int32_t> host(static_cast<size_t>(heads) *
                              static_cast<size_t>(settings_.prompt_budget));
    stream.copy(host.data(), tokens, host.size() * sizeof(int32_t));
    stream.synchronize();
    const std::vector<float> values(host.begin(), host.end());
    trace.add(name, values.data(), heads, settings_.prompt_budget, settings_.prompt_budget);
  }

  void move(const KvLayerView& kv, const int32_t* tokens, Stream& stream) const {
    foveal_compact_params params{};
    params.struct_size = sizeof(params);
    fill_keys_and_values(params, kv);
    params.num_tokens = settings_.prompt_budget;
    params.kept = tokens;
    params.kept_stride = settings_.prompt_budget;
    params.from_pages = from_pages_;
    params.to_pages = to_pages_;
    cuda::rocket_compact(params, stream.native());
  }

  void bound_moved(const KvLayerView& kv, Stream& stream) const {
    foveal_bounds_params params = bounds_params(kv);
    params.num_seqs = 1;
    params.max_q_len = settings_.prompt_budget;
    params.kv_len = moved_len_;
    params.page_table = to_pages_;
    cuda::rocket_bounds(params, stream.native());
  }

  void list_candidates(int32_t layer, const KvLayerView& kv, int32_t prompt_len,
                       const DeviceState& state, const int32_t* tokens, Stream& stream) const {
    auto* cells = reinterpret_cast<int32_t*>(state.lists.data());
    foveal_candidates_params params{};
    params.struct_size = sizeof(params);
    params.num_kv_heads = kv.num_kv_heads;
    params.num_tokens = settings_.prompt_budget;
    params.page_tokens = settings_.rank_size;
    params.end_page = prompt_len / settings_.rank_size;
    params.kept = tokens;
    params.kept_stride = settings_.prompt_budget;
    params.candidates = cells + list_offset(layer, kv.num_kv_heads);
    params.candidates_stride = list_stride();
    params.first_own = cells;
    cuda::rocket_candidates(params, stream.native());
  }

  const Settings& settings_;
  ModelShape shape_;
  std::shared_ptr<Shared> shared_;
  DeviceWorkspace prompt_workspace_, kept_, tables_;
  int32_t* moved_len_ = nullptr;
  const int32_t* from_pages_ = nullptr;
  const int32_t* to_pages_ = nullptr;
};

}  // namespace

std::unique_ptr<RocketDevice> make_rocket_device(const Settings& settings,
                                                 const ModelShape& shape) {
  return std::make_unique<RocketCuda>(settings, shape);
}

}  // namespace foveal::attention::rocket
