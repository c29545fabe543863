#include "trtllm_flags.h"

#include <fmt/format.h>

#include <optional>

namespace foveal::tools {
namespace {

std::optional<Complaint> refused(std::string_view name, const std::string& got,
                                 std::string_view need) {
  if (got.empty()) return std::nullopt;
  return Complaint{name, fmt::format("got '{}'; need {}", got, need)};
}

}  // namespace

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
                 one("cp_size", &flags.context, kOneDevice, {"cp"}),
                 one("cluster_size", &flags.cluster, kOneDevice, {}),
                 one("gpus_per_node", &flags.gpus, kOneDevice, {}),
                 one("max_beam_width", &flags.beams, "Foveal has no beam search", {"beam_width"}),
                 {.name = "trust_remote_code",
                  .target = &flags.remote_code,
                  .help = "no checkpoint's code is ever run, trusted or not"},
                 {.name = "custom_tokenizer",
                  .target = &flags.custom_tokenizer,
                  .help = "refused: Foveal runs no Python; give a tokenizer.json by --tokenizer"},
                 {.name = "revision",
                  .target = &flags.revision,
                  .help = "refused: --model is a folder or file, nothing is downloaded"}},
      .check = [&flags]() -> std::optional<Complaint> {
        if (auto complaint = refused("custom_tokenizer", flags.custom_tokenizer,
                                     "a tokenizer.json by --tokenizer: Foveal runs no Python")) {
          return complaint;
        }
        return refused("revision", flags.revision,
                       "a folder or file in --model: nothing is downloaded");
      }};
}

OptionGroup describe(TrtllmBenchFlags& flags) {
  return {.fields = {{.name = "model_path",
                      .target = &flags.model_path,
                      .help = "the model's folder or file, where --model is its name alone"},
                     {.name = "workspace",
                      .target = &flags.workspace,
                      .help = "not used: nothing is written but the files that other flags name"},
                     {.name = "iteration_log",
                      .target = &flags.iteration_log,
                      .help = "refused: --request_json has what was measured of each request"},
                     {.name = "scheduler_policy",
                      .target = &flags.policy,
                      .help = "requests start as soon as their pages fit",
                      .choices = {"max_utilization"}},
                     {.name = "target_input_len",
                      .target = &flags.input_len,
                      .help = "not used: the data set says how long requests are",
                      .range = {.min = 0}},
                     {.name = "target_output_len",
                      .target = &flags.output_len,
                      .help = "likewise",
                      .range = {.min = 0}}},
          .check = [&flags] {
            return refused("iteration_log", flags.iteration_log,
                           "--request_json, which has what was measured of each request");
          }};
}

}  // namespace foveal::tools
