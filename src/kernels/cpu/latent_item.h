#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/attention_item.h"

namespace foveal::kernels::cpu {

// What the host half of latent attention hands to the code of one instruction-set level: plain
// data.

inline constexpr int32_t kLatentHeads = 16;  ///< of an item: their queries stay in the L1 cache

/// One tile of a row's set, for some of its heads.
struct LatentItem {
  const std::byte* cache = nullptr;  ///< page 0 (base/kv_view.h)
  int64_t page_bytes = 0;
  const int32_t* pages = nullptr;
  int32_t page_size = 0;
  int32_t head_dim = 0;
  int32_t value_dim = 0;
  KvFormat format = KvFormat::kBf16;
  const float* q = nullptr;         ///< [num_heads, head_dim], contiguous
  int32_t num_heads = 0;            ///< 1 to kLatentHeads
  const int32_t* tokens = nullptr;  ///< [num_keys]; null: first_key, first_key + 1, ...
  int32_t first_key = 0;
  int32_t num_keys = 0;  ///< 1 to kLatentTile
  float scale_log2 = 0;
  bool exact = false;
  float* max = nullptr;  ///< [num_heads], log2 domain
  float* sum = nullptr;  ///< [num_heads]
  float* acc = nullptr;  ///< [num_heads, latent_acc_stride]: unnormalised, relative to max
};

constexpr int32_t latent_acc_stride(int32_t value_dim) { return (value_dim + 31) / 32 * 32; }

/// Joins a tile to those before it, whose sum of values is kept in `out`.
struct LatentFold {
  const float* max = nullptr;  ///< the tile's, [num_heads]
  const float* sum = nullptr;
  const float* acc = nullptr;  ///< [num_heads, latent_acc_stride]
  float* total_max = nullptr;  ///< [num_heads]
  float* total_sum = nullptr;
  float* out = nullptr;  ///< [num_heads, value_dim], contiguous
  int32_t num_heads = 0;
  int32_t value_dim = 0;
  bool first = false;  ///< nothing was before it
  bool last = false;   ///< `out` becomes the weights' mean
};

struct LatentKernels {
  size_t (*scratch)(int32_t head_dim);
  void (*tile)(const LatentItem& item, std::byte* scratch);
  void (*fold)(const LatentFold& fold);
  /// One row to `slot`, rounded to nearest even.
  void (*store)(const float* row, int32_t n, KvFormat format, std::byte* slot);
};

namespace portable {
extern const LatentKernels kLatentKernels;
}
namespace avx2 {
extern const LatentKernels kLatentKernels;
}
namespace avx512 {
extern const LatentKernels kLatentKernels;
}
namespace avx512bf16 {
extern const LatentKernels kLatentKernels;
}

}  // namespace foveal::kernels::cpu
