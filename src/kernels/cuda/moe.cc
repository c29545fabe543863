#include "kernels/cuda/moe.h"

#include "base/check.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/moe_launch.h"

namespace foveal::kernels::cuda {
namespace {

bool aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }
bool is_output(DType dtype) { return dtype == DType::kBF16 || dtype == DType::kF32; }

}  // namespace

void moe_route(const MoeRouteParams& params, Stream& stream) {
  void* const native = native_stream(stream, "moe_route");
  const auto& p = params;
  FOVEAL_CHECK(p.m >= 0 && p.num_experts > 0 && p.num_experts <= kMaxExperts && p.k > 0 &&
                   p.k <= p.num_experts && p.k <= kMaxExpertsPerToken &&
                   p.logits_stride >= p.num_experts,
               ErrorKind::kUnsupported, "moe_route",
               "got {} of {} experts, stride {}; need at most {} of {}", p.k, p.num_experts,
               p.logits_stride, kMaxExpertsPerToken, kMaxExperts);
  const int32_t groups = p.num_groups;
  FOVEAL_CHECK(
      !p.sigmoid ||
          (p.bias != nullptr && groups >= 1 && groups <= 32 && p.num_experts % groups == 0 &&
           (groups == 1 || p.num_experts / groups >= 2) && p.topk_groups >= 1 &&
           p.topk_groups <= groups && p.k <= p.num_experts / groups * p.topk_groups),
      ErrorKind::kUnsupported, "moe_route",
      "got {} of {} groups for {} of {} experts; need at most 32 groups, of 2 or more, that "
      "hold them",
      p.topk_groups, groups, p.k, p.num_experts);
  if (p.m > 0) moe_route_launch(p, native);
}

void moe_sort(const MoeSortParams& params, Stream& stream) {
  void* const native = native_stream(stream, "moe_sort");
  const auto& p = params;
  FOVEAL_CHECK(p.num_slots >= 0 && p.num_slots < (int64_t{1} << 31) && p.num_experts > 0 &&
                   p.num_experts <= kMaxExperts,
               ErrorKind::kUnsupported, "moe_sort", "got {} slots, {} experts; need at most {}",
               p.num_slots, p.num_experts, kMaxExperts);
  moe_sort_launch(p, native);
}

namespace {

void check_grouped_types(const GroupedGemmParams& p) {
  const bool fp8 = p.dtype == DType::kF8E4M3;
  const bool by_block = p.scaling == GemmScaling::kBlock;
  FOVEAL_CHECK(fp8 ? (by_block || p.scaling == GemmScaling::kRow) && p.weight_scale != nullptr
                   : p.dtype == DType::kBF16 && p.scaling == GemmScaling::kNone,
               ErrorKind::kInternal, "grouped_gemm",
               "got {} with scaling {}; need bf16 without, or f8_e4m3 with scales a row or a block",
               dtype_name(p.dtype), static_cast<int>(p.scaling));
  if (!fp8) return;
  const bool tiles = p.route == GemmRoute::kLibrary && p.x_scale != nullptr &&
                     p.x_stride % 16 == 0 && (!by_block || p.n % 128 == 0);
  FOVEAL_CHECK(
      p.k % 16 == 0 && (tiles || p.route == GemmRoute::kDecode), ErrorKind::kUnsupported,
      "grouped_gemm",
      "got f8_e4m3, n {}, k {}, route {}; need k a multiple of 16; for tiles e4m3 x, and n "
      "a multiple of 128 with scales by block",
      p.n, p.k, static_cast<int>(p.route));
}

}  // namespace

void grouped_gemm(const GroupedGemmParams& params, Stream& stream) {
  void* const native = native_stream(stream, "grouped_gemm");
  const auto& p = params;
  FOVEAL_CHECK(
      p.num_slots >= 0 && p.num_experts > 0 && p.num_experts <= kMaxExperts && p.n > 0 &&
          p.n % 8 == 0 && p.k > 0 && p.k % 8 == 0 && p.x_divisor > 0,
      ErrorKind::kUnsupported, "grouped_gemm",
      "got {} slots, {} experts, n {}, k {}, x_divisor {}; need at most {} experts, n and k "
      "multiples of 8",
      p.num_slots, p.num_experts, p.n, p.k, p.x_divisor, kMaxExperts);
  FOVEAL_CHECK(aligned(p.x) && aligned(p.weight) && aligned(p.y) && p.x_stride % 8 == 0 &&
                   p.x_stride >= p.k && p.y_stride % 8 == 0 && p.y_stride >= p.n &&
                   is_output(p.y_dtype),
               ErrorKind::kInternal, "grouped_gemm",
               "got strides {} and {}, y {}; need multiples of 8, aligned pointers, bf16 or f32",
               p.x_stride, p.y_stride, dtype_name(p.y_dtype));
  check_grouped_types(p);
  if (p.num_slots > 0) grouped_gemm_launch(p, native);
}

void moe_combine(const MoeCombineParams& params, Stream& stream) {
  void* const native = native_stream(stream, "moe_combine");
  const auto& p = params;
  FOVEAL_CHECK(p.m >= 0 && p.n > 0 && p.n % 8 == 0 && p.k > 0 && p.y_stride % 8 == 0 &&
                   p.y_stride >= p.n && p.out_stride % 4 == 0 && p.out_stride >= p.n &&
                   aligned(p.y) && aligned(p.out) && is_output(p.y_dtype),
               ErrorKind::kInternal, "moe_combine",
               "got n {}, strides {} and {}, y {}; need multiples of 8, aligned pointers, bf16 or "
               "f32",
               p.n, p.y_stride, p.out_stride, dtype_name(p.y_dtype));
  if (p.m > 0) moe_combine_launch(p, native);
}

}  // namespace foveal::kernels::cuda
