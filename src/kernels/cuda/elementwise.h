#pragma once

#include <cstdint>

#include "base/dtype.h"
#include "device/stream.h"
#include "kernels/elementwise.h"

// The row-wise kernels around the products. Every pointer is device memory and every launcher only
// issues work, so that all of them may be captured in a graph. bf16 values travel as uint16_t.
// Accesses are 16 bytes wide: rows start at multiples of 16 bytes and are multiples of 8 elements;
// what does not fit is refused with kInternal, naming what was got. m == 0 does nothing.

namespace foveal::kernels::cuda {

/// y[i] = x[rows[i]] / sqrt(mean(x^2) + eps) * (weight + weight_offset).
/// `y` may be x itself when both are float32 and rows is null.
struct RmsNormParams {
  const float* x = nullptr;       ///< [>= m, n] float32, row stride x_stride
  const int32_t* rows = nullptr;  ///< [m]: which rows of x, or null: row i
  const void* weight = nullptr;   ///< [n] weight_dtype; read early, as DenseGemmParams::weight
  void* y = nullptr;              ///< [m, n] y_dtype, row stride y_stride
  int64_t m = 0;
  int64_t n = 0;
  int64_t x_stride = 0;
  int64_t y_stride = 0;
  float eps = 0;
  float weight_offset = 0;
  DType weight_dtype = DType::kF32;  ///< kF32 or kBF16
  DType y_dtype = DType::kBF16;      ///< kF32, kBF16 or kF16
  /// y_dtype kF32 only: y += alpha * (...) instead of y =. Gemma's norms after a block, with y the
  /// residual stream.
  bool accumulate = false;
  float alpha = 1;
};
void rms_norm(const RmsNormParams& params, Stream& stream);

/// What follows the qkv product, in one kernel: q and k normalised per head if weights are given,
/// rotated, q written back in place, k and v stored into pages.
struct RopeStoreParams {
  void* qkv = nullptr;  ///< [m, (num_heads + 2 num_kv_heads) * head_dim]: q heads, k heads, v heads
  DType dtype = DType::kBF16;  ///< of qkv: kBF16 or kF16
  int64_t m = 0;
  int64_t row_stride = 0;  ///< of qkv, elements
  int32_t num_heads = 0;
  int32_t num_kv_heads = 0;
  int32_t head_dim = 0;    ///< a multiple of 8, at most 256
  int32_t rotary_dim = 0;  ///< a multiple of 16, <= head_dim; 0: no rotation
  RopeStyle style = RopeStyle::kHalf;
  const int32_t* positions = nullptr;  ///< [m]
  const float* cos_table = nullptr;    ///< [max_position, rotary_dim / 2]
  const float* sin_table = nullptr;    ///< likewise
  const void* q_norm = nullptr;    ///< [head_dim] norm_dtype, or null: q and k are not normalised
  const void* k_norm = nullptr;    ///< [head_dim]; null exactly when q_norm is
  DType norm_dtype = DType::kF32;  ///< kF32 or kBF16
  float norm_eps = 0;
  float norm_offset = 0;
  /// Where each row's k and v go: page * page_size + place in the page. Negative: nowhere (padded
  /// rows of a graph). The page table is looked up once a step, not once a layer: see
  /// `fill_slots`.
  const int64_t* slots = nullptr;  ///< [m]
  void* k_pages = nullptr;         ///< [num_pages, num_kv_heads, page_size, head_dim] kv_dtype
  void* v_pages = nullptr;         ///< likewise
  DType kv_dtype = DType::kBF16;   ///< kBF16, kF16 or kF8E4M3
  int32_t page_size = 0;
  int64_t page_stride = 0;  ///< elements from a page to the next, as for head and token
  int64_t head_stride = 0;
  int64_t token_stride = 0;
  float k_scale = 1;  ///< kF8E4M3: stored = value / scale, saturating at 448
  float v_scale = 1;
};
void rope_store(const RopeStoreParams& params, Stream& stream);

/// slots[row] = page_table[seq, position / page_size] * page_size + position % page_size for the
/// rows of every sequence, where position = kv_len[seq] - (rows of seq) + (row in seq), with
/// positions[row] = position + evicted[seq] written as well. `cu_q` null: one row a sequence. A
/// page table entry below 0 gives slot -1.
struct FillSlotsParams {
  const int32_t* cu_q = nullptr;        ///< [num_seqs + 1] or null
  const int32_t* kv_len = nullptr;      ///< [num_seqs], the new rows included
  const int32_t* evicted = nullptr;     ///< [num_seqs] or null: none
  const int32_t* page_table = nullptr;  ///< [num_seqs, page_table_stride]
  int64_t page_table_stride = 0;
  int32_t num_seqs = 0;
  int32_t num_rows = 0;
  int32_t page_size = 0;
  int64_t* slots = nullptr;      ///< [num_rows]
  int32_t* positions = nullptr;  ///< [num_rows]
};
void fill_slots(const FillSlotsParams& params, Stream& stream);

/// y = act(gate) * up for the fused product [gate | up].
struct ActMulParams {
  const void* gate_up = nullptr;  ///< [m, 2n] bf16 or f16, row stride x_stride
  void* y = nullptr;              ///< [m, n] of the same type, row stride y_stride
  int64_t m = 0;
  int64_t n = 0;
  int64_t x_stride = 0;
  int64_t y_stride = 0;
  DType dtype = DType::kBF16;
  Activation act = Activation::kSilu;
};
void act_mul(const ActMulParams& params, Stream& stream);

/// y[row] = alpha * table[ids[row]], float32. An id outside of [0, vocab) gives zeros.
struct EmbedParams {
  const uint16_t* table = nullptr;  ///< [vocab, n] bf16
  const int32_t* ids = nullptr;     ///< [m]
  const int32_t* chosen = nullptr;  ///< what an id below 0 stands for: chosen[-1 - id]; or null
  float* y = nullptr;               ///< [m, n]
  int64_t m = 0;
  int64_t n = 0;
  int64_t vocab = 0;
  float alpha = 1;
};
void embed(const EmbedParams& params, Stream& stream);

/// y += alpha * x over n float32 values.
void add_scaled(const float* x, float alpha, float* y, int64_t n, Stream& stream);

/// x = cap * tanh(alpha * x / cap), or alpha * x when cap is 0: the logits' divisor and soft cap.
void scale_softcap(float* x, float alpha, float cap, int64_t n, Stream& stream);

/// y[i] = x[rows[i]], rows of `row_bytes` bytes (a multiple of 16), back to back.
void gather_rows(const void* x, const int32_t* rows, void* y, int64_t m, int64_t row_bytes,
                 Stream& stream);

/// Zeroes the listed pages of one pool: pages[i] starts at base + pages[i] * page_bytes (a multiple
/// of 16). A negative entry is passed over, so that a graph may be padded.
void zero_pages(void* base, int64_t page_bytes, const int32_t* pages, int64_t num_pages,
                Stream& stream);

/// Normal values of the given deviation, rounded to bf16: element i is a function of (seed, i)
/// alone. For weights of benchmarks.
void fill_normal(uint16_t* y, int64_t n, uint64_t seed, float deviation, Stream& stream);

}  // namespace foveal::kernels::cuda
