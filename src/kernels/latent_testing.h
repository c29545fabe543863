#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "kernels/latent_attention.h"

namespace foveal::kernels::testing {

/// What a random latent cache and its queries look like.
struct LatentShape {
  int32_t num_heads = 2;
  int32_t head_dim = 80;
  int32_t value_dim = 64;
  int32_t page_size = 32;
  DType dtype = DType::kBF16;
  float spread = 1;  ///< of the scores
  bool exact = false;
  std::vector<std::pair<int32_t, int32_t>> seqs;  ///< {q_len, kv_len} of each
};

/// A cache filled through `latent_store` in shuffled pages whose unused slots hold garbage, and the
/// queries of its last rows.
class LatentCase {
 public:
  LatentCase(const LatentShape& shape, uint64_t seed, Stream& stream);

  LatentAttentionParams params();
  /// Makes `params` use random sets of up to `most` keys a row; everything where `most` is larger.
  void choose_sets(int32_t most, uint64_t seed);

  LatentShape shape;
  std::vector<float> q;
  std::vector<float> out;
  std::vector<float> rows;  ///< of all keys of all sequences, as given to the store
  std::vector<AttentionSeq> seqs;
  std::vector<AttentionCounters> counters;
  std::vector<int64_t> offsets;
  std::vector<int32_t> tokens;
  KvLayerView kv;

 private:
  std::vector<std::vector<int32_t>> pages_;
  std::vector<std::byte> bytes_;
  TokenSets sets_;
};

}  // namespace foveal::kernels::testing
