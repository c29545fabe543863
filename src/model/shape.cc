#include "model/shape.h"

namespace foveal::model {

attention::ModelShape shape_of(const ModelConfig& config) {
  attention::ModelShape out{.num_layers = config.num_layers,
                            .num_heads = config.num_heads,
                            .num_kv_heads = config.num_kv_heads,
                            .head_dim = config.head_dim,
                            .windows = config.windows};
  if (config.latent) {
    out.num_kv_heads = 1;
    out.head_dim = config.latent->width();
    out.value_dim = config.latent->kv_rank;
  }
  if (config.indexer) {
    out.indexer = attention::IndexerShape{.num_heads = config.indexer->num_heads,
                                          .head_dim = config.indexer->head_dim,
                                          .topk = config.indexer->topk,
                                          .rope_interleave = config.indexer->rope_interleave,
                                          .full = config.indexer->full};
  }
  return out;
}

}  // namespace foveal::model
