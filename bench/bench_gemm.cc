// Times the GEMM paths against this machine's own ceilings, measured in the same run.
//
//   bench_gemm                            the tables of docs/kernels/gemm.md
//   bench_gemm --path decode --dtype q4_1 --m 1 --n 4096 --k 4096     one case

#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "base/check.h"
#include "ceiling.h"
#include "gemm_cases.h"
#include "kernels/cpu/isa.h"

namespace foveal::bench {
namespace {

using kernels::GemmPath;

void report(const GemmCase& c, ThreadPool& pool, double peak, double peak_f32, bool cpu_time) {
  const GemmRow stats = time_gemm(c, pool, cpu_time);
  const double stream = stats.stream_gbps;
  const double gbps = stats.gbyte / stats.median;
  const double gflops = stats.gflop / stats.median;
  const double top = c.path == GemmPath::kExact ? peak_f32 : peak;
  fmt::print(
      "{:7} {:5} {:18} m {:4}  {:8.3f} ms ({:.3f} to {:.3f})  {:7.1f} GFLOP/s {:5.1f} %"
      "  {:5.1f} GB/s {:5.1f} % of {:.1f}\n",
      path_name(c.path), dtype_name(c.calls[0].dtype), c.name, c.m, 1e3 * stats.median,
      1e3 * stats.best, 1e3 * stats.high, gflops, 100 * gflops / top, gbps, 100 * gbps / stream,
      stream);
  std::fflush(stdout);
}

DType parse_dtype(const std::string& name) {
  for (int idx = 0; idx <= static_cast<int>(DType::kE4M3x32); ++idx) {
    if (dtype_name(static_cast<DType>(idx)) == name) return static_cast<DType>(idx);
  }
  fail(ErrorKind::kInvalidArgument, "--dtype", "got {}; need a weight dtype", name);
}

int run(int argc, char** argv) {
  CLI::App app("GEMM benchmark");
  std::string path = "all";
  std::string name;
  std::string dtype = "q4_1";
  int64_t m = 1;
  int64_t n = 4096;
  int64_t k = 4096;
  bool cpu_time = false;
  int threads = 0;
  int layers = 0;
  app.add_option("--path", path, "all, prefill, decode, exact");
  app.add_option("--name", name, "only cases whose name contains this");
  app.add_option("--dtype", dtype, "of the weight of one case");
  const CLI::Option* rows = app.add_option("--m", m, "rows of one case");
  app.add_option("--n", n, "columns of one case");
  app.add_option("--k", k, "depth of one case");
  app.add_option("--layers", layers, "weights of one case; 0: 128 MB of them");
  app.add_option("--threads", threads, "0: one a core");
  app.add_flag("--cpu-time", cpu_time, "time by the processor's clock, not the wall's");
  CLI11_PARSE(app, argc, argv);

  ThreadPool pool(threads);
  const double peak = peak_gflops(pool, /*f32=*/false);
  const double peak_f32 = peak_gflops(pool, /*f32=*/true);
  fmt::print("{} threads, {}: {:.0f} GFLOP/s, in f32 {:.0f}\n", pool.num_threads(),
             kernels::cpu::isa_name(kernels::cpu::active_isa()), peak, peak_f32);
  std::vector<GemmCase> cases = gemm_cases();
  if (rows->count() > 0) {
    const DType type = parse_dtype(dtype);
    cases.clear();
    for (const GemmPath each : {GemmPath::kPrefill, GemmPath::kDecode, GemmPath::kExact}) {
      cases.push_back(gemm_case(each, type, m, n, k));
      if (layers > 0) cases.back().layers = layers;
    }
  }
  for (const GemmCase& c : cases) {
    if (path != "all" && path != path_name(c.path)) continue;
    if (c.name.find(name) != std::string::npos) report(c, pool, peak, peak_f32, cpu_time);
  }
  return 0;
}

}  // namespace
}  // namespace foveal::bench

int main(int argc, char** argv) {
  try {
    return foveal::bench::run(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
