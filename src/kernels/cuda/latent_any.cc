#include "kernels/cuda/latent_any.h"

#include "base/check.h"
#include "kernels/cuda/attention_check.h"
#include "kernels/cuda/latent_launch.h"

namespace foveal::kernels::cuda {
namespace {

constexpr int32_t kMaxRank = 896;
constexpr int32_t kMaxRope = 256;

void check_cache(const foveal_latent_cache& cache, const LatentDims& dims) {
  check_latent_dims(dims);
  FOVEAL_CHECK(cache.dtype == FOVEAL_BF16, ErrorKind::kUnsupported, "latent_any",
               "got cache.dtype {}; need FOVEAL_BF16 for rows of {} and {} channels", cache.dtype,
               dims.rank, dims.rope);
}

}  // namespace

void check_latent_dims(const LatentDims& dims) {
  FOVEAL_CHECK(dims.rank > 0 && dims.rank % 8 == 0 && dims.rank <= kMaxRank && dims.rope > 0 &&
                   dims.rope % 16 == 0 && dims.rope <= kMaxRope,
               ErrorKind::kUnsupported, "latent",
               "got a latent of {} channels and {} that rotate on cuda; need a multiple of 8 up to "
               "{}, and of 16 up to {}",
               dims.rank, dims.rope, kMaxRank, kMaxRope);
}

void latent_any_attention(const foveal_mla_params& params, const LatentDims& dims, void* stream) {
  check_cache(params.cache, dims);
  FOVEAL_INVARIANT(params.lse == nullptr && params.page_table != nullptr);
  FOVEAL_INVARIANT(params.q_row_stride % 8 == 0 && params.q_head_stride % 8 == 0 &&
                   params.out_row_stride % 2 == 0 && params.out_head_stride % 2 == 0);
  usable_device("latent_any");
  launch_latent_any(latent_args(params, dims.width() * 2, /*splits=*/1), dims, stream);
}

void latent_any_store(const foveal_mla_store_params& params, const LatentDims& dims, void* stream) {
  check_cache(params.cache, dims);
  FOVEAL_INVARIANT(params.latent_stride % 8 == 0 && params.rope_stride % 8 == 0);
  usable_device("latent_store");
  launch_latent_store(params, dims, stream);
}

}  // namespace foveal::kernels::cuda
