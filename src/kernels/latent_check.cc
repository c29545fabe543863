#include "kernels/latent_check.h"

#include <cmath>

#include "base/check.h"

namespace foveal::kernels {
namespace {

constexpr int32_t kMaxRow = 1024;
constexpr ErrorKind kBad = ErrorKind::kInvalidArgument;

void check_seq(const AttentionSeq& seq, std::string_view where) {
  FOVEAL_CHECK(seq.q_begin >= 0 && seq.q_len >= 1 && seq.kv_len >= seq.q_len, kBad, where,
               "got {} rows from row {} with {} keys; need at least one row and as many keys",
               seq.q_len, seq.q_begin, seq.kv_len);
  FOVEAL_CHECK(seq.evicted == 0, ErrorKind::kUnsupported, where,
               "got a sequence with {} evicted keys; need all of them", seq.evicted);
  FOVEAL_CHECK(seq.pages != nullptr, kBad, where, "got no page table; need one");
}

void check_sets(const TokenSets& sets, std::span<const AttentionSeq> seqs, std::string_view where) {
  FOVEAL_CHECK(seqs.empty() || (sets.offsets != nullptr && sets.tokens != nullptr), kBad, where,
               "got sets without offsets or tokens; need both");
  int64_t row = 0;
  for (const AttentionSeq& seq : seqs) {
    for (int32_t idx = 0; idx < seq.q_len; ++idx, ++row) {
      const int32_t position = seq.kv_len - seq.q_len + idx;
      const int64_t begin = sets.offsets[row];
      const int64_t end = sets.offsets[row + 1];
      FOVEAL_CHECK(begin >= 0 && begin < end && end - begin <= position + 1, kBad, where,
                   "got a set of {} keys for position {}; need 1 to {}", end - begin, position,
                   position + 1);
      // In between they ascend: the caller's promise, checked where it is cheap.
      FOVEAL_CHECK(sets.tokens[begin] >= 0 && sets.tokens[end - 1] <= position, kBad, where,
                   "got keys {} to {} for position {}; need 0 to {}", sets.tokens[begin],
                   sets.tokens[end - 1], position, position);
      for (int64_t at = begin + 1; at < end; ++at) {
        FOVEAL_DCHECK(sets.tokens[at - 1] < sets.tokens[at]);
      }
    }
  }
}

}  // namespace

void check_latent_cache(const KvLayerView& kv, std::string_view where) {
  FOVEAL_CHECK(kv.dtype == DType::kBF16 || kv.dtype == DType::kF16 || kv.dtype == DType::kF32,
               ErrorKind::kUnsupported, where, "got a {} cache; need bf16, f16 or f32",
               dtype_name(kv.dtype));
  FOVEAL_CHECK(kv.num_kv_heads == 1, kBad, where, "got {} KV heads; need 1 of a latent cache",
               kv.num_kv_heads);
  FOVEAL_CHECK(kv.head_dim >= 2 && kv.head_dim <= kMaxRow && kv.head_dim % 2 == 0,
               ErrorKind::kUnsupported, where, "got rows of {} channels; need an even number to {}",
               kv.head_dim, kMaxRow);
  FOVEAL_CHECK(kv.value_dim >= 2 && kv.value_dim <= kv.head_dim && kv.value_dim % 2 == 0,
               ErrorKind::kUnsupported, where, "got value_dim {}; need an even number up to {}",
               kv.value_dim, kv.head_dim);
  FOVEAL_CHECK(kv.page_size >= 16 && kv.page_size <= 1024 && kv.page_size % 16 == 0, kBad, where,
               "got page_size {}; need a multiple of 16 up to 1024", kv.page_size);
  const int64_t need = int64_t{kv.dtype == DType::kF32 ? 4 : 2} * kv.head_dim * kv.page_size;
  FOVEAL_CHECK(kv.page_bytes == need, kBad, where, "got pages of {} bytes; need {}", kv.page_bytes,
               need);
  FOVEAL_CHECK(kv.k != nullptr, kBad, where, "got no cache; need one");
}

void check_latent(const LatentAttentionParams& params) {
  constexpr std::string_view kWhere = "latent_attention";
  check_latent_cache(params.kv, kWhere);
  FOVEAL_CHECK(params.num_heads >= 1 && params.num_heads <= 4096, kBad, kWhere,
               "got {} heads; need 1 to 4096", params.num_heads);
  FOVEAL_CHECK(params.seqs.empty() || (params.q != nullptr && params.out != nullptr), kBad, kWhere,
               "got no q or out; need both");
  const int64_t q_width = int64_t{params.num_heads} * params.kv.head_dim;
  const int64_t out_width = int64_t{params.num_heads} * params.kv.value_dim;
  FOVEAL_CHECK(params.q_stride >= q_width && params.out_stride >= out_width, kBad, kWhere,
               "got row strides {} and {}; need at least {} and {}", params.q_stride,
               params.out_stride, q_width, out_width);
  FOVEAL_CHECK(std::isfinite(params.softmax_scale), kBad, kWhere,
               "got a softmax scale of {}; need a finite one", params.softmax_scale);
  for (const AttentionSeq& seq : params.seqs) check_seq(seq, kWhere);
  if (params.sets != nullptr) check_sets(*params.sets, params.seqs, kWhere);
}

void check_latent_store(const LatentStoreParams& params) {
  constexpr std::string_view kWhere = "latent_store";
  check_latent_cache(params.kv, kWhere);
  FOVEAL_CHECK(params.seqs.empty() || params.rows != nullptr, kBad, kWhere,
               "got no rows; need them");
  FOVEAL_CHECK(params.stride >= params.kv.head_dim, kBad, kWhere,
               "got row stride {}; need at least {}", params.stride, params.kv.head_dim);
  for (const AttentionSeq& seq : params.seqs) check_seq(seq, kWhere);
}

}  // namespace foveal::kernels
