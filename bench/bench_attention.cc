// Times paged attention against this machine's own ceilings, measured in the same run.
//
//   bench_attention                                   the tables of docs/kernels/paged_attention.md
//   bench_attention --head-dim 128 --group 4 --kv-heads 2 --threads 1
//
// Counting rule: 4 * head_dim flops an unmasked (query, key) pair, skipped or not; decode counts
// the bytes of K and V that dense attention reads. So a skip factor shows as a higher rate.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "base/check.h"
#include "base/math.h"
#include "ceiling.h"
#include "kernels/cpu/isa.h"
#include "kernels/paged_attention.h"
#include "kernels/reference/attention.h"

namespace foveal::bench {
namespace {

using kernels::AttentionCounters;
using kernels::AttentionPhase;
using kernels::AttentionSeq;
using kernels::PagedAttentionParams;

struct Options {
  int threads = 0;
  int32_t num_kv_heads = 3;
  int32_t group = 3;
  int32_t head_dim = 64;
  int32_t page_size = 64;
  int32_t rows = 512;
  int32_t layers = 30;  ///< distinct caches, so that decode's do not stay in L3
  std::vector<int32_t> depths{0, 2048, 7680};
  std::vector<float> factors{0, 1e-30F, 3, 30, 100, 300};
  /// Scores: a normal of this deviation a pair, plus one of the next a key tile. Real heads differ
  /// more between tiles than within them; these two give the skipped shares of a small model.
  float spread = 1.5F;
  float tile_spread = 2.5F;
  double min_seconds = 0.3;
};

/// The same random K and V in every layer's pages, and queries for the last rows.
struct Data {
  Data(const Options& wanted, int32_t keys, int32_t rows, Stream& stream)
      : options(wanted), kv_len(keys), q_len(rows) {
    num_pages = static_cast<int32_t>(ceil_div(kv_len, options.page_size));
    page_bytes = int64_t{2} * options.num_kv_heads * options.head_dim * options.page_size;
    const int64_t layer = page_bytes * num_pages;
    bytes = 2 * layer;
    cache = Buffer(Device{}, static_cast<size_t>(bytes * options.layers), "bench cache");
    std::mt19937_64 rng(7);
    for (int32_t page = 0; page < num_pages; ++page) pages.push_back(page);
    std::shuffle(pages.begin(), pages.end(), rng);
    fill(rng, stream);
    for (int32_t idx = 1; idx < options.layers; ++idx) {
      std::memcpy(cache.data() + idx * bytes, cache.data(), static_cast<size_t>(bytes));
    }
  }

  KvLayerView view(int32_t layer) const {
    std::byte* k = cache.data() + layer * bytes;
    return {.k = k,
            .v = k + bytes / 2,
            .page_bytes = page_bytes,
            .dtype = DType::kBF16,
            .page_size = options.page_size,
            .num_kv_heads = options.num_kv_heads,
            .head_dim = options.head_dim};
  }

  void fill(std::mt19937_64& rng, Stream& stream) {
    std::normal_distribution<float> normal;
    const int64_t width = int64_t{options.num_kv_heads} * options.head_dim;
    std::vector<float> k(width * kv_len);
    std::vector<float> v(width * kv_len);
    std::vector<float> level(options.num_kv_heads);
    const float unit = 1 / std::sqrt(static_cast<float>(options.head_dim));
    for (int64_t at = 0; at < width * kv_len; ++at) {
      const int64_t key = at / width;
      const int64_t head = at % width / options.head_dim;
      if (key % kernels::kKeyTile == 0 && at % options.head_dim == 0) {
        level[head] = options.tile_spread * normal(rng) + (key == 0 ? 2 * options.tile_spread : 0);
      }
      k[at] = normal(rng) + level[head] * unit;
      v[at] = normal(rng);
    }
    q.resize(width * options.group * q_len);
    out.resize(q.size());
    for (float& x : q) x = options.spread * normal(rng) + 1;
    const AttentionSeq seq{.q_len = kv_len, .kv_len = kv_len, .pages = pages.data()};
    kernels::kv_store({.k = k.data(),
                       .v = v.data(),
                       .k_stride = width,
                       .v_stride = width,
                       .kv = view(0),
                       .seqs = {&seq, 1}},
                      stream);
  }

