#pragma once

#include "kernels/cpu/attention_item.h"

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {

size_t attention_prefill_scratch(int32_t head_dim);
void attention_prefill(const PrefillItem& item, std::byte* scratch, TileCounts& counts);

size_t attention_decode_scratch(int32_t head_dim, int32_t num_heads);
void attention_decode(const DecodeItem& item, std::byte* scratch, TileCounts& counts);
void attention_combine(const CombineItem& item);
void attention_store(const StoreItem& item);

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS
