#pragma once

#include <span>
#include <string>

namespace foveal::bench {

// Subcommands of `foveal bench`. `args` without the subcommand's own name. Exit status.
int throughput_main(std::span<const std::string> args);
int latency_main(std::span<const std::string> args);
int serve_bench_main(std::span<const std::string> args);
int kernels_main(std::span<const std::string> args);
int prepare_main(std::span<const std::string> args);
int compare_main(std::span<const std::string> args);

}  // namespace foveal::bench
