#include "measure/configs.h"

#include "base/config_fields.h"
#include "base/yaml_options.h"

namespace foveal::measure {

LlmConfig baseline_config(LlmConfig config, const std::string& baseline) {
  config.sparse_attention_config.clear();
  if (!baseline.empty() && baseline != "dense") {
    bind_options(describe(config), load_yaml(baseline));
    return config;
  }
  SkipSoftmaxAttentionConfig off;
  off.threshold_scale_factor = PhaseValue{.prefill = 0, .decode = 0};
  config.sparse_attention_config = {off};
  return config;
}

}  // namespace foveal::measure
