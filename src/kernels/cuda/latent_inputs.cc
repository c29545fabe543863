#include "kernels/cuda/latent_inputs.h"

#include "base/check.h"
#include "kernels/cuda/latent_inputs_launch.h"
#include "kernels/cuda/launch.h"

namespace foveal::kernels::cuda {
namespace {

template <class... T>
bool aligned(const T*... pointers) {
  return (... && (pointers != nullptr && reinterpret_cast<uintptr_t>(pointers) % 16 == 0));
}

void check_rope(const LatentRope& rope, std::string_view where) {
  FOVEAL_CHECK(rope.dim > 0 && rope.dim % 16 == 0 && rope.positions != nullptr &&
                   aligned(rope.cos_table, rope.sin_table),
               ErrorKind::kUnsupported, where,
               "got {} rotating channels; need a multiple of 16, positions and aligned tables",
               rope.dim);
}

}  // namespace

void latent_inputs(const LatentInputsParams& params, Stream& stream) {
  constexpr std::string_view kWhere = "latent_inputs";
  void* const native = native_stream(stream, kWhere);
  const auto& p = params;
  check_rope(p.rope, kWhere);
  FOVEAL_CHECK(p.m >= 0 && p.num_heads > 0 && p.rank > 0 && p.rank % 8 == 0 && p.rank <= 896 &&
                   p.nope_dim >= 0 && p.nope_dim % 8 == 0 && p.rope.dim <= 256,
               ErrorKind::kUnsupported, kWhere,
               "got rank {}, {} heads, {} and {} channels; need multiples of 8, a rank up to 896",
               p.rank, p.num_heads, p.nope_dim, p.rope.dim);
  FOVEAL_CHECK(aligned(p.latents, p.norm, p.rows, p.q, p.absorbed) &&
                   p.latents_stride >= p.rank + p.rope.dim && p.latents_stride % 4 == 0 &&
                   p.q_stride >= int64_t{p.num_heads} * (p.nope_dim + p.rope.dim) &&
                   p.q_stride % 8 == 0,
               ErrorKind::kInternal, kWhere,
               "got strides {} and {}; need whole rows at multiples of 16 bytes", p.latents_stride,
               p.q_stride);
  if (p.m > 0) latent_inputs_launch(p, native);
}

void index_inputs(const IndexInputsParams& params, Stream& stream) {
  constexpr std::string_view kWhere = "index_inputs";
  void* const native = native_stream(stream, kWhere);
  const auto& p = params;
  check_rope(p.rope, kWhere);
  FOVEAL_CHECK(p.m >= 0 && p.num_heads > 0 && p.head_dim >= p.rope.dim && p.head_dim % 8 == 0 &&
                   p.head_dim <= 1024,
               ErrorKind::kUnsupported, kWhere,
               "got {} heads of {}; need a multiple of 8 from {} to 1024", p.num_heads, p.head_dim,
               p.rope.dim);
  FOVEAL_CHECK(
      aligned(p.k, p.weight, p.bias, p.y, p.q) && p.k_stride >= p.head_dim && p.k_stride % 4 == 0 &&
          p.q_stride >= int64_t{p.num_heads} * p.head_dim && p.q_stride % 8 == 0,
      ErrorKind::kInternal, kWhere,
      "got strides {} and {}; need whole rows at multiples of 16 bytes", p.k_stride, p.q_stride);
  if (p.m > 0) index_inputs_launch(p, native);
}

}  // namespace foveal::kernels::cuda
