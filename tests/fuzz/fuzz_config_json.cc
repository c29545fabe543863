// Bytes as config.json and as generation_config.json.
#include <cstdint>
#include <string_view>

#include "foveal/error.h"
#include "model/config_json.h"

namespace model = foveal::model;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const model::ModelConfig config = model::parse_config_json(text, "fuzz");
    // What the forward pass relies on.
    const bool sound = config.num_heads > 0 && config.num_kv_heads > 0 &&
                       config.num_heads % config.num_kv_heads == 0 && config.head_dim % 2 == 0 &&
                       config.windows.size() == static_cast<size_t>(config.num_layers) &&
                       config.rope.theta > 0 && config.norm_eps > 0;
    if (!sound) __builtin_trap();
  } catch (const foveal::Error& error) {
    if (error.kind() == foveal::ErrorKind::kInternal) __builtin_trap();
  }
  try {
    model::ModelConfig config;
    model::add_generation_config(config, text, "fuzz");
  } catch (const foveal::Error& error) {
    if (error.kind() == foveal::ErrorKind::kInternal) __builtin_trap();
  }
  return 0;
}
