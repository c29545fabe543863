#include "engine/graph_sizes.h"

#include <algorithm>
#include <bit>

#include "base/check.h"

namespace foveal::engine {

std::vector<int32_t> graph_sizes(const CudaGraphConfig& config, int32_t max_batch_size) {
  std::vector<int32_t> sizes = config.batch_sizes;
  const int64_t wanted = config.max_batch_size > 0 ? config.max_batch_size : max_batch_size;
  const auto most = static_cast<int32_t>(std::min<int64_t>(wanted, max_batch_size));
  if (sizes.empty()) {
    // A padded row costs its share of the step: at most a third of it below 8 rows, and less above.
    constexpr int32_t kStep = 8;
    for (const int32_t size : {1, 2, 4}) sizes.push_back(size);
    for (int32_t size = kStep; size < most; size += kStep) sizes.push_back(size);
    sizes.push_back(most);
  }
  std::erase_if(sizes, [&](int32_t size) { return size < 1 || size > most; });
  std::sort(sizes.begin(), sizes.end());
  sizes.erase(std::unique(sizes.begin(), sizes.end()), sizes.end());
  return sizes;
}

std::optional<int32_t> choose_graph_size(std::span<const int32_t> sizes, int32_t num_seqs,
                                         bool padding) {
  const auto found = std::lower_bound(sizes.begin(), sizes.end(), num_seqs);
  if (found == sizes.end() || (*found != num_seqs && !padding)) return std::nullopt;
  return *found;
}

int32_t graph_table_stride(int32_t num_pages, int32_t most) {
  FOVEAL_INVARIANT(num_pages >= 1 && num_pages <= most);
  const uint32_t power = std::bit_ceil(static_cast<uint32_t>(num_pages));
  return static_cast<int32_t>(std::min<uint32_t>(power, static_cast<uint32_t>(most)));
}

}  // namespace foveal::engine
