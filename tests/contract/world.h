#pragma once

#include <cstdint>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "attention/attention_set.h"
#include "attention/registry.h"
#include "attention/step.h"
#include "kv/storage.h"

namespace foveal::contract {

/// Heads, pages and lengths of a test. Every sequence has `lens[i]` tokens.
struct Shape {
  int32_t num_heads = 4;
  int32_t num_kv_heads = 2;
  int32_t head_dim = 64;
  int32_t page_size = 16;
  DType dtype = DType::kBF16;
  int32_t window = 0;
  bool exact = false;
  /// Above 0: a latent cache, whose values are so many channels of head_dim, and a model with an
  /// indexer. One KV head.
  int32_t value_dim = 0;
  std::vector<int32_t> lens;

  int32_t out_dim() const { return value_dim > 0 ? value_dim : head_dim; }
};

std::string describe(const Shape& shape);

/// How a prompt is run. Neither may change a bit of the result.
struct Run {
  int32_t chunk = 1 << 20;  ///< rounded up to the method's prefill_chunk_multiple
  int threads = 2;
};

struct Result {
  std::vector<float> out;                            ///< [rows, num_heads, out_dim]
  std::vector<kernels::AttentionCounters> counters;  ///< [sequences]
};

/// Random sequences (the i-th depends on the seed and i only) whose K and V go to pages in shuffled
/// order. Keys at the beginning attract all queries, as attention sinks do, so that a
/// method that leaves out keys finds some to leave.
class World {
 public:
  World(Shape shape, uint32_t seed);

  const Shape& shape() const { return shape_; }
  int32_t num_rows() const { return num_rows_; }
  int32_t row_begin(size_t seq) const { return row_begin_[seq]; }
  /// [num_rows, heads, head_dim]; k and v are rounded as the cache rounds them. Of a latent cache
  /// v's are the first channels of k's.
  const std::vector<float>& q() const { return q_; }
  const std::vector<float>& k() const { return k_; }
  const std::vector<float>& v() const { return shape_.value_dim > 0 ? k_ : v_; }
  float softmax_scale() const;
  attention::ModelShape model_shape() const;

  /// Attention of every token: `kPrefill` runs the prompts chunk by chunk, `kDecode` token by token
  /// over the last `kDecodeTokens` of each sequence, after a prefill of those before, in pages that
  /// the method moves what it keeps to; other rows of `out` are not numbers.
  Result prefill(const attention::AttentionSet& set, const Run& run);
  Result decode(const attention::AttentionSet& set, const Run& run);

  static constexpr int32_t kDecodeTokens = 3;

 private:
  /// A run's cache, its sequences' page tables and what the method keeps of them.
  struct Cache {
    kv::KvStorage storage;
    std::vector<std::vector<int32_t>> pages;
    std::vector<std::unique_ptr<attention::SequenceState>> states;
    std::vector<int32_t> evicted;
  };

  void fill(uint32_t seed);
  std::vector<float> no_outputs() const;
  attention::AttendArgs args_of(const KvLayerView& kv, std::vector<float>& out) const;
  Cache make_cache(const attention::AttentionSet& set) const;
  /// Keys and values of the sequences' new rows.
  void store(Cache& cache, const std::vector<kernels::AttentionSeq>& seqs, Stream& stream) const;
  /// Prefill of the first ends[i] tokens of each sequence.
  void read_prompts(const attention::AttentionSet& set, const std::vector<int32_t>& ends,
                    const Run& run, Cache& cache, Stream& stream, Result& result);
  void end_prompts(const attention::AttentionSet& set, const std::vector<int32_t>& ends,
                   Cache& cache, Stream& stream) const;
  void step(attention::AttentionStep& step, attention::Phase phase,
            const std::vector<size_t>& owners, const std::vector<kernels::AttentionSeq>& seqs,
            Cache& cache, Stream& stream, Result& result);

  Shape shape_;
  int32_t num_rows_ = 0;
  std::vector<int32_t> row_begin_;
  std::vector<float> q_, k_, v_;
  std::vector<float> index_q_, index_k_, index_weights_;
  uint32_t seed_;
};

/// An example of a method, made ready to run.
std::unique_ptr<attention::AttentionSet> make_set(const attention::MethodExample& example,
                                                  const World& world);
std::unique_ptr<attention::AttentionSet> dense_set(const World& world);

/// Every example of every registered method, for INSTANTIATE_TEST_SUITE_P.
struct NamedExample {
  std::string method;
  attention::MethodExample example;
};
std::vector<NamedExample> all_examples();
/// Those that must equal dense, or those that may leave out keys.
std::vector<NamedExample> examples_where(bool equals_dense);
std::string test_name(const NamedExample& example);
void PrintTo(const NamedExample& example, std::ostream* out);  ///< the name, for GoogleTest

/// Ragged batches, group ratios 1, 3 and 8, odd head sizes, page and split edges, one token, a
/// window, as far as the example's method declares them: kinds of cache (K and V per KV head,
/// latent, or both), their dtypes, head sizes, windows.
std::vector<Shape> shapes(const NamedExample& example);
/// A plain shape that it serves, with sequences of these lengths.
Shape plain_shape(const NamedExample& example, std::vector<int32_t> lens);
/// The given shapes as far as it declares them.
std::vector<Shape> served(const NamedExample& example, const std::vector<Shape>& shapes);

/// A fresh seed, printed by the test that uses it. FOVEAL_TEST_SEED sets it.
uint32_t fresh_seed();

}  // namespace foveal::contract
