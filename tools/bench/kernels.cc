#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <span>

#include "base/check.h"
#include "bench/bench.h"
#include "cli_options.h"
#include "input.h"
#include "json_writer.h"
#include "kernel_rows.h"
#include "output.h"

namespace foveal::bench {
namespace {

constexpr std::array<std::string_view, 4> kCpuFamilies{"attention", "rocket", "topk", "gemm"};
constexpr std::array<std::string_view, 5> kCudaFamilies{"attention", "rocket", "topk", "dsa",
                                                        "gemm"};

struct KernelOptions {
  std::string families;
  std::string device = "auto";
  std::string dtype = "bf16";
  std::string report_json, csv;
  int64_t threads = 0;
  std::optional<int64_t> num_kv_heads, group, head_dim, keys, rows;
  int64_t layers = 16, batch = 8;
  int64_t topk = 64, n = 4096, k = 4096;
  double factor = 100;
  double min_seconds = 0.3;
};

template <class Number>
OptionField number(std::string_view name, Number* target, std::string_view help, double min,
                   double max) {
  return {.name = name, .target = target, .help = help, .range = {.min = min, .max = max}};
}

OptionGroup describe(KernelOptions& options) {
  return {
      .fields = {
          {.name = "kernels",
           .target = &options.families,
           .help = "some of attention, rocket, topk, gemm, on a GPU dsa, with commas; absent: all"},
          {.name = "device", .target = &options.device, .help = "where they run: auto, cpu, cuda"},
          number("threads", &options.threads, "0: one a core", 0, 64),
          number("keys", &options.keys, "tokens that are attended to; absent: 4096, on a GPU 32768",
                 64, 1 << 22),
          number("rows", &options.rows,
                 "of a prefill chunk, and of a prefill GEMM; absent: 512, on a GPU 4096", 1, 65536),
          number("kv_heads", &options.num_kv_heads, "KV heads; absent: 3, on a GPU 8", 1, 1024),
          number("group", &options.group, "query heads a KV head; absent: 3, on a GPU 4", 1, 64),
          number("head_dim", &options.head_dim, "of each head; absent: 64, on a GPU 128", 8, 256),
          number("layers", &options.layers, "CPU: distinct caches, so that none is found again", 1,
                 1000),
          number("batch", &options.batch, "GPU: sequences of a decode step", 1, 1024),
          number("topk", &options.topk, "rocket: pages a step reads", 1, 1 << 20),
          number("factor", &options.factor, "skip_softmax: threshold_scale_factor", 1e-30, 1e30),
          number("n", &options.n, "GEMM: columns", 1, 1 << 24),
          number("k", &options.k, "GEMM: depth", 1, 1 << 24),
          {.name = "dtype",
           .target = &options.dtype,
           .help = "GEMM: of the weights; on a GPU bf16 and e4m3"},
          {.name = "min_seconds",
           .target = &options.min_seconds,
           .help = "of each case",
           .range = {.min = 0.001, .max = 600}},
          {.name = "report_json", .target = &options.report_json, .help = "file for the report"},
          {.name = "csv", .target = &options.csv, .help = "the same with commas"}}};
}

std::vector<std::string> families_of(const std::string& text,
                                     std::span<const std::string_view> known) {
  if (text.empty()) return {known.begin(), known.end()};
  std::vector<std::string> out;
  for (const std::string_view name : tools::split_list(text)) {
    FOVEAL_CHECK(std::find(known.begin(), known.end(), name) != known.end(),
                 ErrorKind::kInvalidArgument, "kernels", "got '{}'; need some of {}", name,
                 fmt::join(known, ", "));
    out.emplace_back(name);
  }
  return out;
}

DType weight_dtype(const std::string& name) {
  for (int idx = 0; idx <= static_cast<int>(DType::kQ6_K); ++idx) {
    if (dtype_name(static_cast<DType>(idx)) == name) return static_cast<DType>(idx);
  }
  fail(ErrorKind::kInvalidArgument, "dtype", "got '{}'; need bf16, q4_1 or another of weights",
       name);
}

// Absent sizes are SmolLM2's on a CPU, and Llama-3.1-8B's at 32k on a GPU.
KernelShape shape_of(const KernelOptions& options, bool cuda) {
  const auto size = [&](const std::optional<int64_t>& given, int64_t cpu_size, int64_t cuda_size) {
    return static_cast<int32_t>(given.value_or(cuda ? cuda_size : cpu_size));
  };
  return {.num_kv_heads = size(options.num_kv_heads, 3, 8),
          .group = size(options.group, 3, 4),
          .head_dim = size(options.head_dim, 64, 128),
          .keys = size(options.keys, 4096, 32768),
          .rows = size(options.rows, 512, 4096),
          .layers = static_cast<int32_t>(options.layers),
          .batch = static_cast<int32_t>(options.batch),
          .topk = static_cast<int32_t>(options.topk),
          .factors = {static_cast<float>(options.factor)},
          .weights = weight_dtype(options.dtype),
          .n = options.n,
          .k = options.k,
          .min_seconds = options.min_seconds};
}

std::string text_of(const KernelRow& row) {
  const double rate = (row.compute_bound() ? row.gflop : row.gbyte) / row.seconds;
  return fmt::format(
      "{:<36} {:<66} {:>11.1f} us {:>8.1f} {:<8}{:>5.1f} %{}\n", row.kernel, row.shape,
      1e6 * row.seconds, rate, row.compute_bound() ? "GFLOP/s" : "GB/s", 100 * row.fraction,
      row.skipped > 0 ? fmt::format("  {:.1f} % of tiles left out", 100 * row.skipped) : "");
}

std::string roof_text(const Roof& roof) {
  if (roof.device == "cpu") {
    return fmt::format(
        "{} threads, {}: {:.0f} GFLOP/s (float32 {:.0f}), {:.1f} GB/s, measured now\n",
        roof.threads, roof.isa, roof.gflops, roof.gflops_f32, roof.gbps);
  }
  return fmt::format(
      "{}: products {:.0f} GFLOP/s (e4m3 {:.0f}), reads {:.0f} GB/s, copies {:.0f} GB/s, measured "
      "now\n",
      roof.device, roof.gflops, roof.gflops_e4m3, roof.gbps, roof.copy_gbps);
}

std::string json_of(const Roof& roof, const std::vector<KernelRow>& rows) {
  tools::JsonWriter json;
  json.begin_object().key("roof").begin_object();
  json.field("device", std::string_view(roof.device)).field("gflops", roof.gflops);
  if (roof.device == "cpu") {
    json.field("isa", std::string_view(roof.isa)).field("threads", roof.threads);
    json.field("gflops_f32", roof.gflops_f32);
  } else {
    json.field("gflops_e4m3", roof.gflops_e4m3).field("copy_gbps", roof.copy_gbps);
  }
  json.field("gbps", roof.gbps).end_object().key("kernels").begin_array();
  for (const KernelRow& row : rows) {
    json.begin_object().field("kernel", std::string_view(row.kernel));
    json.field("shape", std::string_view(row.shape)).field("seconds", row.seconds);
    json.field("bound", row.compute_bound() ? "compute" : "memory");
    json.field("flop", std::round(1e9 * row.gflop)).field("bytes", std::round(1e9 * row.gbyte));
    json.field("skipped", row.skipped).field("roof_fraction", row.fraction).end_object();
  }
  json.end_array().end_object();
  return json.text() + "\n";
}

std::string csv_of(const std::vector<KernelRow>& rows) {
  std::string out = "kernel,shape,seconds,flop,bytes,skipped,roof_fraction\n";
  for (const KernelRow& row : rows) {
    out += fmt::format("{},\"{}\",{},{},{},{},{}\n", row.kernel, row.shape, row.seconds,
                       std::round(1e9 * row.gflop), std::round(1e9 * row.gbyte), row.skipped,
                       row.fraction);
  }
  return out;
}

}  // namespace

int kernels_main(std::span<const std::string> args) {
  KernelOptions own;
  tools::Command command("bench kernels",
                         "Attention, top-k and matrix products alone, against what this machine "
                         "can do at most.");
  command.options("Kernels", describe(own));
  if (!command.parse(args)) return 0;
  const bool cuda = is_cuda(own.device);
  const std::vector<std::string> families =
      cuda ? families_of(own.families, kCudaFamilies) : families_of(own.families, kCpuFamilies);
  const KernelShape shape = shape_of(own, cuda);
  if (!cuda) check_shape(families, shape);
  const tools::OutputFile outputs[] = {{"report-json", own.report_json}, {"csv", own.csv}};
  tools::check_outputs(outputs, {});
  std::vector<KernelRow> rows;
  const auto done = [&](const KernelRow& row) {
    rows.push_back(row);
    tools::write_out(text_of(row));
  };
  Roof roof;
  if (cuda) {
    CudaKernels kernels;
    roof = kernels.roof();
    tools::write_out(roof_text(roof));
    kernels.time(families, shape, done);
  } else {
    ThreadPool pool(static_cast<int>(own.threads));
    roof = measure_roof(pool);
    tools::write_out(roof_text(roof));
    time_kernels(families, shape, pool, roof, done);
  }
  const tools::OutputText files[] = {{"report-json", own.report_json, json_of(roof, rows)},
                                     {"csv", own.csv, csv_of(rows)}};
  tools::write_results(files, "");
  return 0;
}

}  // namespace foveal::bench
