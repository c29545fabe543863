#include "kernels/cpu/isa.h"

#include <array>
#include <atomic>
#include <cstdlib>

#include "base/check.h"

namespace foveal::kernels::cpu {
namespace {

constexpr std::array<std::string_view, 4> kNames{"portable", "avx2", "avx512", "avx512bf16"};

Isa detect() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("f16c") && __builtin_cpu_supports("bmi2");
  if (!avx2) return Isa::kPortable;
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl");
  if (!avx512) return Isa::kAvx2;
  const bool bf16 = __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni") &&
                    __builtin_cpu_supports("avx512vbmi");
  return bf16 ? Isa::kAvx512Bf16 : Isa::kAvx512;
#else
  return Isa::kPortable;
#endif
}

Isa from_environment() {
  const char* text = std::getenv("FOVEAL_ISA");
  if (text == nullptr) return machine_isa();
  for (size_t idx = 0; idx < kNames.size(); ++idx) {
    if (kNames[idx] != text) continue;
    const Isa isa = static_cast<Isa>(idx);
    FOVEAL_CHECK(isa <= machine_isa(), ErrorKind::kUnsupported, "FOVEAL_ISA",
                 "got {}; need at most {} on this machine", text, isa_name(machine_isa()));
    return isa;
  }
  fail(ErrorKind::kInvalidArgument, "FOVEAL_ISA",
       "got '{}'; need portable, avx2, avx512 or avx512bf16", text);
}

std::atomic<int> forced{-1};

}  // namespace

Isa machine_isa() {
  static const Isa isa = detect();
  return isa;
}

Isa active_isa() {
  if (const int isa = forced.load(std::memory_order_relaxed); isa >= 0) {
    return static_cast<Isa>(isa);
  }
  static const Isa isa = from_environment();
  return isa;
}

std::string_view isa_name(Isa isa) { return kNames.at(static_cast<size_t>(isa)); }

void set_active_isa(Isa isa) {
  FOVEAL_INVARIANT(isa <= machine_isa());
  forced.store(static_cast<int>(isa));
}

}  // namespace foveal::kernels::cpu
