#pragma once

#include <cstdint>
#include <string_view>

namespace foveal::kernels::cpu {

/// Instruction-set levels that kernels are compiled for. Each contains the ones before it.
enum class Isa : uint8_t {
  kPortable,    ///< plain C++, the base x86-64 (or any) instruction set
  kAvx2,        ///< AVX2, FMA, F16C
  kAvx512,      ///< F, BW, CD, DQ, VL
  kAvx512Bf16,  ///< + VNNI, VBMI, BF16 (Zen 4, Sapphire Rapids and later)
};

/// The best level of this machine, chosen once; FOVEAL_ISA=portable|avx2|avx512|avx512bf16 lowers
/// it (for diagnosis). Throws kUnsupported when the variable asks for more than the machine has.
Isa active_isa();
Isa machine_isa();
std::string_view isa_name(Isa isa);

/// For tests: what `active_isa` answers from now on. Must not exceed `machine_isa()`.
void set_active_isa(Isa isa);

}  // namespace foveal::kernels::cpu
