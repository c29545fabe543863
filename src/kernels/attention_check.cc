#include "kernels/attention_check.h"

#include <cmath>

#include "base/check.h"

namespace foveal::kernels {
namespace {

constexpr int32_t kMaxHeadDim = 256;
constexpr ErrorKind kBad = ErrorKind::kInvalidArgument;

void check_cache(const KvLayerView& kv, std::string_view where) {
  FOVEAL_CHECK(kv.dtype == DType::kBF16 || kv.dtype == DType::kF16 || kv.dtype == DType::kF32,
               ErrorKind::kUnsupported, where, "got a {} cache; need bf16, f16 or f32",
               dtype_name(kv.dtype));
  FOVEAL_CHECK(kv.head_dim >= 2 && kv.head_dim <= kMaxHeadDim && kv.head_dim % 2 == 0,
               ErrorKind::kUnsupported, where, "got head_dim {}; need an even number up to {}",
               kv.head_dim, kMaxHeadDim);
  FOVEAL_CHECK(kv.page_size >= 16 && kv.page_size <= 1024 && kv.page_size % 16 == 0, kBad, where,
               "got page_size {}; need a multiple of 16 up to 1024", kv.page_size);
  FOVEAL_CHECK(kv.num_kv_heads >= 1 && kv.num_kv_heads <= 4096, kBad, where,
               "got {} KV heads; need 1 to 4096", kv.num_kv_heads);
  const int64_t size = kv.dtype == DType::kF32 ? 4 : 2;
  const int64_t need = size * kv.num_kv_heads * kv.head_dim * kv.page_size;
  FOVEAL_CHECK(kv.page_bytes == need, kBad, where, "got pages of {} bytes; need {}", kv.page_bytes,
               need);
  FOVEAL_CHECK(kv.k != nullptr && kv.v != nullptr, kBad, where, "got no cache; need K and V");
}

void check_seq(const AttentionSeq& seq, std::string_view where) {
  FOVEAL_CHECK(seq.q_begin >= 0 && seq.q_len >= 1 && seq.kv_len >= seq.q_len, kBad, where,
               "got {} rows from row {} with {} keys; need at least one row and as many keys",
               seq.q_len, seq.q_begin, seq.kv_len);
  FOVEAL_CHECK(seq.pages != nullptr, kBad, where, "got no page table; need one");
}

}  // namespace

void check_attention(const PagedAttentionParams& params, AttentionPhase phase) {
  const std::string_view where =
      phase == AttentionPhase::kPrefill ? "paged_prefill" : "paged_decode";
  check_cache(params.kv, where);
  const int64_t width = static_cast<int64_t>(params.num_heads) * params.kv.head_dim;
  FOVEAL_CHECK(params.num_heads >= 1 && params.num_heads % params.kv.num_kv_heads == 0, kBad, where,
               "got {} query heads; need a multiple of {} KV heads", params.num_heads,
               params.kv.num_kv_heads);
  FOVEAL_CHECK(params.seqs.empty() || (params.q != nullptr && params.out != nullptr), kBad, where,
               "got no q or out; need both");
  FOVEAL_CHECK(params.q_stride >= width && params.out_stride >= width, kBad, where,
               "got row strides {} and {}; need at least {}", params.q_stride, params.out_stride,
               width);
  FOVEAL_CHECK(std::isfinite(params.softmax_scale), kBad, where,
               "got a softmax scale of {}; need a finite one", params.softmax_scale);
  FOVEAL_CHECK(params.window >= 0, kBad, where, "got window {}; need 0 (none) or more",
               params.window);
  FOVEAL_CHECK(std::isfinite(params.skip_factor) && params.skip_factor >= 0, kBad, where,
               "got skip_factor {}; need a finite number >= 0", params.skip_factor);
  const TileMap& map = params.tile_map;
  FOVEAL_CHECK(map.tiles == nullptr || (params.counters != nullptr && params.seqs.size() == 1 &&
                                        map.stride * kKeyTile >= params.seqs.front().kv_len),
               kBad, where,
               "got a tile map of {} tiles for {} sequences; need counters, one "
               "sequence and a column for each of its key tiles",
               map.stride, params.seqs.size());
  for (const AttentionSeq& seq : params.seqs) {
    check_seq(seq, where);
    if (phase == AttentionPhase::kDecode) {
      FOVEAL_CHECK(seq.q_len == 1, kBad, where, "got {} rows of a sequence; need 1", seq.q_len);
    } else if (params.skip_factor > 0) {
      FOVEAL_CHECK((seq.kv_len - seq.q_len) % kQueryTile == 0, kBad, where,
                   "got a chunk from position {}; need a multiple of {} to skip tiles",
                   seq.kv_len - seq.q_len, kQueryTile);
    }
    FOVEAL_CHECK(params.skip_factor == 0 || seq.threshold_len >= 1, kBad, where,
                 "got threshold_len {}; need at least 1", seq.threshold_len);
  }
}

void check_kv_store(const KvStoreParams& params) {
  constexpr std::string_view kWhere = "kv_store";
  check_cache(params.kv, kWhere);
  const int64_t width = static_cast<int64_t>(params.kv.num_kv_heads) * params.kv.head_dim;
  FOVEAL_CHECK(params.seqs.empty() || (params.k != nullptr && params.v != nullptr), kBad, kWhere,
               "got no k or v; need both");
  FOVEAL_CHECK(params.k_stride >= width && params.v_stride >= width, kBad, kWhere,
               "got row strides {} and {}; need at least {}", params.k_stride, params.v_stride,
               width);
  for (const AttentionSeq& seq : params.seqs) check_seq(seq, kWhere);
}

}  // namespace foveal::kernels
