#include "attention_cases.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "base/check.h"
#include "base/math.h"
#include "kernels/cpu/isa.h"
#include "kernels/paged_attention.h"
#include "kernels/reference/attention.h"

namespace foveal::bench {
namespace {

using kernels::AttentionCounters;
using kernels::AttentionPhase;
using kernels::AttentionSeq;
using kernels::PagedAttentionParams;

/// The same random K and V in every layer's pages, and queries for the last rows.
struct Data {
  Data(const AttentionOptions& wanted, int32_t keys, int32_t rows, Stream& stream)
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

  const AttentionOptions& options;
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
  const AttentionOptions& options = data.options;
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

}  // namespace

void time_attention(const AttentionOptions& options, Stream& stream,
                    const std::function<void(const AttentionRow&)>& done) {
  for (const int32_t depth : options.depths) {
    for (const AttentionPhase phase : {AttentionPhase::kPrefill, AttentionPhase::kDecode}) {
      const bool prefill = phase == AttentionPhase::kPrefill;
      if (!(prefill ? options.prefill : options.decode)) continue;
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
        done({.prefill = prefill,
              .kv_len = kv_len,
              .factor = factor,
              .skipped = static_cast<double>(run.counters.tiles_skipped) /
                         static_cast<double>(run.counters.tiles),
              .seconds = run.seconds,
              .work = work,
              .dense_seconds = dense});
      }
    }
  }
}

}  // namespace foveal::bench
