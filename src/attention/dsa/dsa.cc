#include "attention/dsa/dsa.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "attention/dsa/dsa_device.h"
#include "attention/dsa/index_keys.h"
#include "attention/dsa/index_select.h"
#include "attention/dsa/set_hook.h"
#include "attention/dsa/settings.h"
#include "attention/latent.h"
#include "base/check.h"

namespace foveal::attention {
namespace {

using dsa::IndexFormat;
using dsa::OwnedSets;
using dsa::Settings;

/// Adds each row's set as a row of `topk` positions, short ones filled up with -1. Rows of later
/// calls go on where these end.
void trace_sets(TraceSink* trace, int32_t layer, const OwnedSets& sets, int32_t topk) {
  if (trace == nullptr) return;
  const std::string name = fmt::format("dsa.topk.{}", layer);
  if (!trace->wants(name)) return;
  const size_t rows = sets.offsets.size() - 1;
  const auto cols = static_cast<size_t>(topk);
  std::vector<float> values(rows * cols, -1.0F);
  for (size_t row = 0; row < rows; ++row) {
    std::copy(sets.tokens.begin() + sets.offsets[row], sets.tokens.begin() + sets.offsets[row + 1],
              values.begin() + static_cast<int64_t>(row * cols));
  }
  trace->add(name, values.data(), static_cast<int64_t>(rows), topk, topk);
}

class Dsa final : public AttentionMethod {
 public:
  Dsa(Settings settings, DeviceKind device) : settings_(std::move(settings)), selector_(settings_) {
    capabilities_ = {.devices = {DeviceKind::kCpu, DeviceKind::kCuda},
                     .kv_dtypes = {DType::kBF16, DType::kF16, DType::kF32},
                     .sliding_window = false,
                     .per_head = false,
                     .latent = true};
    if (settings_.reference) capabilities_.devices = {DeviceKind::kCpu};
    if (device != DeviceKind::kCuda) return;
    capabilities_.kv_dtypes = {DType::kBF16, DType::kF8E4M3};
    device_ = dsa::make_dsa_device(settings_);
  }

  std::string_view name() const override { return "dsa"; }
  const Capabilities& capabilities() const override { return capabilities_; }
  bool active(Phase /*phase*/) const override { return true; }

  std::vector<kv::LaneSpec> lanes(const kv::KvGeometry& cache) const override {
    FOVEAL_CHECK(cache.value_dim > 0, ErrorKind::kUnsupported, "dsa",
                 "got a cache of K and V per KV head; need a latent one");
    return {{.name = "index keys",
             .bytes_per_page = dsa::index_page_bytes(cache.page_size, settings_.head_dim, format()),
             .layers = settings_.full}};
  }

  int64_t workspace_bytes(const StepLimits& limits) const override {
    return device_ ? device_->workspace_bytes(limits) : selector_.workspace_bytes(limits);
  }

  Resolution resolve(int32_t layer, Phase /*phase*/) const override {
    const int32_t owner = settings_.owner.at(static_cast<size_t>(layer));
    const std::string whose = owner == layer ? std::string("an indexer of its own")
                                             : fmt::format("the set of layer {}", owner);
    std::string setting = fmt::format("index_topk {}, {}, index keys {}", settings_.topk, whose,
                                      settings_.reference ? "float32" : "FP8");
    if (settings_.max_chunk != dsa::kDefaultChunk) {
      setting += fmt::format(", indexer_max_chunk_size {}", settings_.max_chunk);
    }
    if (!settings_.skip_short) setting += ", skip_indexer_for_short_seqs false";
    return {"dsa", std::move(setting),
            settings_.configured ? "from the configuration" : "the checkpoint has an indexer"};
  }

  /// What a prompt's tokens write depends on the tokens before them alone, not on its length.
  std::string prefix_key(std::optional<int64_t> /*prompt_len*/,
                         const PhaseValue& /*own*/) const override {
    return fmt::format("dsa {} {}", settings_.topk, settings_.reference ? "reference" : "fp8");
  }

  bool attends_to_all(Phase /*phase*/, int64_t max_kv_len) const override {
    return max_kv_len <= settings_.topk;
  }