  const Options& options;
  int32_t kv_len;
  int32_t q_len;
  int32_t num_pages = 0;
  int64_t page_bytes = 0;
  int64_t bytes = 0;  ///< K and V of a layer
  Buffer cache;
  std::vector<int32_t> pages;
  std::vector<float> q;
  std::vector<float> out;
};

struct Run {
  double seconds = 0;  ///< of one layer
  AttentionCounters counters;
};

/// Rows of the last query tile against the reference; throws when they differ by more than the
/// roundings of the bf16 path allow.
void verify(Data& data, PagedAttentionParams params, AttentionSeq seq, AttentionPhase phase) {
  const int32_t rows = phase == AttentionPhase::kDecode ? 1 : std::min(seq.q_len, 16);
  const int64_t skipped = seq.q_len - rows;
  params.q += skipped * params.q_stride;
  seq.q_len = rows;
  params.seqs = {&seq, 1};
  const bool rounded = kernels::cpu::active_isa() == kernels::cpu::Isa::kAvx512Bf16;
  const auto want = kernels::reference::attention(params, phase, rounded);
  std::vector<bool> unsure(rows * params.num_heads);
  for (const auto& vote : want.votes) {
    if (vote.margin > 1e-3) continue;
    for (int32_t row = 0; row < rows; ++row) {
      for (int32_t head = 0; head < params.num_heads; ++head) {
        if (phase == AttentionPhase::kDecode || head == vote.head) {
          unsure[row * params.num_heads + head] = true;
        }
      }
    }
  }
  const float* got = data.out.data() + skipped * params.out_stride;
  for (size_t at = 0; at < want.out.size(); ++at) {
    if (unsure[at / data.options.head_dim]) continue;
    const double bound = (0x1p-8 + 1e-3) * want.magnitude[at];
    FOVEAL_CHECK(std::abs(got[at] - want.out[at]) <= bound, ErrorKind::kInternal, "verify",
                 "got {}; need {} within {}", got[at], want.out[at], bound);
  }
}

Run time_case(Data& data, AttentionPhase phase, float factor, Stream& stream) {
  const Options& options = data.options;
  const int64_t width = int64_t{options.num_kv_heads} * options.group * options.head_dim;
  const AttentionSeq seq{.q_len = data.q_len,
                         .kv_len = data.kv_len,
                         .threshold_len = data.kv_len,
                         .pages = data.pages.data()};
  PagedAttentionParams params{.q = data.q.data(),
                              .out = data.out.data(),
                              .q_stride = width,
                              .out_stride = width,
                              .num_heads = options.num_kv_heads * options.group,
                              .seqs = {&seq, 1},
                              .softmax_scale = 1 / std::sqrt(static_cast<float>(options.head_dim)),
                              .skip_factor = factor};
  const auto call = [&](int32_t layer) {
    params.kv = data.view(layer);
    if (phase == AttentionPhase::kPrefill) {
      paged_prefill(params, stream);
    } else {
      paged_decode(params, stream);
    }
  };
  Run run{.seconds = 1e9};
  call(0);
  const int32_t layers = phase == AttentionPhase::kPrefill ? 1 : options.layers;
  const auto start = std::chrono::steady_clock::now();
  for (int repeat = 0; repeat < 5 || std::chrono::steady_clock::now() - start <
                                         std::chrono::duration<double>(options.min_seconds);
       ++repeat) {
    const auto begin = std::chrono::steady_clock::now();
    for (int32_t layer = 0; layer < layers; ++layer) call((layer + repeat) % options.layers);
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begin;
    run.seconds = std::min(run.seconds, time.count() / layers);
  }
  params.counters = &run.counters;
  call(0);
  verify(data, params, seq, phase);
  return run;
}

void bench(const Options& options) {
  ThreadPool pool(options.threads);
  Stream stream(Device{}, pool);
  const double peak = peak_gflops(pool, /*f32=*/false);
  Buffer memory(Device{}, size_t{256} << 20, "bench stream");
  std::memset(memory.data(), 1, memory.size());
  const double stream_rate = stream_gbps(pool, reinterpret_cast<const uint8_t*>(memory.data()),
                                         static_cast<int64_t>(memory.size()));
  fmt::print("{} threads, {}: peak {:.0f} GFLOP/s (bf16 where there is one), stream {:.1f} GB/s\n",
             pool.num_threads(), kernels::cpu::isa_name(kernels::cpu::active_isa()), peak,
             stream_rate);
  fmt::print("{} query heads, {} KV heads, head_dim {}, pages of {}, bf16\n\n",
             options.num_kv_heads * options.group, options.num_kv_heads, options.head_dim,
             options.page_size);
  fmt::print(
      "| phase | keys | factor | skipped tiles | ms a layer | rate | of the bound | vs dense "
      "|\n|---|---|---|---|---|---|---|---|\n");
  for (const int32_t depth : options.depths) {
    for (const AttentionPhase phase : {AttentionPhase::kPrefill, AttentionPhase::kDecode}) {
      const bool prefill = phase == AttentionPhase::kPrefill;
      const int32_t kv_len = depth + (prefill ? options.rows : depth == 0 ? options.rows : 1);
      Data data(options, kv_len, prefill ? options.rows : 1, stream);
      double dense = 0;
      for (const float factor : options.factors) {
        const Run run = time_case(data, phase, factor, stream);
        if (factor == 0) dense = run.seconds;
        const double work = prefill
                                ? 4e-9 * static_cast<double>(run.counters.pairs) * options.head_dim
                                : 1e-9 * static_cast<double>(data.kv_len) * 4 *
                                      options.num_kv_heads * options.head_dim;
        const double rate = work / run.seconds;
        fmt::print("| {} | {} | {} | {:.1f} % | {:.3f} | {:.1f} {} | {:.1f} % | {:.2f} |\n",
                   prefill ? "prefill" : "decode", kv_len, factor,
                   100.0 * static_cast<double>(run.counters.tiles_skipped) /
                       static_cast<double>(run.counters.tiles),
                   1e3 * run.seconds, rate, prefill ? "GFLOP/s" : "GB/s",
                   100 * rate / (prefill ? peak : stream_rate), dense / run.seconds);
      }
    }
  }
}

}  // namespace
}  // namespace foveal::bench

int main(int argc, char** argv) {
  foveal::bench::Options options;
  CLI::App app("Paged attention against this machine's ceilings");
  app.add_option("--threads", options.threads, "0: all cores");
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
    foveal::bench::bench(options);
  } catch (const foveal::Error& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
  return 0;
}
