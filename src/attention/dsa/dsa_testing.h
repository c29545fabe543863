#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "attention/dsa/index_select.h"
#include "kernels/reference/indexer.h"

namespace foveal::attention::dsa::testing {

/// What a random indexer and its sequences look like.
struct IndexShape {
  int32_t num_heads = 8;
  int32_t dim = 128;
  int32_t topk = 64;
  int32_t page_size = 32;
  int32_t max_chunk = 32768;
  bool reference = false;
  bool skip_short = true;
  std::vector<std::pair<int32_t, int32_t>> seqs;  ///< {q_len, kv_len} of each
};

/// Index keys of whole sequences, stored in shuffled pages among others' garbage, and the queries
/// of their last rows.
class IndexCase {
 public:
  IndexCase(const IndexShape& shape, uint64_t seed, Stream& stream);

  OwnedSets select(Stream& stream) const;
  IndexInputs inputs() const;
  /// The scores of sequence `idx`'s rows against all its keys, [rows, keys].
  std::vector<double> scores(size_t idx, const kernels::reference::IndexerSteps& steps) const;
  /// What the shape asks for.
  kernels::reference::IndexerSteps steps() const;

  IndexShape shape;
  Settings settings;
  IndexLane lane;
  std::vector<kernels::AttentionSeq> seqs;
  std::vector<float> q;
  std::vector<float> k;  ///< of all keys of all sequences
  std::vector<float> weights;

  void store(Stream& stream) const;

 private:
  std::vector<kernels::AttentionSeq> stores_;
  std::vector<std::vector<int32_t>> pages_;
  std::vector<std::byte> bytes_;
};

/// The share of `want` that is in `got`.
double overlap(std::span<const int32_t> got, std::span<const int32_t> want);

}  // namespace foveal::attention::dsa::testing
