#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "device/stream.h"

namespace foveal::bench {

/// Paged attention, dense and with skipped tiles. Counting rule: 4 * head_dim flops an unmasked
/// (query, key) pair, skipped or not; decode counts the bytes of K and V that dense attention
/// reads. So a skip factor shows as a higher rate.
struct AttentionOptions {
  int32_t num_kv_heads = 3;
  int32_t group = 3;
  int32_t head_dim = 64;
  int32_t page_size = 64;
  int32_t rows = 512;
  int32_t layers = 30;  ///< distinct caches, so that decode's do not stay in L3
  std::vector<int32_t> depths{0, 2048, 7680};
  std::vector<float> factors{0, 1e-30F, 3, 30, 100, 300};
  /// Scores: a normal of this deviation a pair, plus one of the next a key tile. Real heads differ
  /// more between tiles than within them; these two give the skipped shares of a small model.
  float spread = 1.5F;
  float tile_spread = 2.5F;
  double min_seconds = 0.3;
  bool prefill = true;
  bool decode = true;
};

struct AttentionRow {
  bool prefill = false;
  int32_t kv_len = 0;
  float factor = 0;
  double skipped = 0;        ///< share of key tiles
  double seconds = 0;        ///< of one layer
  double work = 0;           ///< prefill: GFLOP, decode: GB
  double dense_seconds = 0;  ///< of the same case with factor 0
};

/// Times every case; `done` after each. Values are checked against the reference after the timed
/// run: throws kInternal where they are wrong.
void time_attention(const AttentionOptions& options, Stream& stream,
                    const std::function<void(const AttentionRow&)>& done);

}  // namespace foveal::bench
