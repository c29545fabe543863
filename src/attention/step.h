#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "attention/attention_set.h"
#include "foveal/request.h"

namespace foveal::attention {

/// Host time spent in one phase, when zones are on. On a device that runs behind the host this is
/// the time to issue the work.
struct Zone {
  uint64_t calls = 0;
  uint64_t nanoseconds = 0;
};

/// Every method runs through here, once a layer and phase: the call is checked against the
/// method's capabilities, timed, counted and, in builds without NDEBUG, verified. A method's author
/// gets these for free.
class AttentionStep {
 public:
  struct Options {
    bool count = true;   ///< keep counters a layer and sequence
    bool zones = false;  ///< keep times a phase
#ifdef NDEBUG
    bool verify = false;  ///< check outputs and counters after each call; kInternal when broken
#else
    bool verify = true;
#endif
  };

  /// The set is borrowed and must outlive the step.
  AttentionStep(const AttentionSet& set, const ModelShape& shape, const Options& options);
  AttentionStep(const AttentionSet& set, const ModelShape& shape)
      : AttentionStep(set, shape, Options{}) {}

  /// On a device that runs behind the host: kernels of layers that are not dense count in
  /// `counters` there, [2 phases, num_layers, max_seqs] (borrowed); see `collect`.
  void count_on_device(kernels::AttentionCounters* counters, size_t max_seqs) {
    device_counters_ = counters;
    max_seqs_ = max_seqs;
  }

  /// What the sequences' requests hold of AttentionSet::make_state, in their order; none: null.
  struct States {
    std::span<SequenceState* const> prefill;
    std::span<SequenceState* const> decode;
  };

  /// Before the first layer of a step: clears the counters and lets the methods plan. The spans
  /// need to live only during this call.
  void begin(std::span<const kernels::AttentionSeq> prefill,
             std::span<const kernels::AttentionSeq> decode, const States& states);
  void begin(std::span<const kernels::AttentionSeq> prefill,
             std::span<const kernels::AttentionSeq> decode) {
    begin(prefill, decode, States{});
  }

  /// See AttentionMethod.
  bool attends_to_all(Phase phase, int64_t max_kv_len) const {
    return set_.method(phase).attends_to_all(phase, max_kv_len);
  }

  /// One layer's attention of one phase: append, select, compute. `args.seqs` are the sequences of
  /// `begin`, in the same order; without any, nothing happens. Counters go to `args.counters` when
  /// set, else to `counters()`.
  void attend(int32_t layer, Phase phase, const AttendArgs& args, Stream& stream);

  /// After a step on a device that runs behind the host: fills the counters from `device`, a copy
  /// of what `count_on_device` got, and counts what dense layers did. The sequences are those of
  /// that step's `begin`, after which another may have begun; `device` may be null where
  /// `counts_on_device` says no for both phases.
  void collect(std::span<const kernels::AttentionSeq> prefill,
               std::span<const kernels::AttentionSeq> decode,
               const kernels::AttentionCounters* device);
  /// Whether some layer of the phase counts on the device.
  bool counts_on_device(Phase phase) const;

  /// Of the step so far, or the one collected, in the order of `begin`. Empty when not counted.
  std::span<const kernels::AttentionCounters> counters(int32_t layer, Phase phase) const;
  /// Adds this step's work of one sequence to its request's report, whose layers it resizes.
  void add_to(SparsityReport& report, Phase phase, size_t seq) const;

  /// Since construction.
  const Zone& zone(Phase phase) const { return state(phase).zone; }

 private:
  struct PhaseState {
    size_t num_seqs = 0;
    std::vector<SequenceState*> states;  ///< [num_seqs]
    std::vector<bool> dense;             ///< [num_layers]: the method drops nothing there
    std::vector<kernels::AttentionCounters> counters;  ///< [num_layers, num_seqs]
    Zone zone;
    DeviceWorkspace workspace;
  };
  PhaseState& state(Phase phase) { return states_[static_cast<size_t>(phase)]; }
  const PhaseState& state(Phase phase) const { return states_[static_cast<size_t>(phase)]; }
  void run(int32_t layer, Phase phase, const AttendArgs& args, Stream& stream);
  kernels::AttentionCounters* counters_of(int32_t layer, Phase phase, const AttendArgs& args);

  const AttentionSet& set_;
  size_t num_layers_;
  int32_t num_heads_;
  std::vector<int32_t> windows_;  ///< [num_layers]
  kernels::AttentionCounters* device_counters_ = nullptr;
  size_t max_seqs_ = 0;
  Options options_;
  PhaseState states_[2];
};

}  // namespace foveal::attention
