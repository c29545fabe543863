#include "kernels/cuda/prefill_heads.h"

#include "base/check.h"
#include "device/cuda/check.h"
#include "device/cuda/properties.h"
#include "kernels/cuda/attention_check.h"
#include "kernels/cuda/prefill.h"

namespace foveal::kernels::cuda {
namespace {

constexpr std::string_view kWhere = "prefill_heads";
constexpr HeadFormDims kDims;
constexpr int32_t kOwnWidth = kDims.own + kDims.values;
constexpr int32_t kShared = kDims.dim - kDims.own;
static_assert(kDims.dim == foveal::cuda::kHeadFormDim && kDims.own == foveal::cuda::kHeadFormOwn &&
              kDims.values == foveal::cuda::kHeadFormValues);

void check(const PrefillHeadsParams& p) {
  const auto aligned = [](const void* data) {
    return data != nullptr && reinterpret_cast<uintptr_t>(data) % 16 == 0;
  };
  FOVEAL_CHECK(
      p.num_heads > 0 && p.num_seqs > 0 && p.num_rows > 0 && p.num_keys > 0 &&
          p.q_row_stride % 8 == 0 && p.shared_row_stride % 8 == 0 && p.out_row_stride % 8 == 0 &&
          p.cu_q != nullptr && p.kv_len != nullptr && p.cu_k != nullptr && p.counter != nullptr &&
          aligned(p.q) && aligned(p.own) && aligned(p.shared) && aligned(p.out),
      ErrorKind::kInternal, kWhere,
      "got {} heads, {} sequences of {} rows and {} keys, strides {}, {}, {}; need some of "
      "each, strides of whole 16 bytes, aligned pointers",
      p.num_heads, p.num_seqs, p.num_rows, p.num_keys, p.q_row_stride, p.shared_row_stride,
      p.out_row_stride);
}

foveal::cuda::PrefillMaps make_maps(const PrefillHeadsParams& p) {
  constexpr auto kKeys = static_cast<uint32_t>(
      foveal::cuda::prefill_keys(foveal::cuda::kHeadFormDim, foveal::cuda::kHeadFormValues));
  const auto heads = static_cast<uint64_t>(p.num_heads);
  const auto keys = static_cast<uint64_t>(p.num_keys);
  const int64_t row = int64_t{p.num_heads} * kOwnWidth;
  foveal::cuda::PrefillMaps maps;
  maps.q = prefill_map(p.q, FOVEAL_BF16, {kDims.dim, heads, static_cast<uint64_t>(p.num_rows)},
                       {kDims.dim, p.q_row_stride, 0}, 3, {64, 1, 64});
  maps.k = prefill_map(p.own, FOVEAL_BF16, {kOwnWidth, keys, heads, 1}, {row, kOwnWidth, row}, 4,
                       {64, kKeys, 1, 1});
  const int64_t shared = p.shared_row_stride;
  maps.v = prefill_map(p.shared, FOVEAL_BF16, {kShared, keys, 1, 1}, {shared, shared, shared}, 4,
                       {64, kKeys, 1, 1});
  return maps;
}

}  // namespace

void prefill_heads(const PrefillHeadsParams& p, void* stream) {
  check(p);
  const auto& properties = foveal::cuda::device_properties(usable_device(kWhere));
  foveal_attention_params call{};
  call.out = p.out;
  call.out_row_stride = p.out_row_stride;
  call.out_head_stride = kDims.values;
  call.cu_q = p.cu_q;
  call.kv_len = p.kv_len;
  call.cu_k = p.cu_k;
  call.workspace = p.counter;
  call.num_seqs = p.num_seqs;
  call.num_heads = call.num_kv_heads = p.num_heads;
  call.softmax_scale = p.softmax_scale;
  call.q_scale = call.k_scale = call.v_scale = 1;
  const int32_t box =
      foveal::cuda::prefill_keys(foveal::cuda::kHeadFormDim, foveal::cuda::kHeadFormValues);
  const foveal::cuda::PrefillArgs args = prefill_args(call, 0, box, properties.l2_bytes);
  foveal::cuda::check_launch(
      foveal::cuda::prefill_heads_launch(args, make_maps(p), properties.num_sms,
                                         static_cast<cudaStream_t>(stream)),
      "prefill_heads");
}

}  // namespace foveal::kernels::cuda
