#include "attention/dsa/index_isa.h"

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {

extern const IndexKernels kIndexKernels;
const IndexKernels kIndexKernels{
    .store = index_store, .open = index_open, .scratch = index_scratch, .scores = index_scores};

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS
