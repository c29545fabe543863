#include "kernels/cuda/latent_context.h"

#include <bit>

#include "base/check.h"
#include "kernels/cuda/attention_check.h"
#include "kernels/cuda/latent_context_launch.h"

namespace foveal::kernels::cuda {

void latent_context(const LatentContextParams& p, void* stream) {
  constexpr std::string_view kWhere = "latent_context";
  const auto page_size = static_cast<uint32_t>(p.cache.page_size);
  FOVEAL_CHECK(std::has_single_bit(page_size) && p.num_seqs > 0 && p.num_rows > 0 &&
                   p.page_table != nullptr && p.kv_len != nullptr && p.starts != nullptr &&
                   reinterpret_cast<uintptr_t>(p.rows) % 16 == 0,
               ErrorKind::kInternal, kWhere,
               "got {} rows of {} sequences in pages of {}; need some, pages of a power of two, "
               "aligned rows",
               p.num_rows, p.num_seqs, p.cache.page_size);
  usable_device(kWhere);
  latent_context_launch(p, std::countr_zero(page_size), stream);
}

void head_weights(const HeadWeightsParams& p, void* stream) {
  constexpr std::string_view kWhere = "head_weights";
  FOVEAL_CHECK(p.num_heads > 0 && p.nope_dim > 0 && p.value_dim > 0 && p.rank > 0,
               ErrorKind::kInternal, kWhere, "got {} heads of {} and {} over {}; need some of each",
               p.num_heads, p.nope_dim, p.value_dim, p.rank);
  usable_device(kWhere);
  head_weights_launch(p, stream);
}

}  // namespace foveal::kernels::cuda
