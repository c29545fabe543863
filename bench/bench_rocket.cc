// Times RocketKV's numeric core against dense decode in the same run.
//
//   bench_rocket                                      SmolLM2's shape at depth 7,680
//   bench_rocket --head-dim 128 --group 4 --kv-heads 2 --depth 32768 --layers 8

#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "base/check.h"
#include "kernels/cpu/isa.h"
#include "rocket_cases.h"

namespace foveal::bench {
namespace {

void run(const RocketOptions& options, int threads) {
  ThreadPool pool(threads);
  Stream stream(Device{}, pool);
  fmt::print("{} threads, {}; {} KV heads, group {}, head_dim {}, {} keys, pages of {} in {}\n",
             pool.num_threads(), kernels::cpu::isa_name(kernels::cpu::active_isa()),
             options.num_kv_heads, options.group, options.head_dim, options.depth,
             options.page_size, options.cache_page);
  time_rocket(options, stream, [](std::string_view what, double seconds, double bytes) {
    fmt::print("{:<28} {:>9.1f} us {:>9.2f} MB {:>7.1f} GB/s\n", what, 1e6 * seconds, 1e-6 * bytes,
               1e-9 * bytes / seconds);
  });
}

}  // namespace
}  // namespace foveal::bench

int main(int argc, char** argv) {
  foveal::bench::RocketOptions options;
  int threads = 0;
  CLI::App app("Times RocketKV's numeric core against dense decode");
  app.add_option("--threads", threads);
  app.add_option("--kv-heads", options.num_kv_heads);
  app.add_option("--group", options.group);
  app.add_option("--head-dim", options.head_dim);
  app.add_option("--cache-page", options.cache_page);
  app.add_option("--page-size", options.page_size);
  app.add_option("--topk", options.topk);
  app.add_option("--depth", options.depth);
  app.add_option("--window", options.window);
  app.add_option("--budget", options.budget);
  app.add_option("--layers", options.layers);
  app.add_flag("--bf16-bounds", options.bf16_bounds);
  app.add_option("--min-seconds", options.min_seconds);
  CLI11_PARSE(app, argc, argv);
  options.cpu_time = threads == 1;
  try {
    foveal::bench::run(options, threads);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
  return 0;
}
