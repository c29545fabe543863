#pragma once

#include "attention/dsa/index_item.h"

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {

void index_store(const IndexKeys& keys, int32_t position, const float* key);
void index_open(const IndexOpen& item);
size_t index_scratch(int32_t dim);
void index_scores(const IndexScores& item, std::byte* scratch);

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS
