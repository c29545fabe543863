// Times RocketKV's numeric core against dense decode in the same run.
//
//   bench_rocket                                      SmolLM2's shape at depth 7,680
//   bench_rocket --head-dim 128 --group 4 --kv-heads 2 --depth 32768 --layers 8
//
// Bytes are those that each step must read: K and V (dense), the bounds lane (selection), K and V
// of selected tokens (attention; K comes in cache lines of 16 tokens, which is not counted).

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <ctime>
#include <numeric>
#include <random>
#include <vector>

#include "attention/rocket/page_attend.h"
#include "attention/rocket/page_select.h"
#include "attention/rocket/prompt_select.h"
#include "base/check.h"
#include "base/math.h"
#include "kernels/cpu/isa.h"

namespace foveal::bench {
namespace {

namespace rocket = attention::rocket;

struct Options {
  int threads = 0;
  int32_t num_kv_heads = 3;
  int32_t group = 3;
  int32_t head_dim = 64;
  int32_t cache_page = 32;
  int32_t page_size = 4;
  int32_t topk = 64;
  int32_t depth = 7680;
  int32_t window = 32;
  int32_t budget = 2048;
  int32_t layers = 30;  ///< distinct caches, so that decode's do not stay in L3
  bool bf16_bounds = false;
  double min_seconds = 0.3;
};

/// Random K and V of one sequence in every layer, their bounds, and queries.
struct Data {
  Data(const Options& wanted, Stream& stream) : options(wanted) {
    const auto num_pages = static_cast<int32_t>(ceil_div(options.depth, options.cache_page));
    pages.resize(num_pages);
    std::iota(pages.begin(), pages.end(), 0);
    std::mt19937_64 rng(7);
    std::shuffle(pages.begin(), pages.end(), rng);
    std::normal_distribution<float> normal;
    const int64_t width = int64_t{options.num_kv_heads} * options.head_dim;
    q.resize(options.window * width * options.group);
    for (float& x : q) x = normal(rng);
    std::vector<float> rows(options.depth * width);
    for (float& x : rows) x = normal(rng);
    seq = {
        .q_len = 1, .kv_len = options.depth, .threshold_len = options.depth, .pages = pages.data()};
    kernels::AttentionSeq all = seq;
    all.q_len = options.depth;
    page_bytes = 2 * width * options.cache_page;
    format = options.bf16_bounds ? rocket::BoundFormat::kBf16 : rocket::BoundFormat::kE5m2;
    cache.resize(2 * page_bytes * num_pages * options.layers);
    lane.resize(rocket::bounds_bytes(view(0), options.page_size, format) * num_pages *
                options.layers);
    for (int32_t layer = 0; layer < options.layers; ++layer) {
      kernels::kv_store({.k = rows.data(),
                         .v = rows.data(),
                         .k_stride = width,
                         .v_stride = width,
                         .kv = view(layer),
                         .seqs = {&all, 1}},
                        stream);
      rocket::update_bounds(view(layer), {&all, 1}, bounds(layer), stream);
    }
    out.resize(width * options.group);
  }

  KvLayerView view(int32_t layer) {
    const auto num_pages = static_cast<int64_t>(pages.size());
    std::byte* k = cache.data() + 2 * page_bytes * num_pages * layer;
    return {.k = k,
            .v = k + page_bytes * num_pages,
            .page_bytes = page_bytes,
            .dtype = DType::kBF16,
            .page_size = options.cache_page,
            .num_kv_heads = options.num_kv_heads,
            .head_dim = options.head_dim};
  }
  rocket::PageBounds bounds(int32_t layer) {
    const int64_t bytes = rocket::bounds_bytes(view(layer), options.page_size, format);
    return {.data = lane.data() + bytes * std::ssize(pages) * layer,
            .bytes_per_page = bytes,
            .format = format,
            .page_size = options.page_size};
  }
  kernels::PagedAttentionParams attend(int32_t layer) {
    const int64_t width = int64_t{options.num_kv_heads} * options.group * options.head_dim;
    return {.q = q.data(),
            .out = out.data(),
            .q_stride = width,
            .out_stride = width,
            .num_heads = options.num_kv_heads * options.group,
            .kv = view(layer),
            .seqs = {&seq, 1},
            .softmax_scale = 1.0F / std::sqrt(static_cast<float>(options.head_dim))};
  }
  rocket::PageSelectParams select(int32_t layer, int32_t topk) {
    const kernels::PagedAttentionParams dense = attend(layer);
    return {.q = dense.q,
            .q_stride = dense.q_stride,
            .num_heads = dense.num_heads,
            .kv = dense.kv,
            .seqs = dense.seqs,
            .bounds = bounds(layer),
            .topk = topk,
            .num_channels = options.head_dim,
            .softmax_scale = dense.softmax_scale};
  }

