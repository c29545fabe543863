#pragma once

#include <cstddef>
#include <cstdint>

namespace foveal::kernels::cpu {

// What the host half of DSA's indexer hands to the code of one instruction-set level: plain data.

enum class IndexFormat : uint8_t {
  kFp8,  ///< Hadamard, then e4m3 with a scale a vector, a power of two
  kF32,  ///< as the model gave it (reference mode)
};

inline constexpr int32_t kIndexKeys = 32;   ///< keys of a tile, which is widened once for its rows
inline constexpr int32_t kIndexBlock = 16;  ///< scores that share a maximum
inline constexpr int32_t kIndexLanes = 16;  ///< heads are padded to a multiple at every level
inline constexpr int32_t kMaxIndexDim = 256;

/// Few heads leave lanes free: there, on a level that multiplies pairs of bf16, two keys share a
/// vector, and every head is in two lanes next to each other.
inline constexpr int32_t kFewIndexHeads = kIndexLanes / 2;

constexpr int32_t index_padded_heads(int32_t num_heads) {
  return (num_heads + kIndexLanes - 1) / kIndexLanes * kIndexLanes;
}
/// Floats of one row's queries as the level's `open` lays them out.
constexpr int64_t index_query_floats(int32_t num_heads, int32_t dim) {
  return int64_t{index_padded_heads(num_heads)} * dim;
}

/// One key's slot: page p has [page_size][dim] values, then in kFp8 [page_size] float32 scales.
struct IndexKeys {
  std::byte* lane = nullptr;  ///< page 0
  int64_t bytes_per_page = 0;
  const int32_t* pages = nullptr;  ///< of one sequence
  int32_t page_size = 0;
  int32_t dim = 0;
  IndexFormat format = IndexFormat::kFp8;
};

/// One row's queries and weights, made ready to be scored.
struct IndexOpen {
  const float* q = nullptr;        ///< [num_heads, dim], contiguous
  const float* weights = nullptr;  ///< [num_heads] as projected
  int32_t num_heads = 0;
  int32_t dim = 0;
  IndexFormat format = IndexFormat::kFp8;
  float scale = 1;           ///< dim^-1/2 num_heads^-1/2
  float* queries = nullptr;  ///< [index_query_floats]
  float* factors = nullptr;  ///< [index_padded_heads]: weight, scale and the query's own scale
};

/// Scores of some keys of one sequence for some of its rows.
struct IndexScores {
  IndexKeys keys;
  const float* queries = nullptr;  ///< [num_rows, index_query_floats]
  const float* factors = nullptr;  ///< [num_rows, index_padded_heads]
  int32_t num_rows = 0;
  int32_t num_heads = 0;
  int32_t key_begin = 0;
  int32_t key_end = 0;
  float* scores = nullptr;  ///< [num_rows], stride score_stride: the key at its position
  int64_t score_stride = 0;
  /// Where wanted, the largest score of each kIndexBlock positions (NaN counts as -inf); key_begin
  /// is then a multiple of them. [num_rows], stride maxima_stride.
  float* maxima = nullptr;
  int64_t maxima_stride = 0;
};

struct IndexKernels {
  void (*store)(const IndexKeys& keys, int32_t position, const float* key);
  void (*open)(const IndexOpen& item);
  size_t (*scratch)(int32_t dim);
  void (*scores)(const IndexScores& item, std::byte* scratch);
};

namespace portable {
extern const IndexKernels kIndexKernels;
}
namespace avx2 {
extern const IndexKernels kIndexKernels;
}
namespace avx512 {
extern const IndexKernels kIndexKernels;
}
namespace avx512bf16 {
extern const IndexKernels kIndexKernels;
}

}  // namespace foveal::kernels::cpu
