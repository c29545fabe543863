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
#include "foveal/error.h"
#include "kernels/latent_attention.h"

namespace foveal::contract {
namespace {

constexpr int32_t kLayer = 0;
constexpr size_t kSinkTokens = 4;
constexpr float kNotRun = std::numeric_limits<float>::quiet_NaN();
constexpr int32_t kIndexHeads = 8;
constexpr int32_t kIndexDim = 32;

float round_to(DType dtype, float value) {
  if (dtype == DType::kBF16) return bf16_to_float(float_to_bf16(value));
  if (dtype == DType::kF16) return f16_to_float(float_to_f16(value));
  return value;
}

}  // namespace

std::string describe(const Shape& shape) {
  return fmt::format("heads {}/{} dim {} page {} {} window {}{}{}", shape.num_heads,
                     shape.num_kv_heads, shape.head_dim, shape.page_size, dtype_name(shape.dtype),
                     shape.window, shape.exact ? " exact" : "",
                     shape.value_dim > 0 ? " latent" : "");
}

namespace {

std::vector<Shape> all_shapes() {
  const std::vector<int32_t> edges{1, 15, 16, 17, 31, 32, 33, 130};
  const std::vector<int32_t> longer{300, 1, 545};
  return {{.lens = edges},
          {.lens = longer},
          {.num_heads = 3, .num_kv_heads = 1, .head_dim = 80, .page_size = 32, .lens = {65, 513}},
          {.num_heads = 2, .num_kv_heads = 2, .head_dim = 32, .dtype = DType::kF16, .lens = edges},
          {.num_heads = 8, .num_kv_heads = 1, .dtype = DType::kF32, .exact = true, .lens = longer},
          {.page_size = 64, .window = 40, .lens = {300, 41, 40, 39}},
          {.head_dim = 128, .page_size = 128, .exact = true, .lens = {129, 128, 512}},
          {.num_kv_heads = 1, .head_dim = 80, .value_dim = 64, .lens = edges},
          {.num_heads = 17,
           .num_kv_heads = 1,
           .head_dim = 54,
           .page_size = 64,
           .dtype = DType::kF16,
           .value_dim = 38,
           .lens = longer},
          {.num_heads = 1,
           .num_kv_heads = 1,
           .head_dim = 80,
           .dtype = DType::kF32,
           .exact = true,
           .value_dim = 64,
           .lens = {130, 257}}};
}

/// What a method that this example asks for can do.
attention::Capabilities capabilities_of(const NamedExample& example, bool latent) {
  const World world(latent ? Shape{.num_kv_heads = 1, .head_dim = 80, .value_dim = 64, .lens = {1}}
                           : Shape{.lens = {1}},
                    0);
  const attention::MethodContext context{world.model_shape(), {}, Device{}};
  return attention::find_method(example.method)
      .make(example.example.config.get(), context)
      ->capabilities();
}

template <class T>
bool is_in(const std::vector<T>& list, const T& value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

bool serves(const NamedExample& example, const Shape& shape) {
  const bool latent = shape.value_dim > 0;
  // What serves one kind alone may refuse to be made for the other.
  try {
    const attention::Capabilities has = capabilities_of(example, latent);
    const bool any_dim = latent || has.head_dims.empty();
    return (latent ? has.latent : has.per_head) && (has.sliding_window || shape.window == 0) &&
           is_in(has.kv_dtypes, shape.dtype) && (any_dim || is_in(has.head_dims, shape.head_dim));
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kUnsupported) throw;
    return false;
  }
}

}  // namespace

std::vector<Shape> shapes(const NamedExample& example) { return served(example, all_shapes()); }

std::vector<Shape> served(const NamedExample& example, const std::vector<Shape>& shapes) {
  std::vector<Shape> out;
  for (const Shape& shape : shapes) {
    if (serves(example, shape)) out.push_back(shape);
  }
  return out;
}

Shape plain_shape(const NamedExample& example, std::vector<int32_t> lens) {
  if (serves(example, {})) return {.lens = std::move(lens)};
  return {.num_kv_heads = 1, .head_dim = 80, .value_dim = 64, .lens = std::move(lens)};
}

World::World(Shape shape, uint32_t seed) : shape_(std::move(shape)), seed_(seed) {
  for (const int32_t len : shape_.lens) {
    row_begin_.push_back(num_rows_);
    num_rows_ += len;
  }
  fill(seed);
}

float World::softmax_scale() const { return 1.0F / std::sqrt(static_cast<float>(shape_.head_dim)); }

attention::ModelShape World::model_shape() const {
  return {.num_layers = 1,
          .num_heads = shape_.num_heads,
          .num_kv_heads = shape_.num_kv_heads,
          .head_dim = shape_.head_dim,
          .value_dim = shape_.value_dim,
          .windows = {shape_.window},
          .indexer =
              shape_.value_dim == 0
                  ? std::optional<attention::IndexerShape>{}
                  : attention::IndexerShape{
                        .num_heads = kIndexHeads, .head_dim = kIndexDim, .topk = 16, .full = {1}}};
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
    for (size_t i = 0; i < len * kIndexHeads * kIndexDim; ++i) index_q_.push_back(normal(rng));
    for (size_t i = 0; i < len * kIndexDim; ++i) index_k_.push_back(normal(rng));
    for (size_t i = 0; i < len * kIndexHeads; ++i) index_weights_.push_back(normal(rng));
  }
}

World::Cache World::make_cache(const attention::AttentionSet& set) const {
  // Twice what the sequences need: what a method keeps may lie elsewhere than what it was read to.
  int32_t num_pages = 0;
  for (const int32_t len : shape_.lens) {
    num_pages += static_cast<int32_t>(2 * ceil_div(len, shape_.page_size));
  }
  const kv::KvGeometry geometry{.num_layers = 1,
                                .num_kv_heads = shape_.num_kv_heads,
                                .head_dim = shape_.head_dim,
                                .value_dim = shape_.value_dim,
                                .dtype = shape_.dtype,
                                .page_size = shape_.page_size};
  Cache cache{.storage = kv::KvStorage(Device{}, geometry, set.lanes(geometry), num_pages),
              .pages = {},
              .states = {},
              .evicted = std::vector<int32_t>(shape_.lens.size())};
  std::vector<int32_t> ids(static_cast<size_t>(num_pages));
  std::iota(ids.begin(), ids.end(), 0);
  std::mt19937 rng(seed_);
  std::shuffle(ids.begin(), ids.end(), rng);
  auto next = ids.begin();
  for (const int32_t len : shape_.lens) {
    const auto end = next + 2 * ceil_div(len, shape_.page_size);
    cache.pages.emplace_back(next, end);
    cache.states.push_back(set.make_state());
    next = end;
  }
  return cache;
}

void World::store(Cache& cache, const std::vector<kernels::AttentionSeq>& seqs,
                  Stream& stream) const {
  const int64_t stride = int64_t{shape_.num_kv_heads} * shape_.head_dim;
  if (shape_.value_dim > 0) {
    kernels::latent_store(
        {.rows = k_.data(), .stride = stride, .kv = cache.storage.layer_view(kLayer), .seqs = seqs},
        stream);
    return;
  }
  kernels::kv_store({.k = k_.data(),
                     .v = v_.data(),
                     .k_stride = stride,
                     .v_stride = stride,
                     .kv = cache.storage.layer_view(kLayer),
                     .seqs = seqs},
                    stream);
}

attention::AttendArgs World::args_of(const KvLayerView& kv, std::vector<float>& out) const {
  const int64_t heads = shape_.num_heads;
  return {.q = q_.data(),
          .k = k_.data(),
          .v = shape_.value_dim > 0 ? nullptr : v_.data(),
          .out = out.data(),
          .q_stride = heads * shape_.head_dim,
          .kv_stride = int64_t{shape_.num_kv_heads} * shape_.head_dim,
          .out_stride = heads * shape_.out_dim(),
          .num_heads = shape_.num_heads,
          .kv = kv,
          .softmax_scale = softmax_scale(),
          .window = shape_.window,
          .exact = shape_.exact};
}

std::vector<float> World::no_outputs() const {
  return std::vector<float>(
      static_cast<size_t>(num_rows_) * static_cast<size_t>(shape_.num_heads * shape_.out_dim()),
      kNotRun);
}

void World::step(attention::AttentionStep& step, attention::Phase phase,
                 const std::vector<size_t>& owners, const std::vector<kernels::AttentionSeq>& seqs,
                 Cache& cache, Stream& stream, Result& result) {
  store(cache, seqs, stream);
  attention::AttendArgs args = args_of(cache.storage.layer_view(kLayer), result.out);
  args.seqs = seqs;
  const attention::IndexInputs index{.q = index_q_.data(),
                                     .k = index_k_.data(),
                                     .weights = index_weights_.data(),
                                     .q_stride = kIndexHeads * kIndexDim,
                                     .k_stride = kIndexDim,
                                     .weights_stride = kIndexHeads};
  if (shape_.value_dim > 0) args.index = &index;
  const bool prefill = phase == attention::Phase::kPrefill;
  std::vector<attention::SequenceState*> states;
  for (const size_t seq : owners) states.push_back(cache.states[seq].get());
  using Seqs = std::span<const kernels::AttentionSeq>;
  step.begin(prefill ? Seqs(seqs) : Seqs(), prefill ? Seqs() : Seqs(seqs),
             {.prefill = states, .decode = states});
  step.attend(kLayer, phase, args, stream);
  const auto counters = step.counters(kLayer, phase);
  for (size_t i = 0; i < owners.size(); ++i) result.counters[owners[i]].add(counters[i]);
}

