#include <algorithm>

#include "kernels/cuda/device/pdl.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/rocket_launch.h"
#include "kernels/cuda/sm90/page_bounds.cuh"

namespace foveal::kernels::cuda {
namespace {

constexpr int kBoundWarps = 8;

// Computes: least and largest value of each channel over each page's keys, or mean less and plus
//   half the standard deviation; rounded outward.
// In/out: foveal_bounds_params; only pages with new tokens are written.
// Units: a page is page_tokens consecutive tokens of a sequence.
// Launch: a warp a (sequence, KV head, page), 8 a CTA.
// Needs: any GPU; keys are not NaN.
// Numerics: from the keys as stored, so a page may be done again at any time; tokens past the
//   length count for nothing.
// Source: RocketKV (arXiv 2502.14051) stage two; outward rounding is ours.
// Measured: docs/kernels/cuda_rocket.md.
template <int kBoundBytes>
__global__ void __launch_bounds__(kBoundWarps * 32)
    rocket_bounds_kernel(const __grid_constant__ foveal_bounds_params p) {
  wait_for_previous();
  let_next_start();
  const auto seq = static_cast<int32_t>(blockIdx.z);
  const auto head = static_cast<int64_t>(blockIdx.y);
  const int32_t kv_len = p.kv_len[seq];
  const int32_t fresh = p.cu_q != nullptr ? p.cu_q[seq + 1] - p.cu_q[seq] : kv_len;
  const int32_t tokens = p.bounds.page_tokens;
  const int32_t page = max(kv_len - fresh, 0) / tokens +
                       static_cast<int32_t>(blockIdx.x * kBoundWarps + threadIdx.x / 32);
  if (fresh <= 0 || page * tokens >= kv_len) return;
  const int32_t cache_page = p.page_table[seq * p.page_table_stride + page * tokens / p.page_size];
  const int32_t within = page * tokens % p.page_size;
  const int64_t key_bytes = p.kv_dtype == FOVEAL_E4M3 ? 1 : 2;
  const char* keys =
      static_cast<const char*>(p.k) +
      (cache_page * p.k_page_stride + head * p.k_head_stride + within * p.k_token_stride) *
          key_bytes;
  char* to = static_cast<char*>(p.bounds.data) +
             (cache_page * p.bounds.page_stride +
              (head * (p.page_size / tokens) + within / tokens) * 2 * p.head_dim) *
                 kBoundBytes;
  make_bounds<kBoundBytes, 1>(keys, p.k_token_stride * key_bytes, p.kv_dtype, p.bounds.kind,
                              min(tokens, kv_len - page * tokens), p.head_dim,
                              static_cast<int>(threadIdx.x) % 32,
                              [&](int32_t channel, auto least, auto most) {
                                put_bounds<kBoundBytes>(to, p.head_dim, channel, least, most);
                              });
}

}  // namespace

void launch_rocket_bounds(const foveal_bounds_params& params, void* stream) {
  // New tokens may begin in the middle of a page.
  const int32_t pages = (params.max_q_len - 1) / params.bounds.page_tokens + 2;
  const Grid grid{.blocks = dim3(static_cast<unsigned>((pages + kBoundWarps - 1) / kBoundWarps),
                                 static_cast<unsigned>(params.num_kv_heads),
                                 static_cast<unsigned>(params.num_seqs)),
                  .threads = dim3(kBoundWarps * 32)};
  const auto kernel =
      params.bounds.dtype == FOVEAL_BOUND_BF16 ? rocket_bounds_kernel<2> : rocket_bounds_kernel<1>;
  launch("rocket_bounds", kernel, grid, stream, params);
}

}  // namespace foveal::kernels::cuda
