#include "attention/rocket/dispatch.h"

#include <bit>

#include "base/check.h"
#include "kernels/cpu/isa.h"

namespace foveal::attention::rocket {

using kernels::cpu::Isa;

const kernels::cpu::RocketKernels& rocket_kernels() {
#if defined(__x86_64__)
  switch (kernels::cpu::active_isa()) {
    case Isa::kPortable:
      return kernels::cpu::portable::kRocketKernels;
    case Isa::kAvx2:
      return kernels::cpu::avx2::kRocketKernels;
    case Isa::kAvx512:
      return kernels::cpu::avx512::kRocketKernels;
    case Isa::kAvx512Bf16:
      return kernels::cpu::avx512bf16::kRocketKernels;
  }
#endif
  return kernels::cpu::portable::kRocketKernels;
}

Selection OwnedSelection::view() const {
  if (kind == SelectionKind::kAll) return {};
  return {.kind = kind,
          .num_rows = static_cast<int32_t>(offsets.size()) - 1,
          .offsets = offsets.data(),
          .indices = indices.data()};
}

void check_cache(const KvLayerView& kv, std::string_view where) {
  FOVEAL_CHECK(kv.dtype == DType::kBF16 || kv.dtype == DType::kF16 || kv.dtype == DType::kF32,
               ErrorKind::kUnsupported, where, "got a {} cache; need bf16, f16 or f32",
               dtype_name(kv.dtype));
  FOVEAL_CHECK(kv.head_dim >= 2 && kv.head_dim <= 256 && kv.head_dim % 2 == 0,
               ErrorKind::kUnsupported, where, "got head_dim {}; need an even number up to 256",
               kv.head_dim);
  FOVEAL_CHECK(kv.page_size >= 16 && kv.page_size <= 1024 && kv.page_size % 16 == 0,
               ErrorKind::kInvalidArgument, where,
               "got cache pages of {} tokens; need a multiple of 16 up to 1024", kv.page_size);
  FOVEAL_CHECK(kv.num_kv_heads >= 1 && kv.k != nullptr, ErrorKind::kInvalidArgument, where,
               "got a cache of {} KV heads; need at least 1 and their K", kv.num_kv_heads);
}

void check_heads(const KvLayerView& kv, int32_t num_heads, std::string_view where) {
  FOVEAL_CHECK(num_heads >= 1 && num_heads % kv.num_kv_heads == 0, ErrorKind::kInvalidArgument,
               where, "got {} query heads; need a multiple of {} KV heads", num_heads,
               kv.num_kv_heads);
}

void check_page_size(int32_t cache_page_size, int32_t page_size, std::string_view where) {
  FOVEAL_CHECK(page_size >= 1 && std::has_single_bit(static_cast<uint32_t>(page_size)) &&
                   cache_page_size % page_size == 0,
               ErrorKind::kInvalidArgument, where,
               "got {} tokens; need a power of two that divides the cache's pages of {} "
               "(tokens_per_block)",
               page_size, cache_page_size);
}

}  // namespace foveal::attention::rocket
