#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "foveal/config.h"

namespace foveal::engine {

/// Batch sizes to record, ascending and none above `max_batch_size`, the engine's.
std::vector<int32_t> graph_sizes(const CudaGraphConfig& config, int32_t max_batch_size);

/// The recorded size that a step of `num_seqs` decoding requests runs in: the same one, or with
/// `padding` the next larger one; nothing where there is none.
std::optional<int32_t> choose_graph_size(std::span<const int32_t> sizes, int32_t num_seqs,
                                         bool padding);

/// Pages of a recorded step's table: a power of two, so that a growing text seldom needs another
/// recording, and never above `most`, the longest text's.
int32_t graph_table_stride(int32_t num_pages, int32_t most);

}  // namespace foveal::engine
