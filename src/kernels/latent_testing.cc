#include "kernels/latent_testing.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/garbage_testing.h"
#include "kernels/paged_seqs_testing.h"

namespace foveal::kernels::testing {

LatentCase::LatentCase(const LatentShape& wanted, uint64_t seed, Stream& stream) : shape(wanted) {
  std::mt19937_64 rng(seed);
  std::normal_distribution<float> normal;
  PagedSeqs paged(shape.seqs, shape.page_size, rng);
  kv = {.page_bytes =
            int64_t{shape.head_dim} * shape.page_size * (shape.dtype == DType::kF32 ? 4 : 2),
        .dtype = shape.dtype,
        .num_pages = paged.num_pages,
        .page_size = shape.page_size,
        .num_kv_heads = 1,
        .head_dim = shape.head_dim,
        .value_dim = shape.value_dim};
  bytes_.resize(static_cast<size_t>(kv.page_bytes * paged.num_pages));
  fill_garbage(bytes_, shape.dtype, rng);
  kv.k = bytes_.data();
  seqs = std::move(paged.queries);
  pages_ = std::move(paged.pages);
  q.resize(static_cast<size_t>(paged.num_rows) * shape.num_heads * shape.head_dim);
  out.resize(static_cast<size_t>(paged.num_rows) * shape.num_heads * shape.value_dim);
  rows.resize(static_cast<size_t>(paged.num_keys) * shape.head_dim);
  for (float& x : q) x = shape.spread * normal(rng);
  for (float& x : rows) x = normal(rng);
  counters.resize(seqs.size());
  latent_store({.rows = rows.data(), .stride = shape.head_dim, .kv = kv, .seqs = paged.stores},
               stream);
}

LatentAttentionParams LatentCase::params() {
  return {.q = q.data(),
          .out = out.data(),
          .q_stride = int64_t{shape.num_heads} * shape.head_dim,
          .out_stride = int64_t{shape.num_heads} * shape.value_dim,
          .num_heads = shape.num_heads,
          .kv = kv,
          .seqs = seqs,
          .sets = sets_.offsets == nullptr ? nullptr : &sets_,
          .softmax_scale = 1.0F / std::sqrt(static_cast<float>(shape.head_dim)),
          .counters = counters.data(),
          .exact = shape.exact};
}

void LatentCase::choose_sets(int32_t most, uint64_t seed) {
  std::mt19937_64 rng(seed);
  offsets = {0};
  tokens.clear();
  for (const AttentionSeq& seq : seqs) {
    for (int32_t position = seq.kv_len - seq.q_len; position < seq.kv_len; ++position) {
      std::vector<int32_t> all(static_cast<size_t>(position) + 1);
      std::iota(all.begin(), all.end(), 0);
      std::sample(all.begin(), all.end(), std::back_inserter(tokens), most, rng);
      offsets.push_back(static_cast<int64_t>(tokens.size()));
    }
  }
  sets_ = {.offsets = offsets.data(), .tokens = tokens.data()};
}

}  // namespace foveal::kernels::testing
