#include "model/arch/registry.h"

#include <array>

#include "base/check.h"

namespace foveal::model {
namespace {

constexpr std::array<Architecture, 12> kArchitectures{{
    {"deepseek_v3", deepseek_v3_traits},
    {"deepseek_v32", deepseek_v3_traits},
    {"gemma3", gemma3_traits},
    {"glm_moe_dsa", deepseek_v3_traits},
    {"granite", granite_traits},
    {"llama", llama_traits},
    {"mistral", mistral_traits},
    {"phi3", phi3_traits},
    {"qwen2", qwen2_traits},
    {"qwen3", qwen3_traits},
    {"qwen3_moe", qwen3_moe_traits},
    {"smollm3", smollm3_traits},
}};

}  // namespace

const Architecture& find_architecture(std::string_view name) {
  std::string known;
  for (const Architecture& arch : kArchitectures) {
    if (arch.name == name) return arch;
    known += known.empty() ? "" : ", ";
    known += arch.name;
  }
  fail(ErrorKind::kUnsupported, "model", "got architecture '{}'; need one of {}", name, known);
}

}  // namespace foveal::model
