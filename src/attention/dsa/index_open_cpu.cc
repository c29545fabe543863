#include "attention/dsa/index_isa.h"
#include "attention/dsa/index_quantise.h"
#include "kernels/cpu/simd/vec.h"

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {
namespace {

/// Scores take a word of every head at once: a pair of bf16 where the level multiplies these.
constexpr bool pairs(IndexFormat format) {
  return FOVEAL_ISA_LEVEL >= 3 && format == IndexFormat::kFp8;
}

/// A head into the layout [lane / kLanes][word][lane % kLanes].
void spread(const float* q, int dim, bool as_pairs, int lane, float* queries) {
  const int words = as_pairs ? dim / 2 : dim;
  float* out = queries + static_cast<int64_t>(lane / kLanes) * words * kLanes + lane % kLanes;
  for (int word = 0; word < words; ++word, out += kLanes) {
    if (!as_pairs) {
      *out = q[word];
      continue;
    }
    // e4m3 values are bf16 values
    const uint32_t pair =
        float_to_bf16(q[2 * word]) | (static_cast<uint32_t>(float_to_bf16(q[2 * word + 1])) << 16);
    __builtin_memcpy(out, &pair, sizeof(pair));
  }
}

}  // namespace

// Computes:  one token's index key to its slot: the Hadamard transform in e4m3 with a scale that is
//            a power of two, or float32 as it is
// In/out:    key [dim] float32; the slot of the lane
// Units:     position: tokens
// Launch:    one call a token; the host splits tokens over the pool
// Needs:     kFp8: dim a power of two, up to kMaxIndexDim
// Numerics:  float32 additions, then nearest even; the same bits at every level
// Source:    DeepSeek-V3.2's report (arXiv 2512.02556); the lane is DeepGEMM's layout
// Measured:  within 1 % of a token's projections
void index_store(const IndexKeys& keys, int32_t position, const float* key) {
  std::byte* page = keys.lane + keys.pages[position / keys.page_size] * keys.bytes_per_page;
  const int64_t slot = position % keys.page_size;
  const auto dim = static_cast<size_t>(keys.dim);
  if (keys.format == IndexFormat::kF32) {
    auto* row = reinterpret_cast<float*>(page) + slot * keys.dim;
    __builtin_memcpy(row, key, dim * sizeof(float));
    if (!all_finite(key, keys.dim)) row[0] = __builtin_nanf("");  // and so is each score
    return;
  }
  uint8_t codes[kMaxIndexDim];
  const float scale = quantise(key, keys.dim, codes);
  __builtin_memcpy(page + slot * keys.dim, codes, dim);
  __builtin_memcpy(page + static_cast<int64_t>(keys.page_size) * keys.dim + slot * 4, &scale,
                   sizeof(scale));
}

// Computes:  queries: e4m3 of the Hadamard transform, or q itself, heads in the lanes;
//            factors[h] = weights[h] scale (the query's own scale)
// In/out:    q [num_heads, dim], weights [num_heads] float32; queries, factors (index_item.h)
// Units:     heads past num_heads have queries and factors of 0
// Launch:    one call a row
// Needs:     kFp8: dim a power of two, up to kMaxIndexDim
// Numerics:  as index_store's
// Source:    DeepSeek-V3.2's report, section 2.1
// Measured:  below 1 % of scoring 4,096 keys
void index_open(const IndexOpen& item) {
  const int64_t floats = index_query_floats(item.num_heads, item.dim);
  for (int64_t at = 0; at < floats; ++at) item.queries[at] = 0;
  for (int head = 0; head < index_padded_heads(item.num_heads); ++head) item.factors[head] = 0;
  float row[kMaxIndexDim] = {};
  for (int head = 0; head < item.num_heads; ++head) {
    const float* q = item.q + static_cast<int64_t>(head) * item.dim;
    float own = 1;
    if (item.format == IndexFormat::kFp8) {
      uint8_t codes[kMaxIndexDim];
      own = quantise(q, item.dim, codes);
      for (int ch = 0; ch < item.dim; ++ch) row[ch] = e4m3_to_float(codes[ch]);
      q = row;
    } else if (!all_finite(q, item.dim)) {
      own = __builtin_nanf("");
    }
    const bool as_pairs = pairs(item.format);
    const int copies = as_pairs && item.num_heads <= kFewIndexHeads ? 2 : 1;
    for (int lane = copies * head; lane < copies * (head + 1); ++lane) {
      spread(q, item.dim, as_pairs, lane, item.queries);
      item.factors[lane] = item.weights[head] * item.scale * own;
    }
  }
}

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS
