#include <array>

#include "cli_options.h"
#include "commands.h"
#include "foveal/version.h"

int main(int argc, char** argv) {
  using foveal::tools::CommandEntry;
  constexpr std::array<CommandEntry, 9> kCommands{{
      {"run", "complete a prompt, or answer it with --chat", foveal::tools::run_main},
      {"chat", "talk to a model", foveal::tools::chat_main},
      {"serve", "answer HTTP requests with OpenAI's API", foveal::tools::serve_main},
      {"bench", "measure speed", foveal::tools::bench_main},
      {"calibrate", "find a sparse method's settings", foveal::tools::calibrate_main},
      {"eval", "measure answers, dense and sparse on the same samples", foveal::tools::eval_main},
      {"inspect", "show a model and a configuration as they would run",
       foveal::tools::inspect_main},
      {"tokenize", "text on standard input to token ids, or back", foveal::tools::tokenize_main},
      {"render", "a JSON list of messages on standard input to a chat prompt",
       foveal::tools::render_main},
  }};
  return foveal::tools::run_program(argc, argv, foveal::kVersion, kCommands);
}