  void plan(Phase phase, std::span<const kernels::AttentionSeq> seqs) override {
    PhaseSets& sets = sets_of(phase);
    sets.all = std::all_of(seqs.begin(), seqs.end(), [&](const kernels::AttentionSeq& seq) {
      return settings_.unscored(seq.kv_len);
    });
    sets.layer = -1;
  }

  void append(int32_t layer, Phase /*phase*/, const AttendArgs& args, Stream& stream) override {
    if (settings_.full.at(static_cast<size_t>(layer)) == 0) return;
    if (device_) return device_->append(args, stream);
    FOVEAL_INVARIANT(args.index != nullptr && args.activation == DType::kF32);
    dsa::store_index_keys(static_cast<const float*>(args.index->k), args.index->k_stride,
                          lane(args.kv), args.seqs, stream);
  }

  void attend(int32_t layer, Phase phase, const AttendArgs& args, Stream& stream) override {
    const int32_t owner = settings_.owner.at(static_cast<size_t>(layer));
    if (device_) return device_->attend(layer, args, stream);
    PhaseSets& sets = sets_of(phase);
    // A trace wants sets that need no scores, too.
    const bool none = sets.all && args.trace == nullptr;
    if (owner == layer && !none) {
      FOVEAL_INVARIANT(args.index != nullptr);
      selector_.select(*args.index, lane(args.kv), args.seqs, stream, sets.owned);
      sets.layer = layer;
      if (dsa::SetHook* hook = dsa::set_hook()) {
        dsa::show_sets(*hook, layer, args.seqs, settings_.topk, sets.owned.tokens.data(),
                       [&](int64_t row) { return sets.owned.offsets[static_cast<size_t>(row)]; });
      }
    }
    FOVEAL_INVARIANT(none || sets.layer == owner);
    const kernels::TokenSets view = sets.owned.view();
    attend_latent(args, none ? nullptr : &view, stream);
    trace_sets(args.trace, layer, sets.owned, settings_.topk);
  }

 private:
  /// Of one phase's sequences in the current step.
  struct PhaseSets {
    bool all = false;    ///< no row sees more than topk keys
    int32_t layer = -1;  ///< whose sets these are
    OwnedSets owned;
  };
  PhaseSets& sets_of(Phase phase) { return sets_[static_cast<size_t>(phase)]; }

  IndexFormat format() const { return settings_.reference ? IndexFormat::kF32 : IndexFormat::kFp8; }

  dsa::IndexLane lane(const KvLayerView& kv) const {
    FOVEAL_INVARIANT(kv.lanes != nullptr && kv.lanes[0] != nullptr);
    return {.data = kv.lanes[0],
            .page_size = kv.page_size,
            .dim = settings_.head_dim,
            .format = format()};
  }

  Settings settings_;
  Capabilities capabilities_;
  dsa::IndexSelector selector_;
  std::unique_ptr<dsa::DsaDevice> device_;  ///< null on a CPU
  PhaseSets sets_[2];
};

MethodExample example(std::string name, const DeepSeekSparseAttentionConfig& config,
                      bool equals_dense) {
  return {.name = std::move(name),
          .config = std::make_shared<const SparseAttentionConfig>(config),
          .equals_dense = equals_dense};
}

}  // namespace

std::unique_ptr<AttentionMethod> make_dsa(const SparseAttentionConfig* config,
                                          const MethodContext& context) {
  if (config == nullptr && !context.shape.indexer) return nullptr;
  const auto* own = config ? &std::get<DeepSeekSparseAttentionConfig>(*config) : nullptr;
  if (own != nullptr) dsa::log_synonyms(*own);
  return std::make_unique<Dsa>(dsa::make_settings(own, context), context.device.kind);
}

std::vector<MethodExample> dsa_examples() {
  constexpr int64_t kAll = 1 << 20;
  const DeepSeekSparseAttentionConfig all{.index_topk = kAll};
  DeepSeekSparseAttentionConfig scored = all;
  scored.skip_indexer_for_short_seqs = false;
  DeepSeekSparseAttentionConfig reference{.index_topk = 24, .indexer_max_chunk_size = 5};
  reference.indexer_reference = true;
  return {example("all", all, /*equals_dense=*/true),
          example("all_scored", scored, /*equals_dense=*/true),
          example("top", {.index_topk = 32}, /*equals_dense=*/false),
          example("reference", reference, /*equals_dense=*/false)};
}

}  // namespace foveal::attention
