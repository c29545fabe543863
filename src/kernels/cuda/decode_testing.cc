#include "kernels/cuda/decode_testing.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <stdexcept>
#include <thread>

#include "base/half.h"
#include "kernels/cuda/call_entry.h"
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

}  // namespace

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
  call_entry(foveal_attention_decode, params_, nullptr);
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

bool DecodeFixture::workspace_is_zero() const {
  std::vector<uint8_t> bytes(params_.workspace_bytes);
  check(cudaMemcpy(bytes.data(), params_.workspace, bytes.size(), cudaMemcpyDeviceToHost));
  return std::all_of(bytes.begin(), bytes.end(), [](uint8_t byte) { return byte == 0; });
}

double DecodeFixture::value(bool key, int32_t seq, int32_t head, int32_t position,
                            int32_t channel) const {
  const double scale = what.kv_dtype == FOVEAL_E4M3 ? (key ? what.k_scale : what.v_scale) : 1;
  return get(key ? k_ : v_, element(seq, head, position, channel), what.kv_dtype) * scale;
}

double DecodeFixture::query(size_t index) const { return get(q_, index, what.q_dtype); }

int32_t DecodeFixture::processors() {
  int device = 0;
  int count = 0;
  check(cudaGetDevice(&device));
  check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device));
  return count;
}

}  // namespace foveal::kernels::cuda::testing
