#pragma once

#include <cuda.h>
#include <driver_types.h>

#include "foveal/kernels_indexer.h"
#include "kernels/cuda/sm90/indexer_args.h"

namespace foveal::kernels::cuda {

void launch_indexer_prepare(const foveal_indexer_prepare_params& params, void* stream);

struct IndexerMaps {
  CUtensorMap q;
  CUtensorMap k;
};

/// Rows of q that one copy brings.
int32_t indexer_query_box(int32_t num_heads, bool paged);
/// Rows that a work item of the ragged kernel has.
int32_t indexer_block_rows(int32_t num_heads);
void launch_indexer_ragged(int32_t num_heads, const foveal::cuda::IndexerArgs& args,
                           const IndexerMaps& maps, int32_t num_sms, void* stream);
void launch_indexer_paged(int32_t num_heads, const foveal::cuda::IndexerArgs& args,
                          const IndexerMaps& maps, int32_t num_sms, void* stream);

}  // namespace foveal::kernels::cuda
