#include "attention/step.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "attention/capabilities.h"
#include "attention/registry.h"
#include "base/check.h"

namespace foveal::attention {
namespace {

void verify_outputs(const AttentionMethod& method, int32_t layer, Phase phase,
                    const AttendArgs& args) {
  const int64_t row_values = int64_t{args.num_heads} * out_dim(args.kv);
  const auto* rows = static_cast<const float*>(args.out);
  for (const kernels::AttentionSeq& seq : args.seqs) {
    for (int64_t row = seq.q_begin; row < int64_t{seq.q_begin} + seq.q_len; ++row) {
      const float* out = rows + row * args.out_stride;
      for (int64_t i = 0; i < row_values; ++i) {
        FOVEAL_CHECK(std::isfinite(out[i]), ErrorKind::kInternal, method.name(),
                     "got {} at row {} value {} of layer {} in {}; need finite outputs", out[i],
                     row, i, layer, phase_name(phase));
      }
    }
  }
}

void verify_counters(std::span<const kernels::AttentionCounters> counters) {
  for (const kernels::AttentionCounters& counter : counters) {
    FOVEAL_INVARIANT(counter.pairs_used <= counter.pairs);
    FOVEAL_INVARIANT(counter.tiles_skipped <= counter.tiles);
  }
}

}  // namespace

AttentionStep::AttentionStep(const AttentionSet& set, const ModelShape& shape,
                             const Options& options)
    : set_(set),
      num_layers_(static_cast<size_t>(shape.num_layers)),
      num_heads_(shape.num_heads),
      windows_(shape.windows),
      options_(options) {
  for (const Phase phase : kPhases) {
    for (int32_t layer = 0; layer < shape.num_layers; ++layer) {
      state(phase).dense.push_back(set.resolve(layer, phase).method == kDenseMethod);
    }
  }
}

void AttentionStep::begin(std::span<const kernels::AttentionSeq> prefill,
                          std::span<const kernels::AttentionSeq> decode, const States& states) {
  for (const Phase phase : kPhases) {
    const auto seqs = phase == Phase::kPrefill ? prefill : decode;
    PhaseState& current = state(phase);
    current.num_seqs = seqs.size();
    const auto held = phase == Phase::kPrefill ? states.prefill : states.decode;
    current.states.assign(held.begin(), held.end());
    current.states.resize(seqs.size());
    current.counters.clear();
    if (options_.count) current.counters.resize(num_layers_ * seqs.size());
    if (!seqs.empty()) set_.method(phase).plan(phase, seqs);
  }
}

void AttentionStep::attend(int32_t layer, Phase phase, const AttendArgs& args, Stream& stream) {
  const bool on_device = args.device_seqs != nullptr;
  if (on_device ? args.device_seqs->num_seqs == 0 : args.seqs.empty()) return;
  PhaseState& current = state(phase);
  FOVEAL_INVARIANT(layer >= 0 && static_cast<size_t>(layer) < num_layers_);
  FOVEAL_INVARIANT(on_device || args.seqs.size() == current.num_seqs);
  AttendArgs counted = args;
  counted.states = current.states;
  if (on_device) counted.workspace = &current.workspace;
  if (counted.counters == nullptr && options_.count) {
    counted.counters = counters_of(layer, phase, args);
  }
  if (!options_.zones) return run(layer, phase, counted, stream);
  const auto start = std::chrono::steady_clock::now();
  run(layer, phase, counted, stream);
  const auto elapsed = std::chrono::steady_clock::now() - start;
  ++current.zone.calls;
  current.zone.nanoseconds +=
      static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(elapsed).count());
}

kernels::AttentionCounters* AttentionStep::counters_of(int32_t layer, Phase phase,
                                                       const AttendArgs& args) {
  PhaseState& current = state(phase);
  const auto at = static_cast<size_t>(layer);
  if (args.device_seqs == nullptr) return current.counters.data() + at * current.num_seqs;
  if (device_counters_ == nullptr || current.dense.at(at)) return nullptr;
  const size_t row = static_cast<size_t>(phase) * num_layers_ + at;
  return device_counters_ + row * max_seqs_;
}

void AttentionStep::run(int32_t layer, Phase phase, const AttendArgs& args, Stream& stream) {
  AttentionMethod& method = set_.method(phase);
  require_capable(method, {.device = stream.device().kind,
                           .kv_dtype = args.kv.dtype,
                           .phase = phase,
                           .sliding_window = args.window > 0,
                           .latent = args.kv.value_dim > 0});
  set_.append(layer, phase, args, stream);
  method.attend(layer, phase, args, stream);
  // What lies on the device is not there yet.
  if (!options_.verify || args.device_seqs != nullptr) return;
  verify_outputs(method, layer, phase, args);
  if (args.counters != nullptr) verify_counters({args.counters, args.seqs.size()});
}

bool AttentionStep::counts_on_device(Phase phase) const {
  const std::vector<bool>& dense = state(phase).dense;
  return options_.count && device_counters_ != nullptr &&
         std::find(dense.begin(), dense.end(), false) != dense.end();
}

void AttentionStep::collect(std::span<const kernels::AttentionSeq> prefill,
                            std::span<const kernels::AttentionSeq> decode,
                            const kernels::AttentionCounters* device) {
  if (!options_.count) return;
  for (const Phase phase : kPhases) {
    const auto seqs = phase == Phase::kPrefill ? prefill : decode;
    PhaseState& current = state(phase);
    current.num_seqs = seqs.size();
    current.counters.assign(num_layers_ * seqs.size(), {});
    FOVEAL_INVARIANT(device == nullptr || seqs.size() <= max_seqs_);
    for (size_t layer = 0; layer < num_layers_; ++layer) {
      kernels::AttentionCounters* into = current.counters.data() + layer * seqs.size();
      if (!current.dense[layer] && device != nullptr) {
        const size_t row = static_cast<size_t>(phase) * num_layers_ + layer;
        std::copy_n(device + row * max_seqs_, seqs.size(), into);
        for (size_t seq = 0; seq < seqs.size(); ++seq) {
          if (seqs[seq].evicted == 0) continue;  // else the kernels know of what is left alone
          into[seq].pairs = kernels::dense_pairs(seqs[seq], windows_[layer], num_heads_);
        }
        continue;
      }
      for (size_t seq = 0; seq < seqs.size(); ++seq) {
        into[seq].pairs = kernels::dense_pairs(seqs[seq], windows_[layer], num_heads_);
        into[seq].pairs_used = kernels::present_pairs(seqs[seq], windows_[layer], num_heads_);
      }
    }
  }
}

std::span<const kernels::AttentionCounters> AttentionStep::counters(int32_t layer,
                                                                    Phase phase) const {
  const PhaseState& current = state(phase);
  if (current.counters.empty()) return {};
  FOVEAL_INVARIANT(layer >= 0 && static_cast<size_t>(layer) < num_layers_);
  return std::span(current.counters)
      .subspan(static_cast<size_t>(layer) * current.num_seqs, current.num_seqs);
}

void AttentionStep::add_to(SparsityReport& report, Phase phase, size_t seq) const {
  const PhaseState& current = state(phase);
  if (current.counters.empty()) return;
  FOVEAL_INVARIANT(seq < current.num_seqs);
  if (report.layers.size() < num_layers_) report.layers.resize(num_layers_);
  for (size_t layer = 0; layer < num_layers_; ++layer) {
    const kernels::AttentionCounters& counter = current.counters[layer * current.num_seqs + seq];
    LayerSparsity& into = report.layers[layer];
    PhaseSparsity& sparsity = phase == Phase::kPrefill ? into.prefill : into.decode;
    sparsity.pairs += counter.pairs;
    sparsity.pairs_used += counter.pairs_used;
    if (current.dense[layer]) continue;  // the kernels' tiles, about which no method decided
    sparsity.blocks += counter.tiles;
    sparsity.blocks_read += counter.tiles - counter.tiles_skipped;
  }
}

}  // namespace foveal::attention
