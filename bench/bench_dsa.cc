// Times one layer of DeepSeek Sparse Attention's decode against dense latent attention in the same
// run: choosing the keys (index scores and top-k), then attending to them.
//
//   bench_dsa                                  the golden checkpoints' shape at depth 32,768
//   bench_dsa --heads 128 --index-heads 64 --topk 2048 --depth 131072 --layers 2
//
// Bytes are those that each step must read: index keys, latent rows of the chosen keys, all latent
// rows (dense).

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include "attention/dsa/index_select.h"
#include "base/check.h"
#include "base/math.h"
#include "clock.h"
#include "kernels/cpu/isa.h"
#include "kernels/latent_attention.h"

namespace foveal::bench {
namespace {

namespace dsa = attention::dsa;

struct Options {
  int threads = 0;
  int32_t num_heads = 2;
  int32_t head_dim = 576;
  int32_t value_dim = 512;
  int32_t index_heads = 8;
  int32_t index_dim = 128;
  int32_t topk = 64;
  int32_t page_size = 32;
  int32_t depth = 32768;
  int32_t rows = 1;    ///< of the call: above 1 a prompt's last
  int32_t layers = 8;  ///< distinct caches, so that decode's do not stay in L3
  bool reference = false;
  double min_seconds = 0.3;
};

/// Random latent rows and index keys of one sequence in every layer, and queries.
struct Data {
  Data(const Options& wanted, Stream& stream) : options(wanted) {
    const auto num_pages = static_cast<int32_t>(ceil_div(options.depth, options.page_size));
    pages.resize(num_pages);
    std::iota(pages.begin(), pages.end(), 0);
    std::mt19937_64 rng(7);
    std::shuffle(pages.begin(), pages.end(), rng);
    std::normal_distribution<float> normal;
    const auto fill = [&](std::vector<float>& values, int64_t count) {
      values.resize(static_cast<size_t>(count));
      for (float& x : values) x = normal(rng);
    };
    fill(q, int64_t{options.rows} * options.num_heads * options.head_dim);
    fill(index_q, int64_t{options.rows} * options.index_heads * options.index_dim);
    fill(weights, int64_t{options.rows} * options.index_heads);
    std::vector<float> rows;
    std::vector<float> keys;
    fill(rows, int64_t{options.depth} * options.head_dim);
    fill(keys, int64_t{options.depth} * options.index_dim);
    seq = {.q_len = options.rows, .kv_len = options.depth, .pages = pages.data()};
    kernels::AttentionSeq all = seq;
    all.q_len = options.depth;
    format = options.reference ? dsa::IndexFormat::kF32 : dsa::IndexFormat::kFp8;
    page_bytes = int64_t{2} * options.head_dim * options.page_size;
    index_bytes = dsa::index_page_bytes(options.page_size, options.index_dim, format);
    cache.resize(static_cast<size_t>(page_bytes * num_pages * options.layers));
    lane.resize(static_cast<size_t>(index_bytes * num_pages * options.layers));
    for (int32_t layer = 0; layer < options.layers; ++layer) {
      kernels::latent_store(
          {.rows = rows.data(), .stride = options.head_dim, .kv = view(layer), .seqs = {&all, 1}},
          stream);
      dsa::store_index_keys(keys.data(), options.index_dim, keys_of(layer), {&all, 1}, stream);
    }
    out.resize(static_cast<size_t>(options.rows) * options.num_heads * options.value_dim);
  }

  KvLayerView view(int32_t layer) {
    return {.k = cache.data() + page_bytes * std::ssize(pages) * layer,
            .page_bytes = page_bytes,
            .dtype = DType::kBF16,
            .page_size = options.page_size,
            .num_kv_heads = 1,
            .head_dim = options.head_dim,
            .value_dim = options.value_dim};
  }
  dsa::IndexLane keys_of(int32_t layer) {
    return {.data = lane.data() + index_bytes * std::ssize(pages) * layer,
            .page_size = options.page_size,
            .dim = options.index_dim,
            .format = format};
  }
  attention::IndexInputs index() const {
    return {.q = index_q.data(),
            .weights = weights.data(),
            .q_stride = int64_t{options.index_heads} * options.index_dim,
            .weights_stride = options.index_heads};
  }
  dsa::Settings settings(int32_t topk) const {
    return {.num_heads = options.index_heads,
            .head_dim = options.index_dim,
            .topk = topk,
            .max_chunk = 32768,
            .reference = options.reference,
            .full = {1},
            .owner = {0}};
  }
  void attend(int32_t layer, const kernels::TokenSets* sets, Stream& stream) {
    kernels::latent_attention(
        {.q = q.data(),
         .out = out.data(),
         .q_stride = int64_t{options.num_heads} * options.head_dim,
         .out_stride = int64_t{options.num_heads} * options.value_dim,
         .num_heads = options.num_heads,
         .kv = view(layer),
         .seqs = {&seq, 1},
         .sets = sets,
         .softmax_scale = 1.0F / std::sqrt(static_cast<float>(options.head_dim))},
        stream);
  }

