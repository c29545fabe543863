#include "attention/rocket/settings.h"

#include <algorithm>
#include <limits>

#include "attention/layer_list.h"
#include "attention/rocket/page_select.h"
#include "base/check.h"

namespace foveal::attention::rocket {
namespace {

std::vector<bool> dense_layers(std::vector<bool> dense, const ModelShape& shape) {
  for (size_t layer = 0; layer < shape.windows.size(); ++layer) {
    if (shape.windows[layer] > 0) dense[layer] = true;
  }
  return dense;
}

// Eviction keeps the newest tokens of a layer with a window: all that its rows will ever see.
void check_windows(const RocketSparseAttentionConfig& config, const ModelShape& shape) {
  if (config.mode != "evict") return;
  for (size_t layer = 0; layer < shape.windows.size(); ++layer) {
    FOVEAL_CHECK(shape.windows[layer] <= config.prompt_budget, ErrorKind::kInvalidArgument,
                 "rocket.prompt_budget", "got {}; need at least {}, the window of layer {}",
                 config.prompt_budget, shape.windows[layer], layer);
  }
}

// Eviction ranks as TensorRT-LLM does. Where a whole text is ranked, bounds of four tokens are too
// coarse a guess at their best key: half as many, and mean and spread (README.md, Measured).
int64_t rank_size(const RocketSparseAttentionConfig& config) {
  const int64_t by_mode =
      config.mode == "evict" ? config.page_size : std::max<int64_t>(config.page_size / 2, 1);
  return config.rank_size.value_or(by_mode);
}

BoundKind bound_kind(const RocketSparseAttentionConfig& config) {
  const bool spread =
      config.score == "mean_std" || (config.score == "auto" && config.mode == "multi_turn");
  return spread ? BoundKind::kMeanStd : BoundKind::kMinMax;
}

}  // namespace

Settings make_settings(const RocketSparseAttentionConfig& config, const ModelShape& shape) {
  FOVEAL_CHECK(shape.head_dim >= 2 && shape.head_dim <= 256 && shape.head_dim % 2 == 0,
               ErrorKind::kUnsupported, "rocket", "got head_dim {}; need an even number up to 256",
               shape.head_dim);
  check_windows(config, shape);
  const std::vector<bool> listed =
      listed_layers(config.dense_layers, shape.num_layers, "rocket.dense_layers");
  const auto int32 = [](int64_t value) { return static_cast<int32_t>(value); };
  const int64_t ranked_size = rank_size(config);
  // The configuration counts pages of page_size. More pages than any text has are as good as all.
  const int64_t each = config.page_size / ranked_size;
  const int64_t topk =
      std::min<int64_t>(config.settled_topk() * each, std::numeric_limits<int32_t>::max());
  const int64_t sink = std::min(config.sink * each, topk - 1);  // the newest page is among topk
  return {
      .window_size = int32(config.window_size),
      .kernel_size = int32(config.kernel_size),
      .num_channels = num_channels(config.topr, shape.head_dim),
      .topk = int32(topk),
      .prompt_budget = int32(config.prompt_budget),
      .rank_size = int32(ranked_size),
      .page_size = int32(config.page_size),
      .bound_format = config.kt_cache_dtype == "bfloat16" ? BoundFormat::kBf16 : BoundFormat::kE5m2,
      .bound_kind = bound_kind(config),
      .evicts = config.mode == "evict",
      .ranks_all = config.mode == "multi_turn" && config.candidates == "all",
      .max_over_group = config.pool_group == "max",
      .recent = int32(std::min(config.force_recent * each, topk - sink)),
      .sink = int32(sink),
      .dense = dense_layers(listed, shape),
      .num_listed = std::count(listed.begin(), listed.end(), true)};
}

}  // namespace foveal::attention::rocket
