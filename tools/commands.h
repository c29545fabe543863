#pragma once

#include <span>
#include <string>

namespace foveal::tools {

// One a file: run.cc, chat.cc, serve.cc, bench.cc, calibrate.cc, eval.cc, inspect.cc, tokenize.cc,
// render.cc. Exit status; errors are thrown.
int run_main(std::span<const std::string> args);
int chat_main(std::span<const std::string> args);
int serve_main(std::span<const std::string> args);
int bench_main(std::span<const std::string> args);
int calibrate_main(std::span<const std::string> args);
int eval_main(std::span<const std::string> args);
int inspect_main(std::span<const std::string> args);
int tokenize_main(std::span<const std::string> args);
int render_main(std::span<const std::string> args);

}  // namespace foveal::tools
