#include "attention/attention_set.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "attention/capabilities.h"
#include "attention/paged.h"
#include "attention/registry.h"
#include "base/check.h"
#include "base/config_fields.h"

namespace foveal::attention {
namespace {

constexpr std::string_view kWhere = "sparse_attention_config";

AttentionSet::Methods make_configured(std::span<const SparseAttentionConfig> configs,
                                      const MethodContext& context) {
  AttentionSet::Methods methods;
  for (const SparseAttentionConfig& config : configs) {
    const std::string_view name = algorithm_name(config);
    for (const auto& other : methods) {
      FOVEAL_CHECK(other->name() != name, ErrorKind::kInvalidArgument, kWhere,
                   "got {} twice; need one object per algorithm", name);
    }
    methods.push_back(find_method(name).make(&config, context));
    FOVEAL_INVARIANT(methods.back() != nullptr);
  }
  return methods;
}

/// Methods that the checkpoint's own metadata or weights ask for.
AttentionSet::Methods make_from_checkpoint(const MethodContext& context) {
  AttentionSet::Methods methods;
  if (context.checkpoint_sparse_json.empty() && !context.shape.indexer) return methods;
  for (const MethodRow& row : method_rows()) {
    if (row.name == kDenseMethod) continue;
    if (auto method = row.make(/*config=*/nullptr, context)) methods.push_back(std::move(method));
  }
  return methods;
}

AttentionMethod* serve(const AttentionSet::Methods& methods, Phase phase) {
  AttentionMethod* active = nullptr;
  for (const auto& method : methods) {
    if (!method->active(phase)) continue;
    FOVEAL_CHECK(active == nullptr, ErrorKind::kInvalidArgument, kWhere,
                 "got {} and {} both for {}; need at most one method a phase", active->name(),
                 method->name(), phase_name(phase));
    active = method.get();
  }
  if (active != nullptr) return active;
  FOVEAL_INVARIANT(!methods.empty() && methods.back()->name() == kDenseMethod);
  return methods.back().get();
}

std::string describe_phase(const AttentionMethod& method, Phase phase, int32_t num_layers) {
  int32_t sparse = 0;
  std::string setting;
  for (int32_t layer = 0; layer < num_layers; ++layer) {
    const Resolution resolution = method.resolve(layer, phase);
    if (resolution.method == kDenseMethod) continue;
    if (sparse++ == 0) setting = resolution.setting;
  }
  if (sparse == 0) return fmt::format("{}: dense", phase_name(phase));
  return fmt::format("{}: {} ({}) in {} of {} layers", phase_name(phase), method.name(), setting,
                     sparse, num_layers);
}

}  // namespace

AttentionSet::AttentionSet(Methods methods)
    : methods_(std::move(methods)),
      prefill_(serve(methods_, Phase::kPrefill)),
      decode_(serve(methods_, Phase::kDecode)),
      serving_{prefill_} {
  if (decode_ != prefill_) serving_.push_back(decode_);
}

std::string AttentionSet::name() const {
  std::string name;
  for (const Phase phase : kPhases) {
    if (!method(phase).active(phase) || name == method(phase).name()) continue;
    if (!name.empty()) name += '+';
    name += method(phase).name();
  }
  return name.empty() ? std::string(kDenseMethod) : name;
}

std::string AttentionSet::describe(int32_t num_layers) const {
  return fmt::format("{}; {}", describe_phase(*prefill_, Phase::kPrefill, num_layers),
                     describe_phase(*decode_, Phase::kDecode, num_layers));
}

Resolution AttentionSet::resolve(int32_t layer, Phase phase) const {
  const AttentionMethod& serving = method(phase);
  // Of a phase that no method is active in, the one that could have been knows why.
  const bool idle = serving.name() == kDenseMethod && methods_.size() > 1;
  return (idle ? *methods_.front() : serving).resolve(layer, phase);
}

std::string AttentionSet::prefix_key(std::optional<int64_t> prompt_len,
                                     const PhaseValue& own) const {
  return prefill_->prefix_key(prompt_len, own);
}

PhaseValue AttentionSet::request_factors(const SparseOverride& wanted) const {
  constexpr std::string_view kField = "sparse_attention";
  PhaseValue own = wanted.threshold_scale_factor.value_or(PhaseValue{});
  FOVEAL_CHECK(!wanted.off || !wanted.threshold_scale_factor, ErrorKind::kInvalidArgument, kField,
               "got off and threshold_scale_factor; need one of them");
  for (const Phase phase : kPhases) {
    std::optional<double>& factor = phase == Phase::kPrefill ? own.prefill : own.decode;
    const AttentionMethod& serving = method(phase);
    const bool dense = serving.name() == kDenseMethod;
    if (wanted.off) {
      FOVEAL_CHECK(dense || serving.takes_factors(), ErrorKind::kInvalidArgument, kField,
                   "got off for {}, which runs {}; need its settings", phase_name(phase),
                   serving.name());
      factor = 0;
    }
    if (!factor) continue;
    FOVEAL_CHECK(std::isfinite(*factor) && (*factor == 0 || *factor >= kMinFactor),
                 ErrorKind::kInvalidArgument, kField,
                 "got threshold_scale_factor {} for {}; need 0 or a number of at least {}", *factor,
                 phase_name(phase), kMinFactor);
    FOVEAL_CHECK(*factor == 0 || serving.takes_factors(), ErrorKind::kInvalidArgument, kField,
                 "got a threshold_scale_factor for {}, which runs {}; need a phase that the engine "
                 "runs skip_softmax in",
                 phase_name(phase), serving.name());
  }
  return own;
}

void AttentionSet::require(Device device, const kv::KvGeometry& cache) const {
  for (const auto& method : methods_) method->require_use();
  for (const Phase phase : kPhases) {
    require_capable(method(phase), {.device = device.kind,
                                    .kv_dtype = cache.dtype,
                                    .phase = phase,
                                    .latent = cache.value_dim > 0,
                                    .head_dim = cache.head_dim});
  }
}

bool AttentionSet::shares_prefix_pages() const {
  return prefill_->capabilities().shares_prefix_pages &&
         decode_->capabilities().shares_prefix_pages;
}

std::vector<kv::LaneSpec> AttentionSet::lanes(const kv::KvGeometry& cache) const {
  std::vector<kv::LaneSpec> lanes;
  for (const AttentionMethod* method : serving_) {
    std::vector<kv::LaneSpec> own = method->lanes(cache);
    FOVEAL_INVARIANT(own.empty() || lanes.empty());  // KvLayerView::lanes are one method's
    if (!own.empty()) lanes = std::move(own);
  }
  return lanes;
}

int32_t AttentionSet::kept_tokens(int32_t prompt_len) const {
  return std::min(prefill_->kept_tokens(prompt_len), decode_->kept_tokens(prompt_len));
}

int32_t AttentionSet::reached_tokens(int32_t prompt_len) const {
  return std::min(prefill_->reached_tokens(prompt_len), decode_->reached_tokens(prompt_len));
}

int32_t AttentionSet::own_tokens(int32_t prompt_len) const {
  return std::max(prefill_->own_tokens(prompt_len), decode_->own_tokens(prompt_len));
}

std::unique_ptr<SequenceState> AttentionSet::make_state() const {
  std::unique_ptr<SequenceState> state;
  for (const AttentionMethod* method : serving_) {
    std::unique_ptr<SequenceState> own = method->make_state();
    FOVEAL_INVARIANT(own == nullptr || state == nullptr);  // AttendArgs::states are one method's
    if (own) state = std::move(own);
  }
  return state;
}

int64_t AttentionSet::workspace_bytes(const StepLimits& limits) const {
  int64_t bytes = 0;
  for (const AttentionMethod* method : serving_) bytes += method->workspace_bytes(limits);
  return bytes;
}

void AttentionSet::append(int32_t layer, Phase phase, const AttendArgs& args,
                          Stream& stream) const {
  for (AttentionMethod* method : serving_) method->append(layer, phase, args, stream);
}

void AttentionSet::after_prefill(const PromptEnd& end, Stream& stream) const {
  for (AttentionMethod* method : serving_) method->after_prefill(end, stream);
}

std::unique_ptr<AttentionSet> make_attention(std::span<const SparseAttentionConfig> configs,
                                             const ModelShape& shape,
                                             std::string_view checkpoint_sparse_json, Device device,
                                             bool exact, bool e4m3_prefill) {
  const MethodContext context{shape, checkpoint_sparse_json, device, exact, e4m3_prefill};
  AttentionSet::Methods methods =
      configs.empty() ? make_from_checkpoint(context) : make_configured(configs, context);
  methods.push_back(find_method(kDenseMethod).make(nullptr, context));
  auto set = std::make_unique<AttentionSet>(std::move(methods));
  for (const Phase phase : kPhases) require_device(set->method(phase), device);
  return set;
}

}  // namespace foveal::attention
