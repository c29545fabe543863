#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace foveal::kernels::reference {

/// A lightning indexer's inputs for one sequence: after rope, and k after its LayerNorm.
struct IndexerParams {
  const float* q = nullptr;        ///< [rows, num_heads, dim]
  const float* k = nullptr;        ///< [keys, dim]
  const float* weights = nullptr;  ///< [rows, num_heads]
  int32_t rows = 0;
  int32_t keys = 0;
  int32_t num_heads = 0;
  int32_t dim = 0;  ///< with a Hadamard transform a power of two
};

/// What is done between them and the scores. Right is everything, or, in reference mode, neither
/// transform nor fp8; the others are for tests that must see a mistake.
struct IndexerSteps {
  bool hadamard_q = true;
  bool hadamard_k = true;
  bool fp8 = true;          ///< e4m3 with a power of two a vector as scale
  bool relu_inside = true;  ///< of each head's product, not of their sum
};
inline constexpr IndexerSteps kReferenceMode = {
    .hadamard_q = false, .hadamard_k = false, .fp8 = false, .relu_inside = true};

/// [rows, keys]: sum over heads of weight max(0, q . k) / sqrt(dim num_heads), in double.
std::vector<double> index_scores(const IndexerParams& params, const IndexerSteps& steps);

/// The min(k, scores.size()) positions with the largest scores, ascending; of equal ones the
/// lowest.
std::vector<int32_t> index_set(std::span<const double> scores, int32_t k);

}  // namespace foveal::kernels::reference
