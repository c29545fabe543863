#include "attention/rocket/settings.h"

#include <algorithm>

#include "attention/layer_list.h"
#include "attention/rocket/page_select.h"
#include "base/check.h"

namespace foveal::attention::rocket {
namespace {

std::vector<bool> dense_layers(const RocketSparseAttentionConfig& config, const ModelShape& shape) {
  std::vector<bool> dense =
      listed_layers(config.dense_layers, shape.num_layers, "rocket.dense_layers");
  for (size_t layer = 0; layer < shape.windows.size(); ++layer) {
    if (shape.windows[layer] > 0) dense[layer] = true;
  }
  return dense;
}

// Eviction keeps the newest tokens of a layer with a window: all that its rows will ever see.
void check_windows(const RocketSparseAttentionConfig& config, const ModelShape& shape) {
  if (config.mode != "evict") return;
  for (size_t layer = 0; layer < shape.windows.size(); ++layer) {
    FOVEAL_CHECK(shape.windows[layer] <= config.prompt_budget, ErrorKind::kUnsupported,
                 "rocket.prompt_budget", "got {}; need at least {}, the window of layer {}",
                 config.prompt_budget, shape.windows[layer], layer);
  }
}

}  // namespace

Settings make_settings(const RocketSparseAttentionConfig& config, const ModelShape& shape) {
  FOVEAL_CHECK(shape.head_dim >= 2 && shape.head_dim <= 256 && shape.head_dim % 2 == 0,
               ErrorKind::kUnsupported, "rocket", "got head_dim {}; need an even number up to 256",
               shape.head_dim);
  check_windows(config, shape);
  const auto int32 = [](int64_t value) { return static_cast<int32_t>(value); };
  return {
      .window_size = int32(config.window_size),
      .kernel_size = int32(config.kernel_size),
      .num_channels = num_channels(config.topr, shape.head_dim),
      .topk = int32(config.topk),
      .prompt_budget = int32(config.prompt_budget),
      .page_size = int32(config.page_size),
      .bound_format = config.kt_cache_dtype == "bfloat16" ? BoundFormat::kBf16 : BoundFormat::kE5m2,
      .bound_kind = config.score == "minmax" ? BoundKind::kMinMax : BoundKind::kMeanStd,
      .evicts = config.mode == "evict",
      .max_over_group = config.pool_group == "max",
      .recent = int32(config.force_recent),
      .sink = int32(config.sink),
      .dense = dense_layers(config, shape)};
}

}  // namespace foveal::attention::rocket
