#include "rocket_cases.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include "attention/rocket/page_attend.h"
#include "attention/rocket/page_select.h"
#include "attention/rocket/prompt_select.h"
#include "base/check.h"
#include "base/math.h"
#include "clock.h"
#include "kernels/cpu/isa.h"

namespace foveal::bench {
namespace {

namespace rocket = attention::rocket;

/// Random K and V of one sequence in every layer, their bounds, and queries.
struct Data {
  Data(const RocketOptions& wanted, Stream& stream) : options(wanted) {
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

  RocketOptions options;
  int64_t page_bytes = 0;
  rocket::BoundFormat format = rocket::BoundFormat::kE5m2;
  std::vector<std::byte> cache;
  std::vector<std::byte> lane;
  std::vector<int32_t> pages;
  std::vector<float> q;
  std::vector<float> out;
  kernels::AttentionSeq seq;
};

/// Seconds of one layer.
template <class Body>
double time_layer(const RocketOptions& options, const Body& body) {
  return bench::time_layer(options.layers, options.min_seconds,
                           options.cpu_time ? Clock::kThreadCpu : Clock::kWall, body);
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

}  // namespace

void time_rocket(const RocketOptions& options, Stream& stream,
                 const std::function<void(std::string_view, double, double)>& done) {
  Data data(options, stream);
  const double kv_bytes = 4.0 * options.num_kv_heads * options.head_dim;
  done("dense decode",
       time_layer(options,
                  [&](int32_t layer) { kernels::paged_decode(data.attend(layer), stream); }),
       kv_bytes * options.depth);
  std::vector<rocket::OwnedSelection> selections(options.layers);
  done("select_pages",
       time_layer(options,
                  [&](int32_t layer) {
                    selections[layer] =
                        rocket::select_pages(data.select(layer, options.topk), stream);
                  }),
       static_cast<double>(data.lane.size()) / options.layers);
  done("attend_pages",
       time_layer(options,
                  [&](int32_t layer) {
                    rocket::attend_pages(data.attend(layer), selections[layer].view(),
                                         options.page_size, stream);
                  }),
       kv_bytes * std::min(options.topk * options.page_size, options.depth));
  done("update_bounds, one token",
       time_layer(options,
                  [&](int32_t layer) {
                    rocket::update_bounds(data.view(layer), {&data.seq, 1}, data.bounds(layer),
                                          stream);
                  }),
       kv_bytes / 2 * options.page_size);
  done("decode step",
       time_layer(
           options,
           [&](int32_t layer) {
             rocket::update_bounds(data.view(layer), {&data.seq, 1}, data.bounds(layer), stream);
             const auto pages = rocket::select_pages(data.select(layer, options.topk), stream);
             rocket::attend_pages(data.attend(layer), pages.view(), options.page_size, stream);
           }),
       static_cast<double>(data.lane.size()) / options.layers +
           kv_bytes * std::min(options.topk * options.page_size, options.depth));
  kernels::AttentionSeq all = data.seq;
  all.q_len = options.depth;
  done("update_bounds, the prompt",
       time_layer(options,
                  [&](int32_t layer) {
                    rocket::update_bounds(data.view(layer), {&all, 1}, data.bounds(layer), stream);
                  }),
       kv_bytes / 2 * options.depth);
  const int64_t width = data.attend(0).q_stride;
  rocket::WindowRing ring(options.window, width);
  ring.push(data.q.data(), width, options.depth - options.window, options.window);
  done("select_prompt",
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
  check_values(data, stream);
}

}  // namespace foveal::bench
