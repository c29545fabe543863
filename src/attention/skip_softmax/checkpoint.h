#pragma once

#include <boost/json/object.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "attention/method.h"
#include "foveal/config.h"

namespace foveal::attention::skip_softmax {

/// Skip Softmax's part of a checkpoint's `sparse_attention_config`, as ModelOpt exports it. Only
/// what every model needs is read at once; a formula is looked at when a target asks for it.
struct CheckpointSettings {
  bool found = false;               ///< the checkpoint has such metadata at all
  std::vector<std::string> ignore;  ///< patterns of layer names that stay dense
  boost::json::object group;        ///< the skip-softmax group, or empty
};

/// Reads `sparse_attention_config` (JSON text; empty or `null`: none). The group is the one of
/// `config_groups` whose `algorithm` (or legacy `sparse_algo`) is `skip_softmax` or `softmax_skip`;
/// other groups are other algorithms'. Without `config_groups`, the object itself. Throws
/// kCorruptFile for text that is no such object, a malformed `ignore`, or more than one group.
CheckpointSettings read_checkpoint(std::string_view json);

/// The group's `target_sparsity`, if any. Throws kCorruptFile unless it is a number in [0, 1] or an
/// object of such numbers for `prefill` and `decode`.
std::optional<PhaseValue> checkpoint_target(const CheckpointSettings& settings);

/// Refuses a group whose threshold_scale_factor is a plain number: nothing would come of it, and
/// whoever wrote it meant something.
void refuse_plain_factor(const CheckpointSettings& settings);

/// The threshold scale factor that the group's formula gives for a target. The coefficients are
/// those of the phase, else `coefficients`, else those beside the formula; a formula shared by the
/// phases goes before a phase's own. Throws kInvalidArgument when there is no usable formula, and
/// what Formula throws.
double factor_from_target(const CheckpointSettings& settings, Phase phase, double target_sparsity);

}  // namespace foveal::attention::skip_softmax
