#include "world.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <random>

#include "base/half.h"
#include "base/math.h"

namespace foveal::contract {
namespace {

constexpr int32_t kLayer = 0;
constexpr size_t kSinkTokens = 4;
constexpr float kNotRun = std::numeric_limits<float>::quiet_NaN();

float round_to(DType dtype, float value) {
  if (dtype == DType::kBF16) return bf16_to_float(float_to_bf16(value));
  if (dtype == DType::kF16) return f16_to_float(float_to_f16(value));
  return value;
}

}  // namespace

std::string describe(const Shape& shape) {
  return fmt::format("heads {}/{} dim {} page {} {} window {}{}", shape.num_heads,
                     shape.num_kv_heads, shape.head_dim, shape.page_size, dtype_name(shape.dtype),
                     shape.window, shape.exact ? " exact" : "");
}

std::vector<Shape> shapes() {
  const std::vector<int32_t> edges{1, 15, 16, 17, 31, 32, 33, 130};
  const std::vector<int32_t> longer{300, 1, 545};
  return {{.lens = edges},
          {.lens = longer},
          {.num_heads = 3, .num_kv_heads = 1, .head_dim = 80, .page_size = 32, .lens = {65, 513}},
          {.num_heads = 2, .num_kv_heads = 2, .head_dim = 32, .dtype = DType::kF16, .lens = edges},
          {.num_heads = 8, .num_kv_heads = 1, .dtype = DType::kF32, .exact = true, .lens = longer},
          {.page_size = 64, .window = 40, .lens = {300, 41, 40, 39}},
          {.head_dim = 128, .page_size = 128, .exact = true, .lens = {129, 128, 512}}};
}

World::World(Shape shape, uint32_t seed) : shape_(std::move(shape)) {
  for (const int32_t len : shape_.lens) {
    row_begin_.push_back(num_rows_);
    num_rows_ += len;
  }
  fill(seed);
  assign_pages(seed);
  store();
}

float World::softmax_scale() const { return 1.0F / std::sqrt(static_cast<float>(shape_.head_dim)); }

attention::ModelShape World::model_shape() const {
  return {.num_layers = 1,
          .num_heads = shape_.num_heads,
          .num_kv_heads = shape_.num_kv_heads,
          .head_dim = shape_.head_dim,
          .windows = {shape_.window}};
}

void World::fill(uint32_t seed) {
  const auto dim = static_cast<size_t>(shape_.head_dim);
  const size_t q_row = static_cast<size_t>(shape_.num_heads) * dim;
  const size_t kv_row = static_cast<size_t>(shape_.num_kv_heads) * dim;
  // Channel 0 carries the sink: 8 in the score whatever the head size.
  const float pull = std::sqrt(8.0F / softmax_scale());
  for (size_t seq = 0; seq < shape_.lens.size(); ++seq) {
    // A generator of its own: a sequence is the same whatever its neighbours.
    std::mt19937 rng(seed + static_cast<uint32_t>(seq));
    std::normal_distribution<float> normal(0, 0.5F);
    const auto len = static_cast<size_t>(shape_.lens[seq]);
    for (size_t i = 0; i < len * q_row; ++i) {
      q_.push_back(i % dim == 0 ? pull : normal(rng));
    }
    for (size_t i = 0; i < len * kv_row; ++i) {
      const bool sink = i % dim == 0 && i < kSinkTokens * kv_row;
      k_.push_back(round_to(shape_.dtype, sink ? pull : normal(rng)));
      v_.push_back(round_to(shape_.dtype, normal(rng)));
    }
  }
}

void World::assign_pages(uint32_t seed) {
  int32_t num_pages = 0;
  for (const int32_t len : shape_.lens) {
    num_pages += static_cast<int32_t>(ceil_div(len, shape_.page_size));
  }
  std::vector<int32_t> ids(static_cast<size_t>(num_pages));
  std::iota(ids.begin(), ids.end(), 0);
  std::mt19937 rng(seed);
  std::shuffle(ids.begin(), ids.end(), rng);
  auto next = ids.begin();
  for (const int32_t len : shape_.lens) {
    const auto end = next + ceil_div(len, shape_.page_size);
    pages_.emplace_back(next, end);
    next = end;
  }
}

void World::store() {
  int32_t num_pages = 0;
  for (const auto& pages : pages_) num_pages += static_cast<int32_t>(pages.size());
  const kv::KvGeometry geometry{.num_layers = 1,
                                .num_kv_heads = shape_.num_kv_heads,
                                .head_dim = shape_.head_dim,
                                .dtype = shape_.dtype,
                                .page_size = shape_.page_size};
  storage_ = std::make_unique<kv::KvStorage>(Device{}, geometry, std::span<const kv::LaneSpec>{},
                                             num_pages);
  std::vector<kernels::AttentionSeq> seqs;
  for (size_t seq = 0; seq < shape_.lens.size(); ++seq) {
    seqs.push_back({.q_begin = row_begin_[seq],
                    .q_len = shape_.lens[seq],
                    .kv_len = shape_.lens[seq],
                    .threshold_len = shape_.lens[seq],
                    .pages = pages_[seq].data()});
  }
  ThreadPool pool(1);
  Stream stream(Device{}, pool);
  const int64_t stride = int64_t{shape_.num_kv_heads} * shape_.head_dim;
  kernels::kv_store({.k = k_.data(),
                     .v = v_.data(),
                     .k_stride = stride,
                     .v_stride = stride,
                     .kv = storage_->layer_view(kLayer),
                     .seqs = seqs},
                    stream);
}

void World::step(attention::AttentionStep& step, attention::Phase phase,
                 const std::vector<kernels::AttentionSeq>& seqs, Stream& stream, Result& result) {
  const int64_t q_stride = int64_t{shape_.num_heads} * shape_.head_dim;
  const int64_t kv_stride = int64_t{shape_.num_kv_heads} * shape_.head_dim;
  attention::AttendArgs args{.q = q_.data(),
                             .k = k_.data(),
                             .v = v_.data(),
                             .out = result.out.data(),
                             .q_stride = q_stride,
                             .kv_stride = kv_stride,
                             .out_stride = q_stride,
                             .num_heads = shape_.num_heads,
                             .kv = storage_->layer_view(kLayer),
                             .seqs = seqs,
                             .softmax_scale = softmax_scale(),
                             .window = shape_.window,
                             .exact = shape_.exact};
  const bool prefill = phase == attention::Phase::kPrefill;
  using Seqs = std::span<const kernels::AttentionSeq>;
  step.begin(prefill ? Seqs(seqs) : Seqs(), prefill ? Seqs() : Seqs(seqs));
  step.attend(kLayer, phase, args, stream);
}

Result World::prefill(const attention::AttentionSet& set, const Run& run) {
  ThreadPool pool(run.threads);
  Stream stream(Device{}, pool);
  attention::AttentionStep attention_step(set, model_shape(), {.verify = true});
  Result result{.out = std::vector<float>(q_.size(), kNotRun),
                .counters = std::vector<kernels::AttentionCounters>(shape_.lens.size())};
  const auto chunk = static_cast<int32_t>(round_up(run.chunk, set.prefill_chunk_multiple()));
  const int32_t longest = *std::max_element(shape_.lens.begin(), shape_.lens.end());
  for (int32_t begin = 0; begin < longest; begin += chunk) {
    std::vector<kernels::AttentionSeq> seqs;
    std::vector<size_t> owners;
    for (size_t seq = 0; seq < shape_.lens.size(); ++seq) {
      const int32_t end = std::min(begin + chunk, shape_.lens[seq]);
      if (end <= begin) continue;
      owners.push_back(seq);
      seqs.push_back({.q_begin = row_begin_[seq] + begin,
                      .q_len = end - begin,
                      .kv_len = end,
                      .threshold_len = shape_.lens[seq],
                      .pages = pages_[seq].data()});
    }
    step(attention_step, attention::Phase::kPrefill, seqs, stream, result);
    const auto counters = attention_step.counters(kLayer, attention::Phase::kPrefill);
    for (size_t i = 0; i < owners.size(); ++i) result.counters[owners[i]].add(counters[i]);
  }
  return result;
}

Result World::decode(const attention::AttentionSet& set, const Run& run) {
  ThreadPool pool(run.threads);
  Stream stream(Device{}, pool);
  attention::AttentionStep attention_step(set, model_shape(), {.verify = true});
  Result result{.out = std::vector<float>(q_.size(), kNotRun),
                .counters = std::vector<kernels::AttentionCounters>(shape_.lens.size())};
  for (int32_t token = 0; token < kDecodeTokens; ++token) {
    std::vector<kernels::AttentionSeq> seqs;
    std::vector<size_t> owners;
    for (size_t seq = 0; seq < shape_.lens.size(); ++seq) {
      const int32_t kv_len = shape_.lens[seq] - token;
      if (kv_len < 1) continue;
      owners.push_back(seq);
      seqs.push_back({.q_begin = row_begin_[seq] + kv_len - 1,
                      .q_len = 1,
                      .kv_len = kv_len,
                      .threshold_len = kv_len,
                      .pages = pages_[seq].data()});
    }
    step(attention_step, attention::Phase::kDecode, seqs, stream, result);
    const auto counters = attention_step.counters(kLayer, attention::Phase::kDecode);
    for (size_t i = 0; i < owners.size(); ++i) result.counters[owners[i]].add(counters[i]);
  }
  return result;
}

std::unique_ptr<attention::AttentionSet> make_set(const attention::MethodExample& example,
                                                  const World& world) {
  std::vector<SparseAttentionConfig> configs;
  if (example.config) configs.push_back(*example.config);
  return attention::make_attention(configs, world.model_shape(), {}, Device{});
}

std::unique_ptr<attention::AttentionSet> dense_set(const World& world) {
  return attention::make_attention({}, world.model_shape(), {}, Device{});
}

std::vector<NamedExample> all_examples() {
  std::vector<NamedExample> examples;
  for (const attention::MethodRow& row : attention::method_rows()) {
    for (const attention::MethodExample& example : row.examples()) {
      examples.push_back({std::string(row.name), example});
    }
  }
  return examples;
}

std::vector<NamedExample> examples_where(bool equals_dense) {
  std::vector<NamedExample> examples = all_examples();
  std::erase_if(examples, [&](const NamedExample& named) {
    return named.example.equals_dense != equals_dense;
  });
  return examples;
}

std::string test_name(const NamedExample& example) {
  return example.method + "_" + example.example.name;
}

uint32_t fresh_seed() {
  const char* fixed = std::getenv("FOVEAL_TEST_SEED");
  return fixed != nullptr ? static_cast<uint32_t>(std::strtoul(fixed, nullptr, 10))
                          : std::random_device{}();
}

}  // namespace foveal::contract