void World::read_prompts(const attention::AttentionSet& set, const std::vector<int32_t>& ends,
                         const Run& run, Cache& cache, Stream& stream, Result& result) {
  attention::AttentionStep attention_step(set, model_shape(), {.verify = true});
  const auto chunk = static_cast<int32_t>(round_up(run.chunk, set.prefill_chunk_multiple()));
  const int32_t longest = *std::max_element(ends.begin(), ends.end());
  for (int32_t begin = 0; begin < longest; begin += chunk) {
    std::vector<kernels::AttentionSeq> seqs;
    std::vector<size_t> owners;
    for (size_t seq = 0; seq < ends.size(); ++seq) {
      const int32_t end = std::min(begin + chunk, ends[seq]);
      if (end <= begin) continue;
      owners.push_back(seq);
      seqs.push_back({.q_begin = row_begin_[seq] + begin,
                      .q_len = end - begin,
                      .kv_len = end,
                      .threshold_len = ends[seq],
                      .pages = cache.pages[seq].data()});
    }
    step(attention_step, attention::Phase::kPrefill, owners, seqs, cache, stream, result);
  }
}

void World::end_prompts(const attention::AttentionSet& set, const std::vector<int32_t>& ends,
                        Cache& cache, Stream& stream) const {
  const std::vector<KvLayerView> views{cache.storage.layer_view(kLayer)};
  for (size_t seq = 0; seq < ends.size(); ++seq) {
    if (ends[seq] == 0) continue;
    std::vector<int32_t>& pages = cache.pages[seq];
    const int32_t kept = set.kept_tokens(ends[seq]);
    std::vector<int32_t> fresh;
    if (kept < ends[seq]) {
      fresh.assign(pages.begin() + ceil_div(ends[seq], shape_.page_size), pages.end());
    }
    const kernels::AttentionSeq last{
        .q_len = ends[seq], .kv_len = ends[seq], .threshold_len = ends[seq], .pages = pages.data()};
    set.after_prefill({.seq = last, .state = cache.states[seq].get(), .kv = views, .fresh = fresh},
                      stream);
    if (fresh.empty()) continue;
    cache.evicted[seq] = ends[seq] - kept;
    pages = fresh;
  }
}

Result World::prefill(const attention::AttentionSet& set, const Run& run) {
  ThreadPool pool(run.threads);
  Stream stream(Device{}, pool);
  Cache cache = make_cache(set);
  Result result{.out = no_outputs(),
                .counters = std::vector<kernels::AttentionCounters>(shape_.lens.size())};
  read_prompts(set, shape_.lens, run, cache, stream, result);
  return result;
}

Result World::decode(const attention::AttentionSet& set, const Run& run) {
  ThreadPool pool(run.threads);
  Stream stream(Device{}, pool);
  Cache cache = make_cache(set);
  std::vector<int32_t> ends;
  for (const int32_t len : shape_.lens) ends.push_back(std::max(0, len - kDecodeTokens));
  Result prompts{.out = no_outputs(),
                 .counters = std::vector<kernels::AttentionCounters>(shape_.lens.size())};
  Result result = prompts;
  read_prompts(set, ends, run, cache, stream, prompts);
  end_prompts(set, ends, cache, stream);
  attention::AttentionStep attention_step(set, model_shape(), {.verify = true});
  for (int32_t token = 0; token < kDecodeTokens; ++token) {
    std::vector<kernels::AttentionSeq> seqs;
    std::vector<size_t> owners;
    for (size_t seq = 0; seq < shape_.lens.size(); ++seq) {
      const int32_t position = ends[seq] + token;
      if (position >= shape_.lens[seq]) continue;
      const int32_t kv_len = position + 1 - cache.evicted[seq];
      owners.push_back(seq);
      seqs.push_back({.q_begin = row_begin_[seq] + position,
                      .q_len = 1,
                      .kv_len = kv_len,
                      .evicted = cache.evicted[seq],
                      .threshold_len = kv_len,
                      .pages = cache.pages[seq].data()});
    }
    step(attention_step, attention::Phase::kDecode, owners, seqs, cache, stream, result);
  }
  return result;
}

std::unique_ptr<attention::AttentionSet> make_set(const attention::MethodExample& example,
                                                  const World& world) {
  if (!example.config) return dense_set(world);
  const std::vector<SparseAttentionConfig> configs{*example.config};
  return attention::make_attention(configs, world.model_shape(), {}, Device{});
}

std::unique_ptr<attention::AttentionSet> dense_set(const World& world) {
  attention::ModelShape shape = world.model_shape();
  shape.indexer.reset();  // which would ask for a method of its own
  return attention::make_attention({}, shape, {}, Device{});
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

void PrintTo(const NamedExample& example, std::ostream* out) { *out << test_name(example); }

uint32_t fresh_seed() {
  const char* fixed = std::getenv("FOVEAL_TEST_SEED");
  return fixed != nullptr ? static_cast<uint32_t>(std::strtoul(fixed, nullptr, 10))
                          : std::random_device{}();
}

}  // namespace foveal::contract
