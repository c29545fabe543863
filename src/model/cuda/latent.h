#pragma once

#include "attention/step.h"
#include "kernels/cuda/latent_inputs.h"
#include "model/cuda/layer.h"
#include "model/cuda/products.h"
#include "model/cuda/scratch.h"

namespace foveal::model {

/// What a step's latent attention is run with, the same in every layer.
struct LatentRun {
  const ModelConfig& config;
  const ForwardInput& input;
  const DecoderScratch& scratch;
  kernels::cuda::LatentRope rope;
  Products& products;
  attention::AttentionStep& attention;
  bool batch_invariant = false;
};

/// One layer's attention over the normed rows of the scratch; heads of values, side by side, go to
/// its `attention`.
void run_latent(const DeviceLatent& weights, int32_t layer, const LatentRun& run, Stream& stream);

/// `seqs` with what kernels of latent caches read besides, filled in for the rows from `first` on.
kernels::DeviceSeqs with_row_keys(const kernels::DeviceSeqs& seqs, int64_t first,
                                  const DecoderScratch& scratch);

/// Issues what fills it.
void fill_row_keys(const kernels::DeviceSeqs& seqs, int64_t first, const DecoderScratch& scratch,
                   Stream& stream);

}  // namespace foveal::model