  Options options;
  int64_t page_bytes = 0;
  int64_t index_bytes = 0;
  dsa::IndexFormat format = dsa::IndexFormat::kFp8;
  std::vector<std::byte> cache;
  std::vector<std::byte> lane;
  std::vector<int32_t> pages;
  std::vector<float> q;
  std::vector<float> index_q;
  std::vector<float> weights;
  std::vector<float> out;
  kernels::AttentionSeq seq;
};

/// Seconds of one layer; with one thread its own CPU time.
template <class Body>
double time_layer(const Options& options, const Body& body) {
  return bench::time_layer(options.layers, options.min_seconds,
                           options.threads == 1 ? Clock::kThreadCpu : Clock::kWall, body);
}

/// With every key chosen the result must be dense's, bit for bit.
void check_values(Data& data, Stream& stream) {
  data.attend(0, nullptr, stream);
  const std::vector<float> want = data.out;
  dsa::OwnedSets sets;
  dsa::IndexSelector(data.settings(data.options.depth))
      .select(data.index(), data.keys_of(0), {&data.seq, 1}, stream, sets);
  const kernels::TokenSets view = sets.view();
  data.attend(0, &view, stream);
  FOVEAL_CHECK(data.out == want, ErrorKind::kInternal, "bench_dsa",
               "got other values than dense with all keys; need the same");
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
  fmt::print(
      "{} threads, {}; {} rows, {} heads of {} (values {}), indexer {} x {}, topk {} of {}\n",
      pool.num_threads(), kernels::cpu::isa_name(kernels::cpu::active_isa()), options.rows,
      options.num_heads, options.head_dim, options.value_dim, options.index_heads,
      options.index_dim, options.topk, options.depth);
  const double row_bytes = 2.0 * options.head_dim;
  const double dense =
      time_layer(options, [&](int32_t layer) { data.attend(layer, nullptr, stream); });
  report("dense", dense, row_bytes * options.depth);
  dsa::IndexSelector selector(data.settings(options.topk));
  std::vector<dsa::OwnedSets> sets(static_cast<size_t>(options.layers));
  const double choose = time_layer(options, [&](int32_t layer) {
    selector.select(data.index(), data.keys_of(layer), {&data.seq, 1}, stream,
                    sets[static_cast<size_t>(layer)]);
  });
  report("choose", choose, static_cast<double>(data.lane.size()) / options.layers);
  const double attend = time_layer(options, [&](int32_t layer) {
    const kernels::TokenSets view = sets[static_cast<size_t>(layer)].view();
    data.attend(layer, &view, stream);
  });
  report("attend", attend, row_bytes * options.topk * options.rows);
  fmt::print("dense / (choose + attend)    {:>9.2f}\n", dense / (choose + attend));
}

}  // namespace
}  // namespace foveal::bench

int main(int argc, char** argv) {
  foveal::bench::Options options;
  CLI::App app("Times DeepSeek Sparse Attention's decode against dense latent attention");
  app.add_option("--threads", options.threads, "0: every core; 1: thread CPU time is reported");
  app.add_option("--heads", options.num_heads, "query heads");
  app.add_option("--head-dim", options.head_dim, "channels of a latent row");
  app.add_option("--value-dim", options.value_dim, "channels of them that are the value");
  app.add_option("--index-heads", options.index_heads, "heads of the indexer");
  app.add_option("--index-dim", options.index_dim, "channels of an indexer head");
  app.add_option("--topk", options.topk, "keys a row attends to");
  app.add_option("--page", options.page_size, "tokens of a cache page");
  app.add_option("--depth", options.depth, "keys");
  app.add_option("--rows", options.rows, "rows of the call, the last of the sequence");
  app.add_option("--layers", options.layers, "distinct caches");
  app.add_flag("--reference", options.reference, "float32 index keys");
  CLI11_PARSE(app, argc, argv);
  foveal::bench::run(options);
  return 0;
}
