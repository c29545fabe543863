// Prefill by way of scratch memory: pieces of the call, each a pass that lays out keys and values
// of an e4m3 cache where there is one, one that votes in int8 where that is asked for, and a kernel
// over them.
#include <algorithm>
#include <optional>

#include "base/check.h"
#include "kernels/cuda/attention_check.h"
#include "kernels/cuda/key_args.h"
#include "kernels/cuda/prefill.h"
#include "kernels/cuda/prefill_expand.h"
#include "kernels/cuda/prefill_plan.h"
#include "kernels/cuda/prefill_vote.h"

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
  ExpandCacheParams out = cached_keys(p);
  out.v = static_cast<const uint8_t*>(p.v);
  out.v_page_stride = p.v_page_stride;
  out.v_head_stride = p.v_head_stride;
  out.v_token_stride = p.v_token_stride;
  out.starts = starts;
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

bool votes_in_int8(const Params& p) {
  return (p.flags & FOVEAL_ATTENTION_INT8_VOTES) != 0 && p.skip_factor > 0;
}

constexpr int64_t kMostKeptBytes = int64_t{1} << 40;

int64_t cache_key_bytes(const Params& p) {
  return int64_t{2} * p.head_dim * element_bytes(p.q_dtype);
}

int32_t words_a_unit(const Params& p) {
  return foveal::cuda::kept_words(p.max_kv_len, foveal::cuda::prefill_keys(p.head_dim));
}

std::optional<int64_t> kept_tiles_bytes(const Params& p) {
  return kept_bits_bytes(p.num_rows, p.num_seqs, p.num_heads, p.max_kv_len, p.head_dim);
}

/// `rows` of scratch a KV head.
void run_piece(Params part, int64_t lse_row_stride, const ScratchShape& shape, int64_t rows,
               void* stream) {
  auto* workspace = static_cast<std::byte*>(part.workspace);
  auto* starts = reinterpret_cast<int32_t*>(workspace + kPrefillCounterBytes);
  std::byte* keys = workspace + scratch_offset(shape);
  PrefillTiles tiles;
  if (part.kv_dtype == FOVEAL_E4M3) {
    const ExpandCacheParams scratch = expansion(part, rows, starts, keys);
    expand_cache_launch(scratch, stream);
    tiles = {.k = static_cast<const uint8_t*>(scratch.k_out),
             .v = static_cast<const uint8_t*>(scratch.v_out),
             .head_bytes = rows * part.head_dim};
    part = over(part, scratch);
    keys += rows * part.num_kv_heads * cache_key_bytes(part);
  }
  foveal::cuda::KeptTiles kept;
  if (votes_in_int8(part)) {
    kept = {.bits = reinterpret_cast<uint32_t*>(workspace + kept_offset(shape.num_seqs)),
            .words = words_a_unit(part)};
    const VoteScratch scratch{.starts = starts,
                              .keys = keys,
                              .rows = rows,
                              .counter = reinterpret_cast<uint32_t*>(workspace + kVoteCounterAt)};
    prefill_vote(part, scratch, kept, stream);
    part.skip_factor = 0;
    part.counters = nullptr;
  }
  launch_prefill(part, lse_row_stride, tiles, kept, stream);
}

}  // namespace

ExpandCacheParams cached_keys(const Params& p) {
  ExpandCacheParams out{};
  set_sequences(out, p);
  const int64_t bytes = element_bytes(p.kv_dtype);
  out.k = static_cast<const uint8_t*>(p.k);
  out.k_page_stride = p.k_page_stride * bytes;
  out.k_head_stride = p.k_head_stride * bytes;
  out.k_token_stride = p.k_token_stride * bytes;
  out.cu_k = p.cu_k;
  out.cu_q = p.cu_q;
  out.window = p.window;
  out.num_kv_heads = p.num_kv_heads;
  out.head_dim = p.head_dim;
  return out;
}

bool needs_scratch(const Params& p) { return p.kv_dtype == FOVEAL_E4M3 || votes_in_int8(p); }

ScratchShape scratch_shape(const Params& p) {
  ScratchShape shape{.num_seqs = p.num_seqs,
                     .num_kv_heads = p.num_kv_heads,
                     .max_kv_len = p.max_kv_len,
                     .total_kv_len = p.total_kv_len,
                     .unit = p.q_dtype == FOVEAL_E4M3 ? foveal::cuda::e4m3_keys(p.head_dim) : 128};
  if (p.kv_dtype == FOVEAL_E4M3) shape.key_bytes = cache_key_bytes(p);
  if (votes_in_int8(p)) {
    shape.key_bytes += vote_key_bytes(p.head_dim);
    shape.kept_bytes = kept_tiles_bytes(p).value_or(kMostKeptBytes);
  }
  return shape;
}

void check_scratch(const Params& p) {
  constexpr int32_t kMost = INT32_MAX - 128;  // rounded up to a tile
  FOVEAL_CHECK(p.max_kv_len <= kMost, ErrorKind::kUnsupported, kWhere,
               "got max_kv_len {} of keys that scratch holds; need at most {}", p.max_kv_len,
               kMost);
  if (!votes_in_int8(p)) return;
  FOVEAL_CHECK(p.q_dtype != FOVEAL_E4M3, ErrorKind::kUnsupported, kWhere,
               "got int8 votes of e4m3 queries; need bf16 or f16");
  const std::optional<int64_t> kept = kept_tiles_bytes(p);
  FOVEAL_CHECK(kept && *kept <= kMostKeptBytes, ErrorKind::kUnsupported, kWhere,
               "got {} rows of {} heads over up to {} keys; need at most {} bytes of a bit a tile",
               p.num_rows, p.num_heads, p.max_kv_len, kMostKeptBytes);
}

void prefill_by_scratch(const Params& p, void* stream) {
  const ScratchShape shape = scratch_shape(p);
  const auto bytes = static_cast<int64_t>(std::min<size_t>(p.workspace_bytes, INT64_MAX));
  const ScratchPiece size = choose_piece(shape, bytes);
  for (int64_t seq = 0; seq < p.num_seqs; seq += size.num_seqs) {
    for (int64_t head = 0; head < p.num_kv_heads; head += size.num_kv_heads) {
      const Piece piece{
          .first_seq = static_cast<int32_t>(seq),
          .num_seqs = static_cast<int32_t>(std::min(size.num_seqs, p.num_seqs - seq)),
          .first_kv_head = static_cast<int32_t>(head),
          .num_kv_heads = static_cast<int32_t>(std::min(size.num_kv_heads, p.num_kv_heads - head))};
      run_piece(narrowed(p, piece), p.num_heads, shape, size.rows, stream);
    }
  }
}

}  // namespace foveal::kernels::cuda
