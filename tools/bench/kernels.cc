#include <algorithm>
#include <array>
#include <cmath>

#include "base/check.h"
#include "bench/bench.h"
#include "cli_options.h"
#include "input.h"
#include "json_writer.h"
#include "kernel_rows.h"
#include "output.h"

namespace foveal::bench {
namespace {

constexpr std::array<std::string_view, 4> kFamilies{"attention", "rocket", "topk", "gemm"};

struct KernelOptions {
  std::string families = "attention,rocket,topk,gemm";
  std::string device = "auto";
  std::string dtype = "bf16";
  std::string report_json, csv;
  int64_t threads = 0;
  int64_t num_kv_heads = 3, group = 3, head_dim = 64, keys = 4096, rows = 512, layers = 16;
  int64_t topk = 64, n = 4096, k = 4096;
  double factor = 100;
  double min_seconds = 0.3;
};

OptionField number(std::string_view name, int64_t* target, std::string_view help, double min,
                   double max) {
  return {.name = name, .target = target, .help = help, .range = {.min = min, .max = max}};
}

OptionGroup describe(KernelOptions& options) {
  return {
      .fields = {
          {.name = "kernels",
           .target = &options.families,
           .help = "some of attention, rocket, topk, gemm, with commas"},
          {.name = "device",
           .target = &options.device,
           .help = "where they run",
           .choices = {"auto", "cpu"}},
          number("threads", &options.threads, "0: one a core", 0, 64),
          number("keys", &options.keys, "tokens that are attended to", 64, 1 << 22),
          number("rows", &options.rows, "of a prefill chunk, and of a prefill GEMM", 1, 65536),
          number("kv_heads", &options.num_kv_heads, "KV heads", 1, 1024),
          number("group", &options.group, "query heads a KV head", 1, 64),
          number("head_dim", &options.head_dim, "of each head", 8, 256),
          number("layers", &options.layers, "distinct caches, so that none is found again", 1,
                 1000),
          number("topk", &options.topk, "rocket: pages a step reads", 1, 1 << 20),
          {.name = "factor",
           .target = &options.factor,
           .help = "skip_softmax: threshold_scale_factor",
           .range = {.min = 0, .above_min = true}},
          number("n", &options.n, "GEMM: columns", 1, 1 << 24),
          number("k", &options.k, "GEMM: depth", 1, 1 << 24),
          {.name = "dtype", .target = &options.dtype, .help = "GEMM: of the weights"},
          {.name = "min_seconds",
           .target = &options.min_seconds,
           .help = "of each case",
           .range = {.min = 0.001, .max = 600}},
          {.name = "report_json", .target = &options.report_json, .help = "file for the report"},
          {.name = "csv", .target = &options.csv, .help = "the same with commas"}}};
}

std::vector<std::string> families_of(const std::string& text) {
  std::vector<std::string> out;
  for (const std::string_view name : tools::split_list(text)) {
    FOVEAL_CHECK(std::find(kFamilies.begin(), kFamilies.end(), name) != kFamilies.end(),
                 ErrorKind::kInvalidArgument, "kernels", "got '{}'; need some of {}", name,
                 fmt::join(kFamilies, ", "));
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

KernelShape shape_of(const KernelOptions& options) {
  return {.num_kv_heads = static_cast<int32_t>(options.num_kv_heads),
          .group = static_cast<int32_t>(options.group),
          .head_dim = static_cast<int32_t>(options.head_dim),
          .keys = static_cast<int32_t>(options.keys),
          .rows = static_cast<int32_t>(options.rows),
          .layers = static_cast<int32_t>(options.layers),
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
      "{:<33}{:<58}{:>11.1f} us {:>8.1f} {:<8}{:>5.1f} %{}\n", row.kernel, row.shape,
      1e6 * row.seconds, rate, row.compute_bound() ? "GFLOP/s" : "GB/s", 100 * row.fraction,
      row.skipped > 0 ? fmt::format("  {:.1f} % of tiles left out", 100 * row.skipped) : "");
}

std::string json_of(const Roof& roof, const std::vector<KernelRow>& rows) {
  tools::JsonWriter json;
  json.begin_object().key("roof").begin_object().field("device", "cpu");
  json.field("isa", std::string_view(roof.isa)).field("threads", roof.threads);
  json.field("gflops", roof.gflops).field("gflops_f32", roof.gflops_f32);
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
  const std::vector<std::string> families = families_of(own.families);
  const KernelShape shape = shape_of(own);
  tools::check_writable("report-json", own.report_json);
  tools::check_writable("csv", own.csv);
  ThreadPool pool(static_cast<int>(own.threads));
  const Roof roof = measure_roof(pool);
  tools::write_out(
      fmt::format("{} threads, {}: {:.0f} GFLOP/s (float32 {:.0f}), {:.1f} GB/s, measured now\n",
                  roof.threads, roof.isa, roof.gflops, roof.gflops_f32, roof.gbps));
  std::vector<KernelRow> rows;
  time_kernels(families, shape, pool, roof, [&](const KernelRow& row) {
    rows.push_back(row);
    tools::write_out(text_of(row));
  });
  tools::write_file("report-json", own.report_json, json_of(roof, rows));
  tools::write_file("csv", own.csv, csv_of(rows));
  return 0;
}

}  // namespace foveal::bench
