#include "kernel_rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <numeric>
#include <random>

#include "attention_cases.h"
#include "base/check.h"
#include "ceiling.h"
#include "device/device.h"
#include "device/stream.h"
#include "gemm_cases.h"
#include "kernels/cpu/isa.h"
#include "kernels/paged_attention.h"
#include "kernels/topk.h"
#include "rocket_cases.h"

namespace foveal::bench {
namespace {

using Done = std::function<void(const KernelRow&)>;
using kernels::GemmPath;

KernelRow with_fraction(KernelRow row, double gflops, double gbps) {
  const double rate = (row.compute_bound() ? row.gflop : row.gbyte) / row.seconds;
  row.fraction = rate / (row.compute_bound() ? gflops : gbps);
  return row;
}

void attention_rows(const KernelShape& shape, ThreadPool& pool, const Roof& roof,
                    const Done& done) {
  AttentionOptions options{.num_kv_heads = shape.num_kv_heads,
                           .group = shape.group,
                           .head_dim = shape.head_dim,
                           .page_size = shape.page_size,
                           .rows = std::min(shape.rows, shape.keys),
                           .layers = shape.layers,
                           .factors = {0}};
  options.min_seconds = shape.min_seconds;
  options.factors.insert(options.factors.end(), shape.factors.begin(), shape.factors.end());
  Stream stream(Device{}, pool);
  const auto add = [&](const AttentionRow& row) {
    done(with_fraction(
        {.kernel = fmt::format("{}_{}", row.factor == 0 ? "attention" : "skip_softmax",
                               row.prefill ? "prefill" : "decode"),
         .shape = fmt::format("{} rows, {} keys, {} heads, {} kv, dim {}{}",
                              row.prefill ? options.rows : 1, row.kv_len,
                              shape.num_kv_heads * shape.group, shape.num_kv_heads, shape.head_dim,
                              row.factor == 0 ? "" : fmt::format(", factor {}", row.factor)),
         .seconds = row.seconds,
         .gflop = row.prefill ? row.work : 0,
         .gbyte = row.prefill ? 0 : row.work,
         .skipped = row.skipped},
        roof.gflops, roof.gbps));
  };
  for (const bool prefill : {true, false}) {
    options.prefill = prefill;
    options.decode = !prefill;
    options.depths = {shape.keys - (prefill ? options.rows : 1)};
    time_attention(options, stream, add);
  }
}

int32_t rocket_budget(const KernelShape& shape) { return std::min(2048, shape.keys / 2); }

void rocket_rows(const KernelShape& shape, ThreadPool& pool, const Roof& roof, const Done& done) {
  RocketOptions options{.num_kv_heads = shape.num_kv_heads,
                        .group = shape.group,
                        .head_dim = shape.head_dim,
                        .topk = shape.topk,
                        .depth = shape.keys,
                        .budget = rocket_budget(shape),
                        .layers = shape.layers};
  options.min_seconds = shape.min_seconds;
  Stream stream(Device{}, pool);
  time_rocket(options, stream, [&](std::string_view what, double seconds, double bytes) {
    if (what == "dense decode") return;  // attention_decode has it
    done(with_fraction({.kernel = fmt::format("rocket: {}", what),
                        .shape = fmt::format("{} keys, topk {}, {} kv, dim {}", shape.keys,
                                             shape.topk, shape.num_kv_heads, shape.head_dim),
                        .seconds = seconds,
                        .gbyte = 1e-9 * bytes},
                       roof.gflops, roof.gbps));
  });
}

// The set of a row's k largest, checked against a sort; on one thread, as it is called.
void topk_rows(const KernelShape& shape, const Done& done) {
  std::mt19937_64 rng(3);
  std::normal_distribution<float> normal;
  const size_t count = std::max<size_t>(1, (size_t{64} << 20) / sizeof(float) / shape.keys);
  std::vector<float> values(count * static_cast<size_t>(shape.keys));
  for (float& value : values) value = normal(rng);
  const int32_t k = std::min(2048, shape.keys / 2);
  const auto row = [&](size_t idx) {
    return std::span<const float>(values).subspan(idx * shape.keys,
                                                  static_cast<size_t>(shape.keys));
  };
  std::vector<int32_t> chosen(static_cast<size_t>(k));
  kernels::TopKSet set;
  double best = 1e9;
  double total = 0;
  for (int round = 0; round < 3 || total < shape.min_seconds; ++round) {
    const auto begin = std::chrono::steady_clock::now();
    for (size_t idx = 0; idx < count; ++idx) set.select(row(idx), k, chosen.data());
    const double took =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    best = std::min(best, took / static_cast<double>(count));
    total += took;
  }
  std::vector<int32_t> want = kernels::top_k(row(count - 1), k);
  std::sort(want.begin(), want.end());
  FOVEAL_CHECK(chosen == want, ErrorKind::kInternal, "bench",
               "got another set of the {} largest than a sort; need the same", k);
  // One thread's reading; the roof of all is not its.
  ThreadPool alone(1);
  const double gbps = stream_gbps(alone);
  done(with_fraction({.kernel = "topk",
                      .shape = fmt::format("{} of {}, one thread", k, shape.keys),
                      .seconds = best,
                      .gbyte = 1e-9 * shape.keys * sizeof(float)},
                     1, gbps));
}

void gemm_rows(const KernelShape& shape, ThreadPool& pool, const Roof& roof, const Done& done) {
  for (const auto& [path, m] : {std::pair(GemmPath::kPrefill, int64_t{shape.rows}),
                                std::pair(GemmPath::kDecode, int64_t{1})}) {
    const GemmCase wanted = gemm_case(path, shape.weights, m, shape.n, shape.k);
    const GemmRow row = time_gemm(wanted, pool, /*cpu_time=*/false, shape.min_seconds);
    const bool compute = path == GemmPath::kPrefill;
    done(with_fraction(
        {.kernel = fmt::format("gemm_{}", path_name(path)),
         .shape = fmt::format("{} x {} x {}, {}", m, shape.n, shape.k, dtype_name(shape.weights)),
         .seconds = row.median / wanted.layers,
         .gflop = compute ? row.gflop / wanted.layers : 0,
         .gbyte = compute ? 0 : row.gbyte / wanted.layers},
        roof.gflops, row.stream_gbps));
  }
}

}  // namespace

bool is_cuda(std::string_view device) { return parse_device(device).kind == DeviceKind::kCuda; }

Roof measure_roof(ThreadPool& pool) {
  return {.gflops = peak_gflops(pool, /*f32=*/false),
          .gflops_f32 = peak_gflops(pool, /*f32=*/true),
          .gbps = stream_gbps(pool),
          .threads = pool.num_threads(),
          .isa = std::string(kernels::cpu::isa_name(kernels::cpu::active_isa()))};
}

void check_shape(const std::vector<std::string>& families, const KernelShape& shape) {
  const auto bad = ErrorKind::kInvalidArgument;
  for (const std::string& family : families) {
    FOVEAL_CHECK((family != "attention" && family != "rocket") || shape.head_dim % 2 == 0, bad,
                 "head-dim", "got {}; need an even number", shape.head_dim);
    const int32_t before = shape.keys - std::min(shape.rows, shape.keys);
    FOVEAL_CHECK(family != "attention" || before % kernels::kQueryTile == 0, bad, "rows",
                 "got {} of {} keys; need a multiple of {} keys before them", shape.rows,
                 shape.keys, kernels::kQueryTile);
    const int32_t window = RocketOptions().window;
    FOVEAL_CHECK(family != "rocket" || rocket_budget(shape) > window, bad, "keys",
                 "got {}; need at least {} for rocket", shape.keys, 2 * (window + 1));
    FOVEAL_CHECK(family != "gemm" || row_bytes(shape.weights, shape.k).has_value(), bad, "k",
                 "got {}; need whole blocks of {}", shape.k, dtype_name(shape.weights));
  }
}

void time_kernels(const std::vector<std::string>& families, const KernelShape& shape,
                  ThreadPool& pool, const Roof& roof, const Done& done) {
  for (const std::string& family : families) {
    if (family == "attention") attention_rows(shape, pool, roof, done);
    if (family == "rocket") rocket_rows(shape, pool, roof, done);
    if (family == "topk") topk_rows(shape, done);
    if (family == "gemm") gemm_rows(shape, pool, roof, done);
  }
}

}  // namespace foveal::bench
