#include "attention/rocket/compact.h"

#include <algorithm>
#include <cstring>

#include "attention/rocket/dispatch.h"
#include "base/check.h"
#include "base/math.h"

namespace foveal::attention::rocket {
namespace {

constexpr std::string_view kWhere = "rocket.compact";

/// One KV head's part of a page that is written, and the tokens that go there.
struct Target {
  std::byte* k = nullptr;
  std::byte* v = nullptr;
  const int32_t* tokens = nullptr;
  int32_t num_tokens = 0;
};

template <class Cell>
void copy_cells(std::byte* to, const std::byte* from, int64_t stride, int64_t count) {
  for (int64_t at = 0; at < count * stride; at += stride) {
    std::memcpy(to + at, from + at, sizeof(Cell));
  }
}

void copy_cells(std::byte* to, const std::byte* from, int64_t bytes, int64_t stride,
                int64_t count) {
  if (bytes == 2) {
    copy_cells<uint16_t>(to, from, stride, count);
  } else {
    copy_cells<uint32_t>(to, from, stride, count);
  }
}

/// base/kv_view.h: K lies by channel pairs, V by token pairs.
class Copy {
 public:
  Copy(const KvLayerView& kv, const int32_t* from_pages)
      : kv_(kv),
        from_pages_(from_pages),
        pair_(kv_pair(kv.dtype)),
        size_(dtype_info(kv.dtype).bytes) {}

  void run(const Target& target, int32_t head) const {
    const int64_t offset = kv_.page_bytes / kv_.num_kv_heads * head;
    const int64_t cell = pair_ * size_;  // of K
    for (int32_t slot = 0; slot < target.num_tokens; ++slot) {
      const int32_t token = target.tokens[slot];
      const int32_t page = from_pages_[token / kv_.page_size];
      const int32_t from = token % kv_.page_size;
      copy_cells(target.k + slot * cell, kv_.k_page(page) + offset + from * cell, cell,
                 kv_.page_size * cell, kv_.head_dim / pair_);
      copy_cells(target.v + v_row(slot), kv_.v_page(page) + offset + v_row(from), size_,
                 pair_ * size_, kv_.head_dim);
    }
  }

 private:
  int64_t v_row(int32_t slot) const {
    return (int64_t{slot} / pair_ * kv_.head_dim * pair_ + slot % pair_) * size_;
  }

  const KvLayerView& kv_;
  const int32_t* from_pages_;
  int64_t pair_;
  int64_t size_;
};

}  // namespace

void compact(const KvLayerView& kv, const int32_t* from_pages, const Selection& kept,
             const int32_t* to_pages, Stream& stream) {
  check_cache(kv, kWhere);
  FOVEAL_CHECK(kept.kind == SelectionKind::kTokens && kept.num_rows == kv.num_kv_heads,
               ErrorKind::kInvalidArgument, kWhere,
               "got a selection of {} rows; need tokens for each of {} KV heads", kept.num_rows,
               kv.num_kv_heads);
  const int32_t num_tokens = kept.offsets[1] - kept.offsets[0];
  for (int32_t head = 0; head < kept.num_rows; ++head) {
    FOVEAL_CHECK(kept.offsets[head + 1] - kept.offsets[head] == num_tokens,
                 ErrorKind::kInvalidArgument, kWhere, "got {} tokens of KV head {}; need {}",
                 kept.offsets[head + 1] - kept.offsets[head], head, num_tokens);
  }
  const Copy copy(kv, from_pages);
  const int64_t num_pages = ceil_div(num_tokens, kv.page_size);
  stream.pool().run(num_pages * kv.num_kv_heads, [&](int64_t task, int) {
    const auto head = static_cast<int32_t>(task / num_pages);
    const int64_t begin = task % num_pages * kv.page_size;
    const int64_t offset = kv.page_bytes / kv.num_kv_heads * head;
    const int32_t page = to_pages[task % num_pages];
    copy.run(
        {.k = kv.k_page(page) + offset,
         .v = kv.v_page(page) + offset,
         .tokens = kept.indices + kept.offsets[head] + begin,
         .num_tokens = static_cast<int32_t>(std::min<int64_t>(kv.page_size, num_tokens - begin))},
        head);
  });
}

}  // namespace foveal::attention::rocket
