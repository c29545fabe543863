#pragma once

#include "attention/rocket/rocket_item.h"

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {

void rocket_window_open(const RocketWindowItem& item);
void rocket_window_rows(const RocketWindowItem& item);
void rocket_window_columns(const RocketWindowItem& item);
void rocket_bounds(const RocketBoundItem& item);
void rocket_score_open(const RocketScoreItem& item);
void rocket_scores(const RocketScoreItem& item);
void rocket_rank(const RocketRankItem& item);
void rocket_top(const float* ranks, int32_t n, int32_t k, int32_t* out);
size_t rocket_attend_scratch(int32_t head_dim, int32_t num_heads);
void rocket_attend(const RocketAttendItem& item, std::byte* scratch);

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS
