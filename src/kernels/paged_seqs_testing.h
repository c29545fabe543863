#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "base/math.h"
#include "kernels/paged_attention.h"

namespace foveal::kernels::testing {

/// Sequences of {q_len, kv_len} in shuffled pages, two of which are nobody's. Keys of one sequence
/// come behind those of the one before, and so do rows of queries, which are a sequence's last.
struct PagedSeqs {
  PagedSeqs(std::span<const std::pair<int32_t, int32_t>> lens, int32_t page_size,
            std::mt19937_64& rng) {
    for (const auto& [q_len, kv_len] : lens) {
      num_pages += static_cast<int32_t>(ceil_div(kv_len, page_size));
    }
    std::vector<int32_t> ids(static_cast<size_t>(num_pages));
    std::iota(ids.begin(), ids.end(), 0);
    std::shuffle(ids.begin(), ids.end(), rng);
    auto next = ids.begin();
    for (const auto& [q_len, kv_len] : lens) {
      const int64_t count = ceil_div(kv_len, page_size);
      pages.emplace_back(next, next + count);
      next += count;
      const int32_t* table = pages.back().data();
      queries.push_back({.q_begin = num_rows,
                         .q_len = q_len,
                         .kv_len = kv_len,
                         .threshold_len = kv_len,
                         .pages = table});
      stores.push_back({.q_begin = num_keys, .q_len = kv_len, .kv_len = kv_len, .pages = table});
      num_rows += q_len;
      num_keys += kv_len;
    }
  }

  std::vector<AttentionSeq> queries;
  std::vector<AttentionSeq> stores;         ///< of all keys
  std::vector<std::vector<int32_t>> pages;  ///< what the two point into
  int32_t num_pages = 2;
  int32_t num_rows = 0;
  int32_t num_keys = 0;
};

}  // namespace foveal::kernels::testing
