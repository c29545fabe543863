#pragma once

#include "foveal/kernels_indexer.h"

// The entries of foveal/kernels_indexer.h for C++ callers: what they refuse is thrown.

namespace foveal::kernels::cuda {

void indexer_prepare(const foveal_indexer_prepare_params& params, void* stream);
void indexer_scores(const foveal_indexer_scores_params& params, void* stream);

void indexer_prepare_check(const foveal_indexer_prepare_params& params);
void indexer_scores_check(const foveal_indexer_scores_params& params);

}  // namespace foveal::kernels::cuda
