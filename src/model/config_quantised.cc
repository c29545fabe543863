#include <algorithm>
#include <array>
#include <cmath>

#include "base/check.h"
#include "model/config_json.h"

namespace foveal::model {
namespace {

/// e4m3 weights with scales: how DeepSeek and Hugging Face, llm-compressor and ModelOpt say it.
bool is_fp8(const JsonFields& quantised) {
  const std::string method = quantised.text("quant_method").value_or("unnamed");
  if (method == "fp8") return true;
  if (method == "compressed-tensors") return quantised.text("format") == "float-quantized";
  return method == "modelopt" && quantised.text("quant_algo") == "FP8";
}

void check_word(const JsonFields& quantised, std::string_view name, std::string_view known,
                std::string_view also_known) {
  const auto word = quantised.text(name);
  FOVEAL_CHECK(!word || *word == known || *word == also_known, ErrorKind::kUnsupported,
               quantised.source(), "got {} '{}' in quantization_config; need {} or {}", name, *word,
               known, also_known);
}

/// Modules by name; patterns ("re:.*gate", "model.*") say nothing here, for the tensors do.
std::vector<std::string> read_exempt(const JsonFields& quantised) {
  std::vector<std::string> out;
  for (const char* name : {"modules_to_not_convert", "ignored_layers", "ignore"}) {
    for (std::string& module : quantised.texts(name).value_or(std::vector<std::string>{})) {
      const bool pattern =
          module.starts_with("re:") || module.find_first_of("*?[") != std::string::npos;
      if (!pattern && !module.empty()) out.push_back(std::move(module));
    }
  }
  return out;
}

}  // namespace

void read_quantised(ModelConfig& config, const JsonFields& fields) {
  const auto quantised = fields.object("quantization_config");
  if (!quantised) return;
  FOVEAL_CHECK(is_fp8(*quantised), ErrorKind::kUnsupported, fields.source(),
               "got quantization_config with quant_method '{}'; need float32, float16, bfloat16 or "
               "fp8 (e4m3) weights",
               quantised->text("quant_method").value_or("unnamed"));
  check_word(*quantised, "fmt", "e4m3", "float8_e4m3fn");
  check_word(*quantised, "activation_scheme", "dynamic", "static");
  config.fp8_weights = true;
  config.fp8_exempt = read_exempt(*quantised);
  const auto block = quantised->numbers("weight_block_size");
  if (!block) return;
  const auto good = [](double size) {
    return size >= 1 && size <= 1 << 20 && size == std::floor(size);
  };
  FOVEAL_CHECK(block->size() == 2 && good((*block)[0]) && good((*block)[1]),
               ErrorKind::kCorruptFile, fields.source(),
               "got weight_block_size [{}]; need two whole numbers from 1 to 1048576",
               fmt::join(*block, ", "));
  config.fp8_by_block = true;
  config.fp8_block = {static_cast<int64_t>((*block)[0]), static_cast<int64_t>((*block)[1])};
}

}  // namespace foveal::model
