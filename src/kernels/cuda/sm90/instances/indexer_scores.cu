#include "kernels/cuda/indexer_launch.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/sm90/indexer_paged.cuh"
#include "kernels/cuda/sm90/indexer_ragged.cuh"

namespace foveal::kernels::cuda {
namespace {

using foveal::cuda::IndexerArgs;
using foveal::cuda::PagedTraits;
using foveal::cuda::RaggedTraits;

Grid grid_of(int32_t num_sms, int threads, size_t shared_bytes) {
  return {.blocks = {static_cast<unsigned>(num_sms)},
          .threads = {static_cast<unsigned>(threads)},
          .shared_bytes = shared_bytes};
}

template <int kHeads>
void ragged(const IndexerArgs& args, const IndexerMaps& maps, int32_t num_sms, void* stream) {
  using Traits = RaggedTraits<kHeads>;
  launch("indexer_scores", foveal::cuda::indexer_ragged_kernel<Traits>,
         grid_of(num_sms, Traits::kThreads, sizeof(foveal::cuda::RaggedShared<Traits>)), stream,
         args, maps.q, maps.k);
}

template <int kHeads>
void paged(const IndexerArgs& args, const IndexerMaps& maps, int32_t num_sms, void* stream) {
  using Traits = PagedTraits<kHeads>;
  launch("indexer_scores", foveal::cuda::indexer_paged_kernel<Traits>,
         grid_of(num_sms, Traits::kThreads, sizeof(foveal::cuda::PagedShared<Traits>)), stream,
         args, maps.q, maps.k);
}

}  // namespace

int32_t indexer_query_box(int32_t num_heads, bool paged) {
  return paged ? num_heads : RaggedTraits<64>::kColumns;
}

int32_t indexer_block_rows(int32_t num_heads) { return RaggedTraits<64>::kTokens * 64 / num_heads; }

void launch_indexer_ragged(int32_t num_heads, const IndexerArgs& args, const IndexerMaps& maps,
                           int32_t num_sms, void* stream) {
  const auto run = num_heads == 8    ? ragged<8>
                   : num_heads == 16 ? ragged<16>
                   : num_heads == 32 ? ragged<32>
                                     : ragged<64>;
  run(args, maps, num_sms, stream);
}

void launch_indexer_paged(int32_t num_heads, const IndexerArgs& args, const IndexerMaps& maps,
                          int32_t num_sms, void* stream) {
  const auto run = num_heads == 8    ? paged<8>
                   : num_heads == 16 ? paged<16>
                   : num_heads == 32 ? paged<32>
                                     : paged<64>;
  run(args, maps, num_sms, stream);
}

}  // namespace foveal::kernels::cuda
