#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "attention/method.h"
#include "foveal/config.h"
#include "foveal/request.h"

namespace foveal::attention {

/// The methods of one engine: which serves prefill and which decode. Immutable after make_attention
/// but for what the methods keep themselves.
class AttentionSet {
 public:
  using Methods = std::vector<std::unique_ptr<AttentionMethod>>;

  /// Each phase is served by the method active in it; where none is, by dense, the last of
  /// `methods`. Throws kInvalidArgument when two are active in one phase. Use make_attention.
  explicit AttentionSet(Methods methods);

  AttentionMethod& method(Phase phase) const {
    return phase == Phase::kPrefill ? *prefill_ : *decode_;
  }

  /// For reports: "dense", "skip_softmax", or "skip_softmax+rocket" (prefill first).
  std::string name() const;
  /// For logs: "prefill: skip_softmax (threshold_scale_factor 200) in 30 of 32 layers; decode:
  /// dense".
  std::string describe(int32_t num_layers) const;
  /// What serves a layer, and why: where nothing is active, as the first configured method says.
  Resolution resolve(int32_t layer, Phase phase) const;

  /// See AttentionMethod::prefix_key: a part of the prefix index's root.
  std::string prefix_key(std::optional<int64_t> prompt_len, const PhaseValue& own = {}) const;
  /// A request's own factors: {0, 0} for `off`. Throws kInvalidArgument where they are out of
  /// range, or for a phase in which nothing runs that takes factors.
  PhaseValue request_factors(const SparseOverride& wanted) const;
  /// Throws kUnsupported unless both phases' methods can read such a cache there, and each that was
  /// asked for has something to do.
  void require(Device device, const kv::KvGeometry& cache) const;
  bool shares_prefix_pages() const;
  /// Prefill chunks but the last must end at multiples of this position.
  int32_t prefill_chunk_multiple() const { return prefill_->capabilities().prefill_chunk_multiple; }
  std::vector<kv::LaneSpec> lanes(const kv::KvGeometry& cache) const;

  /// See AttentionMethod: what the one method that keeps something of a prompt says.
  int32_t kept_tokens(int32_t prompt_len) const;
  int32_t reached_tokens(int32_t prompt_len) const;
  int32_t own_tokens(int32_t prompt_len) const;
  std::unique_ptr<SequenceState> make_state() const;
  int64_t workspace_bytes(const StepLimits& limits) const;
  void append(int32_t layer, Phase phase, const AttendArgs& args, Stream& stream) const;
  void after_prefill(const PromptEnd& end, Stream& stream) const;

 private:
  Methods methods_;
  AttentionMethod* prefill_;
  AttentionMethod* decode_;
  std::vector<AttentionMethod*> serving_;  ///< each of the two once
};

/// Settles which method serves which phase. `configs` as the user gave them: several combine by
/// phase. Empty: what the checkpoint asks for (its JSON text, or empty; its indexer), else dense.
/// `exact`: compute_dtype f32. `e4m3_prefill`: use_fp8_context_fmha.
///
/// Throws kInvalidArgument when two configurations claim one phase or one algorithm is named twice,
/// kUnsupported when a method cannot run on the device, and whatever the methods refuse.
std::unique_ptr<AttentionSet> make_attention(std::span<const SparseAttentionConfig> configs,
                                             const ModelShape& shape,
                                             std::string_view checkpoint_sparse_json, Device device,
                                             bool exact = false, bool e4m3_prefill = false);

}  // namespace foveal::attention
