#include "attention/skip_softmax/skip_softmax.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "attention/paged.h"
#include "attention/skip_softmax/checkpoint.h"
#include "attention/skip_softmax/resolve.h"
#include "attention/tiles.h"
#include "base/check.h"
#include "base/log.h"
#include "base/math.h"

namespace foveal::attention {
namespace {

using skip_softmax::Settings;

/// Decode has a tensor a token, for each is a tile longer now and then.
std::string trace_name(int32_t layer, Phase phase, const AttendArgs& args) {
  if (phase == Phase::kPrefill) return fmt::format("skip_softmax.prefill.{}", layer);
  return fmt::format("skip_softmax.decode.{}.{}", layer, args.seqs.front().kv_len - 1);
}

/// Adds the tile map: 0 nobody sees it, 1 used, 2 skipped. Rows are (query tile, query head) in
/// prefill and KV heads in decode; columns are key tiles of the whole prompt or of the length so
/// far.
void attend_traced(const std::string& name, Phase phase, const AttendArgs& args,
                   const SkipPolicy& skip, Stream& stream) {
  FOVEAL_INVARIANT(args.seqs.size() == 1);
  const kernels::AttentionSeq& seq = args.seqs.front();
  const int64_t cols = ceil_div(seq.threshold_len, kernels::kKeyTile);
  const int64_t rows = phase == Phase::kDecode
                           ? args.kv.num_kv_heads
                           : ceil_div(seq.q_len, kernels::kQueryTile) * args.num_heads;
  std::vector<uint8_t> tiles(static_cast<size_t>(rows * cols));
  attend_paged(phase, args, skip, stream, {.tiles = tiles.data(), .stride = cols});
  const std::vector<float> values(tiles.begin(), tiles.end());
  args.trace->add(name, values.data(), rows, cols, cols);
}

class SkipSoftmax final : public AttentionMethod {
 public:
  SkipSoftmax(Settings settings, const ModelShape& shape, DeviceKind device, PrefillTiles tiles,
              bool int8_votes)
      : settings_(std::move(settings)),
        shape_(shape),
        int8_votes_(int8_votes),
        capabilities_(paged_capabilities(device)),
        tiles_(tiles) {
    // Chunks end at whole tiles, so that a tile's rows vote together whatever the chunk.
    capabilities_.prefill_chunk_multiple =
        device == DeviceKind::kCpu ? kernels::kQueryTile : kernels::kCudaKeyTile;
  }

  std::string_view name() const override { return "skip_softmax"; }

  const Capabilities& capabilities() const override { return capabilities_; }

  int64_t workspace_bytes(const StepLimits& limits) const override {
    if (!int8_votes_ || !active(Phase::kPrefill)) return 0;
    return vote_workspace_bytes(shape_, limits);
  }

  bool active(Phase phase) const override {
    for (int32_t layer = 0; layer < shape_.num_layers; ++layer) {
      if (settings_.factor(layer, phase) > 0) return true;
    }
    return false;
  }

  Resolution resolve(int32_t layer, Phase phase) const override {
    const skip_softmax::PhaseFactor& phase_factor = settings_.of(phase);
    const auto& dense_why = settings_.dense_why.at(static_cast<size_t>(layer));
    if (phase_factor.factor == 0) return {"dense", "", phase_factor.why};
    if (dense_why) return {"dense", "", *dense_why};
    const std::string_view votes = int8_votes_ && phase == Phase::kPrefill ? ", int8 votes" : "";
    return {"skip_softmax",
            fmt::format("threshold_scale_factor {:.6g}{}", phase_factor.factor, votes),
            phase_factor.why};
  }

  bool takes_factors() const override { return true; }

  std::string prefix_key(std::optional<int64_t> prompt_len, const PhaseValue& own) const override {
    std::string layers;
    for (int32_t layer = 0; layer < shape_.num_layers; ++layer) {
      double factor = settings_.factor(layer, Phase::kPrefill);
      if (factor > 0) factor = own.prefill.value_or(factor);
      // At a threshold of 1 and above the layer runs dense.
      const bool off = factor == 0 || (prompt_len && factor >= static_cast<double>(*prompt_len));
      if (!off) layers += fmt::format(",{}:{}", layer, factor);
    }
    if (layers.empty()) return {};
    return fmt::format("skip_softmax,tile={},len={}{}{}", tiles_.name(),
                       prompt_len ? fmt::format("{}", *prompt_len) : "any",
                       int8_votes_ ? ",votes=int8" : "", layers);
  }

  void attend(int32_t layer, Phase phase, const AttendArgs& args, Stream& stream) override {
    const double factor = settings_.factor(layer, phase);
    constexpr double kMax = std::numeric_limits<float>::max();
    const SkipPolicy skip{.factor = static_cast<float>(std::min(factor, kMax)),
                          .int8_votes = int8_votes_};
    const bool traced = args.trace != nullptr && args.device_seqs == nullptr;
    const std::string name = traced ? trace_name(layer, phase, args) : "";
    if (traced && factor > 0 && args.trace->wants(name)) {
      attend_traced(name, phase, args, skip, stream);
    } else {
      attend_paged(phase, args, skip, stream);
    }
  }

 private:
  Settings settings_;
  ModelShape shape_;
  bool int8_votes_;
  Capabilities capabilities_;
  PrefillTiles tiles_;
};

/// A formula belongs to the tiles that it was calibrated with: elsewhere another share is left out.
void compare_tiles(std::string_view checkpoint_json, const std::string& own) {
  const skip_softmax::CheckpointSettings settings = skip_softmax::read_checkpoint(checkpoint_json);
  const boost::json::value* calibration = settings.group.if_contains("calibration");
  if (calibration == nullptr || !calibration->is_object()) return;
  const boost::json::value* tiles = calibration->get_object().if_contains("tiles");
  if (tiles == nullptr || !tiles->is_string() || tiles->get_string() == own) return;
  log_warn(
      "[sparse_attention_config] got a formula calibrated for tiles of {} on tiles of {}; need "
      "foveal "
      "calibrate on this device for its target to be met",
      std::string_view(tiles->get_string()), own);
}

bool takes_int8_votes(const SkipSoftmaxAttentionConfig& config, DeviceKind device) {
  constexpr std::string_view kField = "skip_softmax.vote_precision";
  const bool int8 = config.vote_precision == "int8";
  FOVEAL_CHECK(int8 || config.vote_precision == "exact", ErrorKind::kInvalidArgument, kField,
               "got {}; need exact or int8", config.vote_precision);
  FOVEAL_CHECK(!int8 || device == DeviceKind::kCuda, ErrorKind::kUnsupported, kField,
               "got int8 on cpu; need exact, or cuda");
  return int8;
}

// Queries of that kernel are in e4m3 already, and its keys are no rows.
void check_fp8_context(const SkipSoftmaxAttentionConfig& config, const MethodContext& context) {
  if (context.device.kind != DeviceKind::kCuda || !context.e4m3_prefill) return;
  FOVEAL_CHECK(config.vote_precision != "int8", ErrorKind::kUnsupported, "use_fp8_context_fmha",
               "got true with vote_precision int8; need false, or vote_precision exact");
}

MethodExample example(std::string name, PhaseValue factors, bool equals_dense) {
  SkipSoftmaxAttentionConfig config;
  config.threshold_scale_factor = factors;
  return {.name = std::move(name),
          .config = std::make_shared<const SparseAttentionConfig>(config),
          .equals_dense = equals_dense};
}

}  // namespace

std::unique_ptr<AttentionMethod> make_skip_softmax(const SparseAttentionConfig* config,
                                                   const MethodContext& context) {
  const auto* own = config ? &std::get<SkipSoftmaxAttentionConfig>(*config) : nullptr;
  if (own != nullptr) check_fp8_context(*own, context);
  std::optional<Settings> settings =
      skip_softmax::resolve_settings(own, context.checkpoint_sparse_json, context.shape.num_layers);
  if (!settings) return nullptr;
  const PrefillTiles tiles =
      prefill_tiles(context.device.kind, context.shape, context.e4m3_prefill);
  const bool int8_votes = own != nullptr && takes_int8_votes(*own, context.device.kind);
  if (own == nullptr || !own->threshold_scale_factor) {
    compare_tiles(context.checkpoint_sparse_json, tiles.name());
  }
  return std::make_unique<SkipSoftmax>(*std::move(settings), context.shape, context.device.kind,
                                       tiles, int8_votes);
}

std::vector<MethodExample> skip_softmax_examples() {
  // A threshold below the smallest ratio of two float32 exponentials never drops a tile, one of
  // at least the length is off; both must be dense attention bit for bit.
  return {example("off", {.prefill = 0, .decode = 0}, /*equals_dense=*/true),
          example("never", {.prefill = 1e-30, .decode = 1e-30}, /*equals_dense=*/true),
          example("clamped", {.prefill = 1e12, .decode = 1e12}, /*equals_dense=*/true),
          example("prefill", {.prefill = 64, .decode = std::nullopt}, /*equals_dense=*/false),
          example("decode", {.prefill = std::nullopt, .decode = 16}, /*equals_dense=*/false),
          example("both", {.prefill = 64, .decode = 16}, /*equals_dense=*/false)};
}

}  // namespace foveal::attention