  Options options;
  int64_t page_bytes = 0;
  rocket::BoundFormat format = rocket::BoundFormat::kE5m2;
  std::vector<std::byte> cache;
  std::vector<std::byte> lane;
  std::vector<int32_t> pages;
  std::vector<float> q;
  std::vector<float> out;
  kernels::AttentionSeq seq;
};

/// With one thread its own CPU time, so that busy neighbours take less of the result.
double now(const Options& options) {
  timespec time{};
  clock_gettime(options.threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

/// Best seconds of one layer over rounds through all layers.
template <class Body>
double time_layer(const Options& options, Body body) {
  double best = 1e9;
  double total = 0;
  for (int round = 0; round < 3 || total < options.min_seconds; ++round) {
    const double begin = now(options);
    for (int32_t layer = 0; layer < options.layers; ++layer) body(layer);
    const double took = now(options) - begin;
    best = std::min(best, took / options.layers);
    total += took;
  }
  return best;
}

/// With every page selected the result must be dense's, bit for bit.
void check_values(Data& data, Stream& stream) {
  kernels::paged_decode(data.attend(0), stream);
  const std::vector<float> want = data.out;
  const auto all = rocket::select_pages(data.select(0, data.options.depth), stream);
  rocket::attend_pages(data.attend(0), all.view(), data.options.page_size, stream);
  FOVEAL_CHECK(data.out == want, ErrorKind::kInternal, "bench_rocket",
               "got other values than dense with all pages; need the same");
}

void report(std::string_view what, double seconds, double bytes) {
  fmt::print("{:<28} {:>9.1f} us {:>9.2f} MB {:>7.1f} GB/s\n", what, 1e6 * seconds, 1e-6 * bytes,
             1e-9 * bytes / seconds);
}

void run(const Options& options) {
  ThreadPool pool(options.threads);
  Stream stream(Device{}, pool);
  Data data(options, stream);
  check_values(data, stream);
  fmt::print("{} threads, {}; {} KV heads, group {}, head_dim {}, {} keys, pages of {} in {}\n",
             pool.num_threads(), kernels::cpu::isa_name(kernels::cpu::active_isa()),
             options.num_kv_heads, options.group, options.head_dim, options.depth,
             options.page_size, options.cache_page);
  const double kv_bytes = 4.0 * options.num_kv_heads * options.head_dim;
  report("dense decode",
         time_layer(options,
                    [&](int32_t layer) { kernels::paged_decode(data.attend(layer), stream); }),
         kv_bytes * options.depth);
  std::vector<rocket::OwnedSelection> selections(options.layers);
  report("select_pages",
         time_layer(options,
                    [&](int32_t layer) {
                      selections[layer] =
                          rocket::select_pages(data.select(layer, options.topk), stream);
                    }),
         static_cast<double>(data.lane.size()) / options.layers);
  report("attend_pages",
         time_layer(options,
                    [&](int32_t layer) {
                      rocket::attend_pages(data.attend(layer), selections[layer].view(),
                                           options.page_size, stream);
                    }),
         kv_bytes * options.topk * options.page_size);
  report("update_bounds, one token",
         time_layer(options,
                    [&](int32_t layer) {
                      rocket::update_bounds(data.view(layer), {&data.seq, 1}, data.bounds(layer),
                                            stream);
                    }),
         kv_bytes / 2 * options.page_size);
  report("decode step",
         time_layer(
             options,
             [&](int32_t layer) {
               rocket::update_bounds(data.view(layer), {&data.seq, 1}, data.bounds(layer), stream);
               const auto pages = rocket::select_pages(data.select(layer, options.topk), stream);
               rocket::attend_pages(data.attend(layer), pages.view(), options.page_size, stream);
             }),
         static_cast<double>(data.lane.size()) / options.layers +
             kv_bytes * options.topk * options.page_size);
  kernels::AttentionSeq all = data.seq;
  all.q_len = options.depth;
  report("update_bounds, the prompt",
         time_layer(options,
                    [&](int32_t layer) {
                      rocket::update_bounds(data.view(layer), {&all, 1}, data.bounds(layer),
                                            stream);
                    }),
         kv_bytes / 2 * options.depth);
  const int64_t width = data.attend(0).q_stride;
  rocket::WindowRing ring(options.window, width);
  ring.push(data.q.data(), width, options.depth - options.window, options.window);
  report("select_prompt",
         time_layer(options,
                    [&](int32_t layer) {
                      const kernels::PagedAttentionParams dense = data.attend(layer);
                      rocket::select_prompt({.ring = &ring,
                                             .kv = dense.kv,
                                             .pages = data.pages.data(),
                                             .num_heads = dense.num_heads,
                                             .prompt_len = options.depth,
                                             .budget = options.budget,
                                             .kernel_size = 63,
                                             .softmax_scale = dense.softmax_scale},
                                            stream);
                    }),
         kv_bytes / 2 * options.depth);
}

}  // namespace
}  // namespace foveal::bench

int main(int argc, char** argv) {
  foveal::bench::Options options;
  CLI::App app("Times RocketKV's numeric core against dense decode");
  app.add_option("--threads", options.threads);
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
  try {
    foveal::bench::run(options);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
  return 0;
}
