#include "kernels/cuda/decode_testing.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>
#include <random>
#include <stdexcept>
#include <thread>

#include "base/half.h"
#include "kernels/cuda/decode_choose.h"
#include "kernels/cuda/dense_cuda_testing.h"

namespace foveal::kernels::cuda::testing {

namespace {

void check(cudaError_t status) {
  if (status != cudaSuccess) throw std::runtime_error(cudaGetErrorString(status));
}

uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}
/// Roughly normal: the sum of four uniform numbers, from one hash.
float normal(uint64_t x) {
  const uint64_t h = mix(x);
  const auto sum =
      static_cast<float>((h & 0xffff) + (h >> 16 & 0xffff) + (h >> 32 & 0xffff) + (h >> 48));
  return (sum / 65535.0F - 2.0F) * 1.7320508F;
}

size_t size_of(int32_t dtype) { return dtype == FOVEAL_E4M3 ? 1 : 2; }
void put(std::vector<uint8_t>& data, size_t index, int32_t dtype, float x) {
  if (dtype == FOVEAL_E4M3) {
    data[index] = float_to_e4m3(x);
    return;
  }
  const uint16_t bits = dtype == FOVEAL_BF16 ? float_to_bf16(x) : float_to_f16(x);
  std::memcpy(&data[index * 2], &bits, 2);
}
float get(const std::vector<uint8_t>& data, size_t index, int32_t dtype) {
  if (dtype == FOVEAL_E4M3) return e4m3_to_float(data[index]);
  uint16_t bits = 0;
  std::memcpy(&bits, &data[index * 2], 2);
  return dtype == FOVEAL_BF16 ? bf16_to_float(bits) : f16_to_float(bits);
}

void parallel(int32_t count, const std::function<void(int32_t)>& body) {
  std::atomic<int32_t> next{0};
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < std::max(1U, std::thread::hardware_concurrency()); ++i) {
    threads.emplace_back([&] {
      for (int32_t item = next++; item < count; item = next++) body(item);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

void* DecodeFixture::to_device(const void* data, size_t bytes) {
  void* pointer = nullptr;
  check(cudaMalloc(&pointer, std::max<size_t>(bytes, 256)));
  owned_.push_back(pointer);
  if (data != nullptr && bytes > 0) check(cudaMemcpy(pointer, data, bytes, cudaMemcpyHostToDevice));
  if (data == nullptr) check(cudaMemset(pointer, 0, std::max<size_t>(bytes, 256)));
  return pointer;
}

DecodeFixture::DecodeFixture(const DecodeCase& given) : what(given) {
  lay_out_pages();
  set_strides();
  fill_queries();
  fill_cache();
  upload();
}

/// Shuffled pages, three more than needed.
void DecodeFixture::lay_out_pages() {
  const int32_t longest = *std::max_element(what.lengths.begin(), what.lengths.end());
  const int32_t page = page_rows();
  stride_ = (longest + what.slack_len + page - 1) / page + 1;
  int32_t rows = 0;
  for (const int32_t length : what.lengths) {
    starts_.push_back(rows);
    rows += (length + page - 1) / page;
  }
  starts_.push_back(rows);
  params_.num_pages = rows + 3;
  params_.max_kv_len = longest + what.slack_len;
  std::vector<int32_t> order(static_cast<size_t>(params_.num_pages));
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), std::mt19937_64(what.seed));
  // Entries past a sequence's pages are never to be followed.
  table_.assign(what.lengths.size() * static_cast<size_t>(stride_), 0x7fffffff);
  for (size_t s = 0; s < what.lengths.size(); ++s) {
    for (int32_t i = 0; i < (what.lengths[s] + page - 1) / page; ++i) {
      table_[s * static_cast<size_t>(stride_) + i] =
          order[static_cast<size_t>(starts_[s]) + static_cast<size_t>(i)];
    }
  }
}

void DecodeFixture::set_strides() {
  const int32_t d = what.head_dim;
  const bool by_token = what.token_major || what.page_size == 0;
  const int64_t token = by_token ? int64_t{what.kv_heads} * d : d;
  const int64_t head = by_token ? d : int64_t{page_rows()} * d;
  params_.k_page_stride = params_.v_page_stride = int64_t{what.kv_heads} * page_rows() * d;
  params_.k_head_stride = params_.v_head_stride = head;
  params_.k_token_stride = params_.v_token_stride = token;
  params_.num_heads = what.kv_heads * what.group;
  params_.q_row_stride = params_.out_row_stride = int64_t{params_.num_heads} * d;
  params_.q_head_stride = params_.out_head_stride = d;
}

void DecodeFixture::fill_queries() {
  const auto d = static_cast<size_t>(what.head_dim);
  const size_t lines = what.lengths.size() * static_cast<size_t>(params_.num_heads);
  q_.assign(lines * d * size_of(what.q_dtype), 0);
  parallel(static_cast<int32_t>(lines), [&](int32_t line) {
    for (size_t c = 0; c < d; ++c) {
      const size_t index = static_cast<size_t>(line) * d + c;
      put(q_, index, what.q_dtype, what.q_spread * normal(mix(what.seed) + index));
    }
  });
}

/// Element of K or V; both are laid out alike.
size_t DecodeFixture::element(int32_t seq, int32_t head, int32_t position, int32_t channel) const {
  const auto s = static_cast<size_t>(seq);
  const int64_t row = what.page_size > 0
                          ? table_[s * static_cast<size_t>(stride_) + position / what.page_size] *
                                    params_.k_page_stride +
                                position % what.page_size * params_.k_token_stride
                          : (int64_t{starts_[s]} + position) * params_.k_token_stride;
  return static_cast<size_t>(row + head * params_.k_head_stride + channel);
}

void DecodeFixture::fill_cache() {
  const auto rows = static_cast<size_t>(params_.num_pages) * static_cast<size_t>(page_rows());
  const size_t bytes = rows * static_cast<size_t>(what.kv_heads) *
                       static_cast<size_t>(what.head_dim) * size_of(what.kv_dtype);
  // Rows that no sequence owns are NaN: they must not be read into any sum.
  k_.assign(bytes, 0xff);
  v_.assign(bytes, 0xff);
  const auto items = static_cast<int32_t>(what.lengths.size()) * what.kv_heads;
  parallel(items, [&](int32_t item) { fill_row(item / what.kv_heads, item % what.kv_heads); });
}

void DecodeFixture::fill_row(int32_t seq, int32_t head) {
  const uint64_t item = uint64_t(seq) * uint64_t(what.kv_heads) + uint64_t(head);
  // A component along the query heads' sum moves a whole tile's scores.
  std::vector<float> along(static_cast<size_t>(what.head_dim), 0);
  for (int32_t g = 0; g < what.group; ++g) {
    const size_t line =
        size_t(seq) * size_t(params_.num_heads) + size_t(head) * size_t(what.group) + size_t(g);
    for (size_t c = 0; c < along.size(); ++c) {
      along[c] += get(q_, line * along.size() + c, what.q_dtype) / what.q_spread;
    }
  }
  for (int32_t i = 0; i < what.lengths[static_cast<size_t>(seq)]; ++i) {
    const uint64_t key = static_cast<uint64_t>(i);
    const uint64_t seed = mix(what.seed + 77) + (item << 40) + key * 512;
    const float pull = what.tile_spread * normal(mix(what.seed + 5) + item * 100003 + key / 64);
    for (int32_t c = 0; c < what.head_dim; ++c) {
      const size_t at = element(seq, head, i, c);
      const auto channel = static_cast<uint64_t>(c);
      put(k_, at, what.kv_dtype, normal(seed + channel) + pull * along[channel]);
      put(v_, at, what.kv_dtype, normal(seed + 256 + channel));
    }
  }
}

void DecodeFixture::upload() {
  const size_t seqs = what.lengths.size();
  const size_t lines = seqs * static_cast<size_t>(params_.num_heads);
  params_.struct_size = sizeof(params_);
  params_.q_dtype = what.q_dtype;
  params_.kv_dtype = what.kv_dtype;
  params_.num_seqs = params_.num_rows = static_cast<int32_t>(seqs);
  params_.num_kv_heads = what.kv_heads;
  params_.head_dim = what.head_dim;
  params_.page_size = what.page_size;
  params_.max_q_len = 1;
  params_.q = to_device(q_.data(), q_.size());
  params_.out = to_device(nullptr, lines * static_cast<size_t>(what.head_dim) * 2);
  params_.lse = static_cast<float*>(to_device(nullptr, lines * 4));
  params_.k = to_device(k_.data(), k_.size());
  params_.v = to_device(v_.data(), v_.size());
  params_.kv_len = static_cast<int32_t*>(to_device(what.lengths.data(), seqs * 4));
  if (what.page_size > 0) {
    params_.page_table = static_cast<int32_t*>(to_device(table_.data(), table_.size() * 4));
    params_.page_table_stride = stride_;
  } else {
    params_.cu_k = static_cast<int32_t*>(to_device(starts_.data(), starts_.size() * 4));
  }
  params_.softmax_scale = 1.0F / std::sqrt(static_cast<float>(what.head_dim));
  params_.window = what.window;
  params_.q_scale = 1;
  params_.k_scale = what.k_scale;
  params_.v_scale = what.v_scale;
  params_.skip_factor = what.skip_factor;
  params_.counters = static_cast<uint64_t*>(to_device(nullptr, seqs * 32));
  params_.flags = what.flags;
  params_.split_keys = what.split_keys;
  params_.workspace_bytes = foveal_attention_decode_workspace(&params_);
  params_.workspace = to_device(nullptr, params_.workspace_bytes);
}

DecodeFixture::~DecodeFixture() {
  for (void* pointer : owned_) cudaFree(pointer);
}

DecodeOutput DecodeFixture::run() {
  const size_t lines = static_cast<size_t>(params_.num_seqs) * params_.num_heads;
  const size_t elements = lines * params_.head_dim;
  check(cudaMemset(params_.out, 0xff, elements * 2));
  check(cudaMemset(params_.lse, 0xff, lines * 4));
  check(cudaMemset(params_.counters, 0, static_cast<size_t>(params_.num_seqs) * 32));
  char message[512];
  if (foveal_attention_decode(&params_, nullptr, message, sizeof(message)) != FOVEAL_OK) {
    throw std::runtime_error(message);
  }
  check(cudaDeviceSynchronize());
  DecodeOutput output;
  output.bits.resize(elements);
  output.lse.resize(lines);
  output.counters.resize(static_cast<size_t>(params_.num_seqs) * 4);
  check(cudaMemcpy(output.bits.data(), params_.out, elements * 2, cudaMemcpyDeviceToHost));
  check(cudaMemcpy(output.lse.data(), params_.lse, lines * 4, cudaMemcpyDeviceToHost));
  check(cudaMemcpy(output.counters.data(), params_.counters, output.counters.size() * 8,
                   cudaMemcpyDeviceToHost));
  for (const uint16_t bits : output.bits) {
    output.out.push_back(what.q_dtype == FOVEAL_F16 ? f16_to_float(bits) : bf16_to_float(bits));
  }
  return output;
}

double DecodeFixture::value(bool key, int32_t seq, int32_t head, int32_t position,
                            int32_t channel) const {
  const double scale = what.kv_dtype == FOVEAL_E4M3 ? (key ? what.k_scale : what.v_scale) : 1;
  return get(key ? k_ : v_, element(seq, head, position, channel), what.kv_dtype) * scale;
}

/// One KV head of one sequence: what its query heads see.
struct DecodeFixture::Row {
  int32_t seq = 0;
  int32_t head = 0;  ///< KV head times the passes
  int32_t kv_head = 0;
  int32_t group = 0;                        ///< query heads
  int32_t first = 0;                        ///< visible key
  std::vector<std::vector<double>> scores;  ///< [group][kv_len], -inf where not seen
  std::vector<double> norm;                 ///< [group]
  std::vector<bool> used;                   ///< [kv_len]
  uint64_t tiles = 0, skipped = 0;
  double margin = 1e9;
};

void DecodeFixture::score_row(Row& row) const {
  const int32_t d = what.head_dim;
  const int32_t length = what.lengths[row.seq];
  row.first = what.window > 0 ? std::max(0, length - what.window) : 0;
  row.used.assign(static_cast<size_t>(length), true);
  for (int32_t h = 0; h < row.group; ++h) {
    const size_t line = static_cast<size_t>(row.seq) * params_.num_heads + row.head * row.group + h;
    std::vector<double> scores(static_cast<size_t>(length),
                               -std::numeric_limits<double>::infinity());
    double norm = 0;
    for (int32_t i = row.first; i < length; ++i) {
      double sum = 0;
      double size = 0;
      for (int32_t c = 0; c < d; ++c) {
        const double product =
            get(q_, line * d + c, what.q_dtype) * value(true, row.seq, row.kv_head, i, c);
        sum += product;
        size += std::fabs(product);
      }
      scores[i] = sum * params_.softmax_scale;
      norm = std::max(norm, size * params_.softmax_scale);
    }
    row.scores.push_back(std::move(scores));
    row.norm.push_back(norm);
  }
}

/// Where the splits of a row begin, by the arithmetic of decode_plan.h.
std::vector<int32_t> DecodeFixture::split_keys_of(int32_t seq, int32_t head) const {
  int device = 0;
  int processors = 0;
  check(cudaGetDevice(&device));
  check(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device));
  const DecodeChoice choice = decode_choose(params_, processors);
  const Divider units = Divider::of(static_cast<uint32_t>(choice.chunk_units));
  const auto heads = static_cast<uint32_t>(what.kv_heads * choice.passes);
  uint32_t before = 0;
  uint32_t total = 0;
  for (int32_t s = 0; s < params_.num_seqs; ++s) {
    const uint32_t chunks = decode_span(what.lengths[s], what.window, units).chunks;
    if (s < seq) before += chunks * heads;
    total += chunks * heads;
  }
  const DecodeSpan span = decode_span(what.lengths[seq], what.window, units);
  const DecodeDeal deal =
      decode_deal(total, choice.min_chunks_log2, static_cast<uint32_t>(choice.grid));
  const uint32_t start = before + static_cast<uint32_t>(head) * span.chunks;
  std::vector<int32_t> keys;
  for (uint32_t chunk = 0; chunk < span.chunks; ++chunk) {
    const bool begins = chunk == 0 || choice.max_splits > 0 ||
                        deal.run(start + chunk) != deal.run(start + chunk - 1);
    const auto unit = span.first_unit + static_cast<int32_t>(chunk * units.divisor);
    if (begins) keys.push_back(unit * kDecodeUnit);
  }
  return keys;
}

void DecodeFixture::vote_row(Row& row) const {
  const int32_t length = what.lengths[row.seq];
  std::vector<int32_t> splits = split_keys_of(row.seq, row.head);
  splits.push_back((length + kDecodeVoteKeys - 1) / kDecodeVoteKeys * kDecodeVoteKeys);
  const double factor = what.skip_factor;
  const double threshold = factor > 0 && factor < length ? std::log(factor / length) : -1e300;
  for (size_t split = 0; split + 1 < splits.size(); ++split) {
    std::vector<double> running(static_cast<size_t>(what.group),
                                -std::numeric_limits<double>::infinity());
    bool first = true;
    for (int32_t tile = splits[split]; tile < splits[split + 1]; tile += kDecodeVoteKeys) {
      const int32_t begin = std::max(tile, row.first);
      const int32_t end = std::min(tile + kDecodeVoteKeys, length);
      if (begin >= end) continue;
      ++row.tiles;
      std::vector<double> largest;
      double above = -std::numeric_limits<double>::infinity();  // the head that objects most
      for (int32_t h = 0; h < row.group; ++h) {
        largest.push_back(
            *std::max_element(row.scores[h].begin() + begin, row.scores[h].begin() + end));
        above = std::max(above, largest[h] - running[h] - threshold);
      }
      if (!first) row.margin = std::min(row.margin, std::fabs(above));
      if (!first && above < 0) {
        ++row.skipped;
        std::fill(row.used.begin() + begin, row.used.begin() + end, false);
        continue;
      }
      first = false;
      for (int32_t h = 0; h < row.group; ++h) running[h] = std::max(running[h], largest[h]);
    }
  }
}

void DecodeFixture::truth_of(DecodeTruth& truth, Row& row) const {
  const int32_t d = what.head_dim;
  const int32_t length = what.lengths[row.seq];
  score_row(row);
  vote_row(row);
  for (int32_t h = 0; h < row.group; ++h) {
    const std::vector<double>& scores = row.scores[h];
    const size_t line = static_cast<size_t>(row.seq) * params_.num_heads + row.head * row.group + h;
    double max = -std::numeric_limits<double>::infinity();
    double total = 0;
    for (int32_t i = row.first; i < length; ++i) {
      if (row.used[i]) max = std::max(max, scores[i]);
    }
    for (int32_t i = row.first; i < length; ++i) {
      if (row.used[i]) total += std::exp(scores[i] - max);
    }
    for (int32_t i = row.first; i < length; ++i) {
      if (!row.used[i]) continue;
      const double weight = std::exp(scores[i] - max) / total;
      for (int32_t c = 0; c < d; ++c) {
        const double v = value(false, row.seq, row.kv_head, i, c);
        truth.out[line * d + c] += weight * v;
        truth.magnitude[line * d + c] += weight * std::fabs(v);
      }
    }
    truth.lse[line] = total > 0 ? max + std::log(total) : -std::numeric_limits<double>::infinity();
    truth.score_norm[line] = row.norm[h];
  }
}

DecodeTruth DecodeFixture::truth() const {
  const size_t lines = static_cast<size_t>(params_.num_seqs) * params_.num_heads;
  DecodeTruth truth;
  truth.out.assign(lines * what.head_dim, 0);
  truth.magnitude.assign(lines * what.head_dim, 0);
  truth.lse.assign(lines, 0);
  truth.score_norm.assign(lines, 0);
  truth.counters.assign(static_cast<size_t>(params_.num_seqs) * 4, 0);
  const int32_t passes = decode_passes(what.group, what.head_dim);
  const int32_t heads = what.kv_heads * passes;
  std::vector<Row> rows(static_cast<size_t>(params_.num_seqs) * heads);
  parallel(static_cast<int32_t>(rows.size()), [&](int32_t item) {
    rows[item].seq = item / heads;
    rows[item].head = item % heads;
    rows[item].kv_head = rows[item].head / passes;
    rows[item].group = what.group / passes;
    truth_of(truth, rows[item]);
    rows[item].scores.clear();
  });
  for (const Row& row : rows) {
    uint64_t* counters = &truth.counters[static_cast<size_t>(row.seq) * 4];
    const auto group = static_cast<uint64_t>(row.group);
    counters[0] += group * (row.used.size() - static_cast<size_t>(row.first));
    counters[1] += group * static_cast<uint64_t>(
                               std::count(row.used.begin() + row.first, row.used.end(), true));
    counters[2] += row.tiles;
    counters[3] += row.skipped;
    truth.margin = std::min(truth.margin, row.margin);
  }
  return truth;
}

double DecodeFixture::tolerance(const DecodeTruth& truth, size_t i) const {
  const double roundoff = what.q_dtype == FOVEAL_F16 ? std::ldexp(1, -11) : std::ldexp(1, -8);
  const double weight_roundoff =
      what.kv_dtype == FOVEAL_BF16 ? std::ldexp(1, -8) : std::ldexp(1, -11);
  // Scores: float32 sums of head_dim products and ex2.approx; an error e of a score moves weights
  // by e.
  const double score_error =
      truth.score_norm[i / what.head_dim] * std::ldexp(1, -21) + std::ldexp(1, -20);
  // Weights below 2^-24 of the reference are lost in f16: at most one such quantum a key.
  const double lost = what.kv_dtype == FOVEAL_BF16 ? 0 : std::ldexp(1, -17);
  return roundoff * std::fabs(truth.out[i]) +
         truth.magnitude[i] * (weight_roundoff + 2 * score_error + lost) + std::ldexp(1, -24);
}

std::string differences(const DecodeFixture& fixture, const DecodeOutput& got) {
  const DecodeTruth truth = fixture.truth();
  std::string text;
  int found = 0;
  double worst = 0;
  for (size_t i = 0; i < truth.out.size(); ++i) {
    const double error = std::fabs(got.out[i] - truth.out[i]);
    const double allowed = fixture.tolerance(truth, i);
    worst = std::max(worst, error / allowed);
    if (error <= allowed) continue;
    if (found++ < 4) {
      text += fmt::format("out[{}] (row {} head {} channel {}) got {} want {} +- {}\n", i,
                          i / fixture.what.head_dim / fixture.params().num_heads,
                          i / fixture.what.head_dim % fixture.params().num_heads,
                          i % fixture.what.head_dim, got.out[i], truth.out[i], allowed);
    }
  }
  for (size_t line = 0; line < truth.lse.size(); ++line) {
    const double want = truth.lse[line];
    const double allowed = truth.score_norm[line] * std::ldexp(1, -20) + 1e-5;
    if (std::isinf(want) ? got.lse[line] == want : std::fabs(got.lse[line] - want) <= allowed)
      continue;
    if (found++ < 8)
      text += fmt::format("lse[{}] got {} want {} +- {}\n", line, got.lse[line], want, allowed);
  }
  if (got.counters != truth.counters) {
    text += "counters differ\n";
    ++found;
  }
  if (truth.margin < 1e-5)
    text += fmt::format("a vote lies {} from its threshold: choose another seed\n", truth.margin);
  if (found > 0)
    text += fmt::format("{} differences in all, the worst {} times the tolerance\n", found, worst);
  return text;
}

}  // namespace foveal::kernels::cuda::testing
