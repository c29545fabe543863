#pragma once

#include <cstdint>
#include <vector>

#include "attention/method.h"
#include "attention/rocket/page_bounds.h"
#include "foveal/config.h"

namespace foveal::attention::rocket {

/// What a configuration comes to for one model.
struct Settings {
  int32_t window_size = 0;
  int32_t kernel_size = 0;
  int32_t num_channels = 0;  ///< of the query, that score pages
  int32_t topk = 0;          ///< pages of rank_size tokens, as are recent and sink
  int32_t prompt_budget = 0;
  int32_t rank_size = 0;  ///< tokens of a page that is ranked and chosen as one
  int32_t page_size = 0;  ///< the configuration's: tokens of what its topk counts
  BoundFormat bound_format = BoundFormat::kE5m2;
  BoundKind bound_kind = BoundKind::kMinMax;
  bool evicts = true;      ///< else all K and V stay
  bool ranks_all = false;  ///< they do, and prompts choose no candidates among them
  bool max_over_group = false;
  int32_t recent = 1;
  int32_t sink = 0;
  std::vector<bool> dense;  ///< [num_layers]: decode attends to everything there, or to a window
  int64_t num_listed = 0;   ///< of them in dense_layers

  /// Tokens of the sink, which stage one keeps whatever their scores.
  int32_t sink_tokens() const { return sink * rank_size; }

  /// Whether the end of a prompt of this length chooses among its tokens.
  bool selects(int32_t prompt_len) const { return !ranks_all && prompt_len > prompt_budget; }
};

/// Throws kInvalidArgument or kUnsupported, naming the field, for what this model cannot have.
Settings make_settings(const RocketSparseAttentionConfig& config, const ModelShape& shape);

}  // namespace foveal::attention::rocket
