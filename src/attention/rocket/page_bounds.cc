#include "attention/rocket/page_bounds.h"

#include <algorithm>
#include <vector>

#include "attention/rocket/dispatch.h"
#include "base/check.h"
#include "base/math.h"
#include "kernels/attention_dispatch.h"

namespace foveal::attention::rocket {
namespace {

/// A cache page of a sequence with new tokens.
struct Touched {
  int32_t seq = 0;
  int32_t cache_page = 0;  ///< in the sequence's page table
};

}  // namespace

void check_bounds(const KvLayerView& kv, const PageBounds& bounds, std::string_view where) {
  check_page_size(kv.page_size, bounds.page_size, where);
  const int64_t need = bounds_bytes(kv, bounds.page_size, bounds.format);
  FOVEAL_CHECK(bounds.data != nullptr && bounds.bytes_per_page == need, ErrorKind::kInvalidArgument,
               where, "got page bounds of {} bytes a cache page; need {}", bounds.bytes_per_page,
               need);
}

void update_bounds(const KvLayerView& kv, std::span<const kernels::AttentionSeq> seqs,
                   const PageBounds& bounds, Stream& stream) {
  constexpr std::string_view kWhere = "rocket.update_bounds";
  check_cache(kv, kWhere);
  check_bounds(kv, bounds, kWhere);
  std::vector<Touched> touched;
  for (size_t idx = 0; idx < seqs.size(); ++idx) {
    const kernels::AttentionSeq& seq = seqs[idx];
    FOVEAL_CHECK(seq.q_len >= 1 && seq.kv_len >= seq.q_len && seq.pages != nullptr,
                 ErrorKind::kInvalidArgument, kWhere,
                 "got {} new of {} tokens; need at least one, as many keys and a page table",
                 seq.q_len, seq.kv_len);
    const int32_t first = (seq.kv_len - seq.q_len) / kv.page_size;
    for (int32_t page = first; page <= (seq.kv_len - 1) / kv.page_size; ++page) {
      touched.push_back({static_cast<int32_t>(idx), page});
    }
  }
  const auto& isa = rocket_kernels();
  const auto count = static_cast<int64_t>(touched.size());
  stream.pool().run(count, [&](int64_t task, int) {
    const Touched& touch = touched[task];
    const kernels::AttentionSeq& seq = seqs[touch.seq];
    const int32_t begin = touch.cache_page * kv.page_size;
    const int32_t tokens = std::min(kv.page_size, seq.kv_len - begin);
    const int32_t first_new = std::max(0, seq.kv_len - seq.q_len - begin);
    const int32_t id = seq.pages[touch.cache_page];
    for (int32_t head = 0; head < kv.num_kv_heads; ++head) {
      isa.bounds({.k = kv.k_page(id) + kv.page_bytes / kv.num_kv_heads * head,
                  .bounds = bounds.data + id * bounds.bytes_per_page +
                            bounds.bytes_per_page / kv.num_kv_heads * head,
                  .format = kernels::kv_format(kv.dtype),
                  .bound_format = bounds.format,
                  .kind = bounds.kind,
                  .cache_page_size = kv.page_size,
                  .page_size = bounds.page_size,
                  .head_dim = kv.head_dim,
                  .page_begin = first_new / bounds.page_size,
                  .page_end = static_cast<int32_t>(ceil_div(tokens, bounds.page_size)),
                  .num_tokens = tokens});
    }
  });
}

}  // namespace foveal::attention::rocket
