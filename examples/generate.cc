// Answers a batch of prompts and prints each answer as it grows, then what sparse attention left
// out:
//   generate MODEL [PROMPT...]
// Built against an installed Foveal; examples/CMakeLists.txt shows how.
#include <foveal/llm.h>

#include <cstdio>
#include <string>
#include <vector>

namespace {

// One line a prompt, in turn: all of them are being computed at once.
void stream(const std::vector<std::string>& prompts, std::vector<foveal::Generation>& generations) {
  for (size_t idx = 0; idx < generations.size(); ++idx) {
    std::printf("%s", prompts[idx].c_str());
    while (const std::optional<std::string> piece = generations[idx].next()) {
      std::printf("%s", piece->c_str());
      std::fflush(stdout);
    }
    const foveal::RequestOutput output = generations[idx].result();
    const foveal::LayerSparsity total = output.sparsity.total();
    std::printf(
        "\n[%s: skipped %.1f %% in prefill, %.1f %% in decode; first token after %.0f ms]\n",
        output.sparsity.method.c_str(), 100 * total.prefill.skipped(), 100 * total.decode.skipped(),
        output.timings.ttft_ms);
  }
}

int run(const std::string& model, const std::vector<std::string>& prompts) {
  foveal::LlmConfig config;
  config.model = model;
  config.sparse_attention_config = {foveal::SkipSoftmaxAttentionConfig{
      .threshold_scale_factor = foveal::PhaseValue{.prefill = 100.0, .decode = 30.0}}};
  foveal::LLM llm(config);
  std::printf("%s on %s: %s\n", llm.info().name.c_str(), llm.info().device.c_str(),
              llm.info().attention.c_str());

  std::vector<foveal::Generation> generations;
  for (const std::string& prompt : prompts) {
    generations.push_back(llm.submit({.text = prompt}, {.max_tokens = 32}));
  }
  stream(prompts, generations);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: generate MODEL [PROMPT...]\n");
    return 2;
  }
  std::vector<std::string> prompts(argv + 2, argv + argc);
  if (prompts.empty()) prompts = {"The capital of France is", "To be or not to be"};
  try {
    return run(argv[1], prompts);
  } catch (const foveal::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
