// Prefill over an e4m3 cache: pieces of the call, each a pass that lays out its keys and values and
// a kernel over them.
#include <algorithm>
#include <bit>

#include "base/check.h"
#include "kernels/cuda/attention_check.h"
#include "kernels/cuda/prefill.h"
#include "kernels/cuda/prefill_expand.h"

namespace foveal::kernels::cuda {
namespace {

using Params = foveal_attention_params;

constexpr std::string_view kWhere = "attention_prefill";

/// What one piece of the call computes; addresses of arrays and tensors moved on.
struct Piece {
  int32_t first_seq, num_seqs, first_kv_head, num_kv_heads;
};

const void* moved(const void* base, int64_t elements, int32_t dtype) {
  return static_cast<const char*>(base) + elements * element_bytes(dtype);
}

template <class T>
T* moved(T* base, int64_t elements) {
  return base == nullptr ? nullptr : base + elements;
}

Params narrowed(Params p, const Piece& piece) {
  const int32_t group = p.num_heads / p.num_kv_heads;
  const int64_t head = int64_t{piece.first_kv_head} * group;
  p.q = moved(p.q, head * p.q_head_stride, p.q_dtype);
  p.out = const_cast<void*>(moved(p.out, head * p.out_head_stride, FOVEAL_BF16));
  p.lse = moved(p.lse, head);
  p.k = moved(p.k, piece.first_kv_head * p.k_head_stride, p.kv_dtype);
  p.v = moved(p.v, piece.first_kv_head * p.v_head_stride, p.kv_dtype);
  p.num_heads = piece.num_kv_heads * group;
  p.num_kv_heads = piece.num_kv_heads;
  p.num_seqs = piece.num_seqs;
  p.cu_q = moved(p.cu_q, piece.first_seq);
  p.kv_len = moved(p.kv_len, piece.first_seq);
  p.page_table = moved(p.page_table, piece.first_seq * p.page_table_stride);
  p.cu_k = moved(p.cu_k, piece.first_seq);
  p.skip_factors = moved(p.skip_factors, piece.first_seq);
  p.threshold_len = moved(p.threshold_len, piece.first_seq);
  p.counters = moved(p.counters, int64_t{piece.first_seq} * 4);
  return p;
}

ExpandCacheParams expansion(const Params& p, int64_t rows, int32_t* starts, std::byte* k_out) {
  ExpandCacheParams out{};
  out.k = static_cast<const uint8_t*>(p.k);
  out.v = static_cast<const uint8_t*>(p.v);
  out.k_page_stride = p.k_page_stride;
  out.k_head_stride = p.k_head_stride;
  out.k_token_stride = p.k_token_stride;
  out.v_page_stride = p.v_page_stride;
  out.v_head_stride = p.v_head_stride;
  out.v_token_stride = p.v_token_stride;
  out.page_table = p.page_table;
  out.page_table_stride = p.page_table_stride;
  out.page_shift =
      p.page_table == nullptr ? 0 : std::countr_zero(static_cast<uint32_t>(p.page_size));
  out.cu_k = p.cu_k;
  out.kv_len = p.kv_len;
  out.cu_q = p.cu_q;
  out.window = p.window;
  out.starts = starts;
  out.num_seqs = p.num_seqs;
  out.num_kv_heads = p.num_kv_heads;
  out.head_dim = p.head_dim;
  out.unit = static_cast<int32_t>(scratch_shape(p).unit);
  out.rows = rows;
  out.k_out = k_out;
  out.v_out = k_out + rows * p.num_kv_heads * p.head_dim * element_bytes(p.q_dtype);
  out.layout = p.q_dtype == FOVEAL_E4M3  ? CacheLayout::kTiles
               : p.q_dtype == FOVEAL_F16 ? CacheLayout::kF16
                                         : CacheLayout::kBf16;
  return out;
}

/// The call over keys and values of q's type, one sequence after the other. Where that is e4m3
/// they are tiles and no rows, and the strides mean nothing.
Params over(Params p, const ExpandCacheParams& scratch) {
  p.kv_dtype = p.q_dtype;
  p.k = scratch.k_out;
  p.v = scratch.v_out;
  p.k_token_stride = p.v_token_stride = p.head_dim;
  p.k_head_stride = p.v_head_stride = scratch.rows * p.head_dim;
  p.page_table = nullptr;
  p.cu_k = scratch.starts;
  p.num_pages = static_cast<int32_t>(scratch.rows);
  return p;
}

}  // namespace

ScratchShape scratch_shape(const Params& p) {
  return {.num_seqs = p.num_seqs,
          .num_kv_heads = p.num_kv_heads,
          .max_kv_len = p.max_kv_len,
          .total_kv_len = p.total_kv_len,
          .key_bytes = int64_t{2} * p.head_dim * element_bytes(p.q_dtype),
          .unit = p.q_dtype == FOVEAL_E4M3 ? foveal::cuda::e4m3_keys(p.head_dim) : 128};
}

void check_scratch(const Params& p) {
  constexpr int32_t kMost = INT32_MAX - 128;  // rounded up to a tile
  FOVEAL_CHECK(p.max_kv_len <= kMost, ErrorKind::kUnsupported, kWhere,
               "got max_kv_len {} of an e4m3 cache; need at most {}", p.max_kv_len, kMost);
}

void prefill_e4m3_cache(const Params& p, void* stream) {
  const ScratchShape shape = scratch_shape(p);
  const auto bytes = static_cast<int64_t>(std::min<size_t>(p.workspace_bytes, INT64_MAX));
  const ScratchPiece size = choose_piece(shape, bytes);
  auto* workspace = static_cast<std::byte*>(p.workspace);
  auto* starts = reinterpret_cast<int32_t*>(workspace + kPrefillCounterBytes);
  for (int64_t seq = 0; seq < p.num_seqs; seq += size.num_seqs) {
    for (int64_t head = 0; head < p.num_kv_heads; head += size.num_kv_heads) {
      const Piece piece{
          .first_seq = static_cast<int32_t>(seq),
          .num_seqs = static_cast<int32_t>(std::min(size.num_seqs, p.num_seqs - seq)),
          .first_kv_head = static_cast<int32_t>(head),
          .num_kv_heads = static_cast<int32_t>(std::min(size.num_kv_heads, p.num_kv_heads - head))};
      const Params part = narrowed(p, piece);
      const ExpandCacheParams scratch =
          expansion(part, size.rows, starts, workspace + scratch_offset(p.num_seqs));
      expand_cache_launch(scratch, stream);
      const PrefillTiles tiles{.k = static_cast<const uint8_t*>(scratch.k_out),
                               .v = static_cast<const uint8_t*>(scratch.v_out),
                               .head_bytes = scratch.rows * p.head_dim};
      launch_prefill(over(part, scratch), p.num_heads, tiles, stream);
    }
  }
}

}  // namespace foveal::kernels::cuda
