#include "attention/rocket/rocket_isa.h"

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {

extern const RocketKernels kRocketKernels;
const RocketKernels kRocketKernels{
    .window_open = rocket_window_open,
    .window_rows = rocket_window_rows,
    .window_columns = rocket_window_columns,
    .bounds = rocket_bounds,
    .score_open = rocket_score_open,
    .scores = rocket_scores,
    .rank = rocket_rank,
    .top = rocket_top,
    .attend_scratch = rocket_attend_scratch,
    .attend = rocket_attend,
};

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS
