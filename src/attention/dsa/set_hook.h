#pragma once

#include <cstdint>
#include <span>

#include "kernels/paged_attention.h"

namespace foveal::attention::dsa {

/// Sees every set of keys that an indexer has chosen, and may put another of the same size in its
/// place: so a test compares what follows the choice apart from the choice. No configuration leads
/// here.
class SetHook {
 public:
  virtual ~SetHook() = default;
  /// Of the row at `position` of its sequence, ascending. On the engine's thread.
  virtual void on_set(int32_t layer, int32_t position, std::span<int32_t> set) = 0;
};

/// The process's hook while this lives; make it before the engines it is to see, and end it after
/// them. At most one at a time. CUDA steps must not be recorded meanwhile.
class InstalledSetHook {
 public:
  explicit InstalledSetHook(SetHook& hook);
  ~InstalledSetHook();
  InstalledSetHook(const InstalledSetHook&) = delete;
  InstalledSetHook& operator=(const InstalledSetHook&) = delete;
};

/// Null where none is installed.
SetHook* set_hook();

/// Hands the sets of a call to the hook: those of the i-th row begin at tokens[begin_of(i)], and
/// are as many keys as its position allows, at most `most`.
template <class BeginOf>
void show_sets(SetHook& hook, int32_t layer, std::span<const kernels::AttentionSeq> seqs,
               int32_t most, int32_t* tokens, const BeginOf& begin_of) {
  int64_t row = 0;
  for (const kernels::AttentionSeq& seq : seqs) {
    for (int32_t own = 0; own < seq.q_len; ++own, ++row) {
      const int32_t position = seq.kv_len - seq.q_len + own;
      const auto size = static_cast<size_t>(position < most ? position + 1 : most);
      hook.on_set(layer, position, {tokens + begin_of(row), size});
    }
  }
}

}  // namespace foveal::attention::dsa
