#include <algorithm>

#include "base/check.h"
#include "model/config_json.h"

namespace foveal::model {
namespace {

constexpr int64_t kMaxWindow = INT32_MAX;

/// Which layers slide when `layer_types` does not say, by the family's own rule in transformers.
bool slides(const ModelConfig& config, const JsonFields& fields, int32_t layer) {
  if (config.architecture == "qwen2" || config.architecture == "qwen3") {
    return layer >= fields.integer("max_window_layers", 0, INT32_MAX).value_or(28);
  }
  if (config.architecture == "gemma3") {
    const std::string_view name = fields.has("_sliding_window_pattern") ? "_sliding_window_pattern"
                                                                        : "sliding_window_pattern";
    return (layer + 1) % fields.integer(name, 1, INT32_MAX).value_or(6) != 0;
  }
  if (config.architecture == "smollm3") return config.use_rope[layer] == 0;
  return true;
}

/// The window of sliding layers; 0 when no layer slides.
int32_t window_size(const ModelConfig& config, const JsonFields& fields) {
  const std::string& arch = config.architecture;
  if (arch == "llama" || arch == "granite" || config.latent) return 0;
  const bool has_switch =
      arch == "qwen2" || arch == "qwen3" || arch == "qwen3_moe" || arch == "smollm3";
  if (has_switch && !fields.boolean("use_sliding_window").value_or(false)) return 0;
  // An explicit null switches the window off; without the field the configuration class decides.
  const bool defaulted = !fields.has("sliding_window") && arch != "phi3" && arch != "smollm3";
  const auto window =
      fields.integer("sliding_window", 1, kMaxWindow).value_or(defaulted ? 4096 : 0);
  // Gemma's sliding layers have their own rotation, so a layer must stay known as sliding.
  if (arch == "gemma3") return static_cast<int32_t>(window == 0 ? config.max_positions : window);
  // Elsewhere a window that no context can outgrow is none.
  return window >= config.max_positions ? 0 : static_cast<int32_t>(window);
}

void read_use_rope(ModelConfig& config, const JsonFields& fields) {
  config.use_rope.assign(static_cast<size_t>(config.num_layers), 1);
  if (config.architecture != "smollm3") return;
  if (const auto flags = fields.numbers("no_rope_layers")) {  // despite its name, 1 means rope
    FOVEAL_CHECK(
        flags->size() == config.use_rope.size() &&
            std::all_of(flags->begin(), flags->end(), [](double x) { return x == 0 || x == 1; }),
        ErrorKind::kCorruptFile, fields.source(),
        "got {} entries in no_rope_layers; need {}, each 0 or 1", flags->size(), config.num_layers);
    std::transform(flags->begin(), flags->end(), config.use_rope.begin(),
                   [](double x) { return x != 0 ? uint8_t{1} : uint8_t{0}; });
    return;
  }
  const auto interval = fields.integer("no_rope_layer_interval", 1, INT32_MAX).value_or(4);
  for (int32_t layer = 0; layer < config.num_layers; ++layer) {
    config.use_rope[layer] = (layer + 1) % interval != 0;
  }
}

void read_latent_moe_layers(ModelConfig& config, const JsonFields& fields) {
  if (const auto sparse = layer_words(config, fields, "mlp_layer_types", {"sparse", "dense"})) {
    config.moe_layers = *sparse;
    return;
  }
  const auto first = fields.integer("first_k_dense_replace", 0, INT32_MAX).value_or(3);
  const auto step = fields.integer("moe_layer_freq", 1, INT32_MAX).value_or(1);
  for (int32_t layer = 0; layer < config.num_layers; ++layer) {
    config.moe_layers[layer] = layer >= first && layer % step == 0;
  }
}

void read_moe_layers(ModelConfig& config, const JsonFields& fields) {
  config.moe_layers.assign(static_cast<size_t>(config.num_layers), 0);
  if (config.num_experts == 0) return;
  if (config.latent) return read_latent_moe_layers(config, fields);
  const auto step = fields.integer("decoder_sparse_step", 1, INT32_MAX).value_or(1);
  for (int32_t layer = 0; layer < config.num_layers; ++layer) {
    config.moe_layers[layer] = (layer + 1) % step == 0;
  }
  for (const double layer : fields.numbers("mlp_only_layers").value_or(std::vector<double>{})) {
    // As in transformers, numbers that are no layer have no effect.
    if (layer >= 0 && layer < config.num_layers) config.moe_layers[static_cast<size_t>(layer)] = 0;
  }
}

}  // namespace

std::optional<std::vector<uint8_t>> layer_words(const ModelConfig& config, const JsonFields& fields,
                                                std::string_view name, const TwoWords& known) {
  const auto words = fields.texts(name);
  if (!words) return std::nullopt;
  const auto further = fields.integer("num_nextn_predict_layers", 0, INT32_MAX).value_or(0);
  const auto layers = static_cast<size_t>(config.num_layers);
  FOVEAL_CHECK(words->size() == layers || words->size() == layers + static_cast<size_t>(further),
               ErrorKind::kCorruptFile, fields.source(), "got {} {}; need {}", words->size(), name,
               layers);
  std::vector<uint8_t> out;
  for (size_t layer = 0; layer < layers; ++layer) {
    const std::string& word = (*words)[layer];
    const bool yes = word == known.yes || (!known.also_yes.empty() && word == known.also_yes);
    FOVEAL_CHECK(yes || word == known.no, ErrorKind::kUnsupported, fields.source(),
                 "got '{}' in {}; need {} or {}", word, name, known.yes, known.no);
    out.push_back(yes ? 1 : 0);
  }
  return out;
}

void read_layers(ModelConfig& config, const JsonFields& fields) {
  read_use_rope(config, fields);
  read_moe_layers(config, fields);
  const int32_t window = window_size(config, fields);
  // Mistral, Phi-3 and Qwen3-MoE apply one window to every layer, whatever layer_types says.
  const std::string& arch = config.architecture;
  const bool per_layer =
      arch == "qwen2" || arch == "qwen3" || arch == "gemma3" || arch == "smollm3";
  const auto types = per_layer ? layer_words(config, fields, "layer_types",
                                             {"sliding_attention", "full_attention"})
                               : std::nullopt;
  config.windows.assign(static_cast<size_t>(config.num_layers), 0);
  for (int32_t layer = 0; window > 0 && layer < config.num_layers; ++layer) {
    const bool sliding = types ? (*types)[layer] != 0 : slides(config, fields, layer);
    if (sliding) config.windows[layer] = window;
  }
}

}  // namespace foveal::model
