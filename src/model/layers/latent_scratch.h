#pragma once

#include "model/layers/activations.h"

namespace foveal::model {

/// What latent attention needs beside q (whole heads), k (latent rows) and out (heads of values).
struct LatentScratch {
  Activation q_low;          ///< [rows, q_rank]
  Activation absorbed;       ///< [rows, num_heads, latent width]
  Activation values;         ///< [rows, num_heads, kv_rank]
  Activation index_q;        ///< [rows, index heads, index head_dim]
  Activation index_k;        ///< [rows, index head_dim]
  Activation index_weights;  ///< [rows, index heads]
};

}  // namespace foveal::model
