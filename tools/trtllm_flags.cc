#include "trtllm_flags.h"

namespace foveal::tools {

OptionGroup describe(TrtllmFlags& flags) {
  const auto one = [](std::string_view name, std::string* target, std::string_view help,
                      std::vector<std::string_view> also) {
    return OptionField{
        .name = name, .target = target, .help = help, .choices = {"1"}, .also = std::move(also)};
  };
  constexpr std::string_view kOneDevice = "Foveal runs on one device";
  return {
      .fields = {{.name = "backend",
                  .target = &flags.backend,
                  .help = "Foveal has one engine",
                  .choices = {"pytorch"}},
                 {.name = "enable_chunked_context",
                  .target = &flags.chunked,
                  .help = "Foveal always prefills in chunks; results do not depend on them"},
                 one("tp_size", &flags.tensor, kOneDevice, {"tp"}),
                 one("pp_size", &flags.pipeline, kOneDevice, {"pp"}),
                 one("ep_size", &flags.expert, kOneDevice, {"ep"}),
                 one("cluster_size", &flags.cluster, kOneDevice, {}),
                 one("gpus_per_node", &flags.gpus, kOneDevice, {}),
                 one("max_beam_width", &flags.beams, "Foveal has no beam search", {"beam_width"})}};
}

}  // namespace foveal::tools
