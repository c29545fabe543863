#pragma once

#include <cstdint>
#include <vector>

#include "attention/rocket/page_bounds.h"
#include "attention/rocket/page_select.h"
#include "attention/rocket/prompt_select.h"
#include "base/thread_pool.h"
#include "kernels/cpu/isa.h"
#include "kernels/paged_attention.h"

namespace foveal::attention::rocket::testing {

struct CaseShape {
  int32_t num_kv_heads = 2;
  int32_t group = 3;
  int32_t head_dim = 32;
  int32_t cache_page = 32;
  DType dtype = DType::kBF16;
  int32_t page_size = 4;
  BoundFormat format = BoundFormat::kE5m2;
  std::vector<int32_t> lens;  ///< of each sequence
};

/// A random cache in shuffled pages, unused slots full of garbage, its page bounds (unless told
/// otherwise), and a query row for each sequence. Queries are multiples of 1/256, so that sums of
/// them are exact and ties real.
class Case {
 public:
  Case(const CaseShape& shape, uint64_t seed, Stream& stream);

  kernels::PagedAttentionParams attend();  ///< writes to `out`
  PageSelectParams select(int32_t topk, int32_t num_channels = 0);
  int64_t width() const { return int64_t{shape.num_kv_heads} * shape.group * shape.head_dim; }
  float scale() const;

  CaseShape shape;
  KvLayerView kv;
  PageBounds bounds;
  std::vector<kernels::AttentionSeq> seqs;
  std::vector<float> q;
  std::vector<float> out;
  std::vector<std::byte> bound_bytes;

 private:
  std::vector<std::vector<int32_t>> pages_;
  std::vector<std::byte> k_bytes_;
  std::vector<std::byte> v_bytes_;
};

/// Rows of queries for every position of a prompt.
std::vector<float> prompt_queries(const Case& data, int32_t prompt_len, uint64_t seed);

/// True where the active level rounds queries (and weights) to bf16: attention, page scores.
bool rounds(const Case& data);
bool rounds_scores(const Case& data);
std::vector<kernels::cpu::Isa> isa_levels();

}  // namespace foveal::attention::rocket::testing

/// The two stages from the paper's equations, scalar and in double. See README.md.
namespace foveal::attention::rocket::reference {

/// Of one KV head: scores of prefix keys, and the largest sum over d of |q k| in the log2 domain,
/// which rounding errors of scores scale with.
struct WindowScores {
  std::vector<double> scores;
  double norm = 0;
};
/// `queries`: [prompt_len, width]. `round_q`: scaled queries are rounded to bf16 first.
WindowScores window_scores(const testing::Case& data, const std::vector<float>& queries,
                           int32_t window, int32_t head, bool round_q);
template <class T>
std::vector<T> max_pool(const std::vector<T>& in, int32_t kernel);
/// The k largest, of equals the lowest; ascending.
template <class T>
std::vector<int32_t> top(const std::vector<T>& values, int64_t k);

/// Value of a stored bound.
double bound_value(BoundFormat format, const std::byte* p);
/// The lane's value; side 0: minimum.
double bound_at(const testing::Case& data, int32_t seq, int32_t head, int32_t side, int32_t channel,
                int32_t page);
/// Sum (or the largest) over the group of softmax over pages (the listed ones, or all), from the
/// bounds as stored. `round_q`: scaled queries are rounded to bf16 first.
struct PageRanks {
  std::vector<double> ranks;
  double norm = 0;
};
PageRanks page_ranks(const testing::Case& data, int32_t seq, int32_t head, int32_t num_channels,
                     std::vector<int32_t> pages = {}, bool max_over_group = false,
                     bool round_q = false);

/// Exact attention of one query head over tokens.
struct Attention {
  std::vector<double> out;        ///< [head_dim]
  std::vector<double> magnitude;  ///< the weights' mean of |v|
  double norm = 0;
};
Attention attention(const testing::Case& data, int32_t seq, int32_t query_head,
                    const std::vector<int32_t>& tokens, bool round_q);

}  // namespace foveal::attention::rocket::reference
