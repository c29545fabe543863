// Times paged attention against this machine's own ceilings, measured in the same run.
//
//   bench_attention                                   the tables of docs/kernels/paged_attention.md
//   bench_attention --head-dim 128 --group 4 --kv-heads 2 --threads 1

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstring>

#include "attention_cases.h"
#include "base/check.h"
#include "ceiling.h"
#include "kernels/cpu/isa.h"

namespace foveal::bench {
namespace {

void bench(const AttentionOptions& options, int threads) {
  ThreadPool pool(threads);
  Stream stream(Device{}, pool);
  const double peak = peak_gflops(pool, /*f32=*/false);
  const double stream_rate = stream_gbps(pool);
  fmt::print("{} threads, {}: peak {:.0f} GFLOP/s (bf16 where there is one), stream {:.1f} GB/s\n",
             pool.num_threads(), kernels::cpu::isa_name(kernels::cpu::active_isa()), peak,
             stream_rate);
  fmt::print("{} query heads, {} KV heads, head_dim {}, pages of {}, bf16\n\n",
             options.num_kv_heads * options.group, options.num_kv_heads, options.head_dim,
             options.page_size);
  fmt::print(
      "| phase | keys | factor | skipped tiles | ms a layer | rate | of the bound | vs dense "
      "|\n|---|---|---|---|---|---|---|---|\n");
  time_attention(options, stream, [&](const AttentionRow& row) {
    const double rate = row.work / row.seconds;
    fmt::print("| {} | {} | {} | {:.1f} % | {:.3f} | {:.1f} {} | {:.1f} % | {:.2f} |\n",
               row.prefill ? "prefill" : "decode", row.kv_len, row.factor, 100 * row.skipped,
               1e3 * row.seconds, rate, row.prefill ? "GFLOP/s" : "GB/s",
               100 * rate / (row.prefill ? peak : stream_rate), row.dense_seconds / row.seconds);
  });
}

}  // namespace
}  // namespace foveal::bench

int main(int argc, char** argv) {
  foveal::bench::AttentionOptions options;
  int threads = 0;
  CLI::App app("Paged attention against this machine's ceilings");
  app.add_option("--threads", threads, "0: all cores");
  app.add_option("--kv-heads", options.num_kv_heads);
  app.add_option("--group", options.group, "query heads a KV head");
  app.add_option("--head-dim", options.head_dim);
  app.add_option("--page-size", options.page_size);
  app.add_option("--rows", options.rows, "rows of a prefill chunk");
  app.add_option("--layers", options.layers);
  app.add_option("--depths", options.depths, "keys before the rows");
  app.add_option("--factors", options.factors, "0 first: the others are compared with it");
  app.add_option("--spread", options.spread);
  app.add_option("--tile-spread", options.tile_spread);
  CLI11_PARSE(app, argc, argv);
  try {
    foveal::bench::bench(options, threads);
  } catch (const foveal::Error& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
  return 0;
}
