#include "kernels/cuda/lt_gemm.h"

#include <driver_types.h>

#include <algorithm>
#include <bit>
#include <limits>
#include <vector>

#include "base/check.h"
#include "base/math.h"
#include "kernels/cuda/elementwise_launch.h"

namespace foveal::kernels::cuda {

using foveal::cuda::check;
using foveal::cuda::CublasLt;

namespace {

/// Rows for which the one algorithm of batch-invariant mode is asked: a usual prefill chunk.
constexpr int64_t kInvariantRows = 2048;
constexpr int kCandidates = 8;
constexpr int kTimedRuns = 5;

cudaDataType_t data_type(DType dtype) {
  switch (dtype) {
    case DType::kBF16:
      return CUDA_R_16BF;
    case DType::kF16:
      return CUDA_R_16F;
    case DType::kF8E4M3:
      return CUDA_R_8F_E4M3;
    default:
      return CUDA_R_32F;
  }
}

LtKey key_of(const DenseGemmParams& p, bool invariant) {
  return {.m_bucket = invariant ? 0 : lt_bucket(p.m),
          .n = p.n,
          .k = p.k,
          .batch = p.batch,
          .dtype = p.dtype,
          .y_dtype = p.y_dtype,
          .scaling = p.scaling,
          .accumulate = p.accumulate,
          .bias = p.bias != nullptr};
}

/// The bias joins in the library's epilogue only where y has its type.
bool fused_bias(const DenseGemmParams& p) { return p.bias != nullptr && p.y_dtype != DType::kF32; }

}  // namespace

size_t LtKeyHash::operator()(const LtKey& key) const {
  uint64_t hash = 0;
  const auto mix = [&](int64_t value) {
    hash = (std::rotl(hash, 23) ^ static_cast<uint64_t>(value)) * 0x9e3779b97f4a7c15U;
  };
  mix(key.m_bucket);
  mix(key.n);
  mix(key.k);
  mix(key.batch);
  mix(static_cast<int64_t>(key.dtype) << 16 | static_cast<int64_t>(key.y_dtype) << 8 |
      static_cast<int64_t>(key.scaling) << 2 | (key.accumulate ? 2 : 0) | (key.bias ? 1 : 0));
  return static_cast<size_t>(hash ^ hash >> 32);
}

int64_t lt_bucket(int64_t m) {
  if (m <= 128) return round_up(std::max<int64_t>(m, 1), 16);
  const auto floor = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(m)));
  return round_up(m, floor / 4);
}

/// y is row-major [m, n], which to the library is column-major [n, m] = W^T' x': so its left
/// operand is the weight (transposed), its right one x.
struct LtGemm::Call {
  const CublasLt& lt;
  cublasLtMatmulDesc_t desc = nullptr;
  cublasLtMatrixLayout_t weight = nullptr;
  cublasLtMatrixLayout_t x = nullptr;
  cublasLtMatrixLayout_t y = nullptr;

  Call(const CublasLt& library, const DenseGemmParams& p) : lt(library) {
    check(lt.matmul_desc_create(&desc, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescCreate");
    const auto layout = [&](cublasLtMatrixLayout_t& out, DType dtype, int64_t rows, int64_t cols,
                            int64_t stride, int64_t batch_stride) {
      check(lt.layout_create(&out, data_type(dtype), static_cast<uint64_t>(rows),
                             static_cast<uint64_t>(cols), stride),
            "cublasLtMatrixLayoutCreate");
      if (p.batch != 1) set_batch(out, p.batch, batch_stride);
    };
    layout(weight, p.dtype, p.k, p.n, p.weight_stride, p.weight_batch_stride);
    layout(x, p.dtype, p.k, p.m, p.x_stride, p.x_batch_stride);
    layout(y, p.y_dtype, p.n, p.m, p.y_stride, p.y_batch_stride);
    set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
    set_epilogue(p);
    if (p.scaling != GemmScaling::kNone) set_scales(p);
  }
  ~Call() {
    if (y != nullptr) lt.layout_destroy(y);
    if (x != nullptr) lt.layout_destroy(x);
    if (weight != nullptr) lt.layout_destroy(weight);
    if (desc != nullptr) lt.matmul_desc_destroy(desc);
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  template <class Value>
  void set(cublasLtMatmulDescAttributes_t attribute, const Value& value) {
    check(lt.matmul_desc_set(desc, attribute, static_cast<const void*>(&value), sizeof(value)),
          "cublasLtMatmulDescSetAttribute");
  }
  void set_batch(cublasLtMatrixLayout_t layout, int64_t count, int64_t stride) const {
    const auto products = static_cast<int32_t>(count);
    check(lt.layout_set(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &products, sizeof(products)),
          "cublasLtMatrixLayoutSetAttribute");
    check(
        lt.layout_set(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride, sizeof(stride)),
        "cublasLtMatrixLayoutSetAttribute");
  }
  void set_epilogue(const DenseGemmParams& p) {
    if (!fused_bias(p)) return;
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
    set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.bias);
    set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE,
        static_cast<int32_t>(data_type(p.dtype == DType::kF8E4M3 ? DType::kBF16 : p.dtype)));
  }
  void set_scales(const DenseGemmParams& p) {
    set(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, p.weight_scale);
    set(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, p.x_scale);
    if (p.scaling == GemmScaling::kTensor) return;
    const bool rows = p.scaling == GemmScaling::kRow;
    set(CUBLASLT_MATMUL_DESC_A_SCALE_MODE,
        static_cast<int32_t>(rows ? CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F
                                  : CUBLASLT_MATMUL_MATRIX_SCALE_BLK128x128_32F));
    set(CUBLASLT_MATMUL_DESC_B_SCALE_MODE,
        static_cast<int32_t>(rows ? CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F
                                  : CUBLASLT_MATMUL_MATRIX_SCALE_VEC128_32F));
  }
};

LtGemm::LtGemm(Device device, const DenseGemmOptions& options)
    : lt_(foveal::cuda::cublas_lt()),
      options_(options),
      device_(device),
      workspace_(device, options.workspace_bytes, "the GEMM library's workspace") {
  check(lt_.create(&handle_), "cublasLtCreate");
}

LtGemm::~LtGemm() { lt_.destroy(handle_); }

std::vector<LtGemm::Choice> LtGemm::candidates(const DenseGemmParams& params, int count) const {
  // Asked for the bucket's last row count, so that what it needs suffices for all of them.
  DenseGemmParams sized = params;
  sized.m = options_.batch_invariant ? kInvariantRows : lt_bucket(params.m);
  const Call call(lt_, sized);
  cublasLtMatmulPreference_t preference = nullptr;
  check(lt_.preference_create(&preference), "cublasLtMatmulPreferenceCreate");
  const size_t workspace = workspace_.size();
  lt_.preference_set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
                     sizeof(workspace));
  if (options_.batch_invariant) {
    const uint32_t no_split = CUBLASLT_REDUCTION_SCHEME_NONE;
    lt_.preference_set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &no_split,
                       sizeof(no_split));
  }
  std::vector<Choice> out(static_cast<size_t>(count));
  int found = 0;
  const cublasStatus_t status = lt_.algo_heuristic(handle_, call.desc, call.weight, call.x, call.y,
                                                   call.y, preference, count, out.data(), &found);
  lt_.preference_destroy(preference);
  FOVEAL_CHECK(status == CUBLAS_STATUS_SUCCESS && found > 0, ErrorKind::kUnsupported, "dense_gemm",
               "got {} from cublasLtMatmulAlgoGetHeuristic for m {}, n {}, k {}, {} to {}; need a "
               "shape it supports",
               lt_.get_status_name(status), params.m, params.n, params.k, dtype_name(params.dtype),
               dtype_name(params.y_dtype));
  out.resize(static_cast<size_t>(found));
  return out;
}

cublasStatus_t LtGemm::issue(const DenseGemmParams& params, const Call& call, const Choice& choice,
                             void* y, Stream& stream) const {
  const float beta = params.accumulate ? 1.0F : 0.0F;
  return lt_.matmul(handle_, call.desc, &params.alpha, params.weight, call.weight, params.x, call.x,
                    &beta, y, call.y, y, call.y, &choice.algo, workspace_.data(), workspace_.size(),
                    static_cast<cudaStream_t>(stream.native()));
}

LtGemm::Choice LtGemm::fastest(const DenseGemmParams& params, const Call& call, Stream& stream) {
  const std::vector<Choice> choices = candidates(params, kCandidates);
  // The timed runs must not touch y, which may be the residual stream.
  const int64_t y_values = params.m * params.y_stride + (params.batch - 1) * params.y_batch_stride;
  const int64_t y_bytes = y_values * (params.y_dtype == DType::kF32 ? 4 : 2);
  const Buffer spare(device_, static_cast<size_t>(y_bytes), "the timing of GEMM algorithms");
  Event start(device_, Event::Timing::kOn);
  Event end(device_, Event::Timing::kOn);
  float best_ms = std::numeric_limits<float>::infinity();
  const Choice* best = &choices.front();
  for (const Choice& choice : choices) {
    if (issue(params, call, choice, spare.data(), stream) != CUBLAS_STATUS_SUCCESS) continue;
    start.record(stream);
    for (int run = 0; run < kTimedRuns; ++run) issue(params, call, choice, spare.data(), stream);
    end.record(stream);
    end.synchronize();
    const float ms = end.elapsed_ms(start);
    if (ms >= best_ms) continue;
    best_ms = ms;
    best = &choice;
  }
  return *best;
}

const LtGemm::Choice& LtGemm::choose(const DenseGemmParams& params, const Call& call,
                                     Stream& stream) {
  const LtKey key = key_of(params, options_.batch_invariant);
  const auto known = choices_.find(key);
  if (known != choices_.end()) return known->second;
  const bool timed = options_.autotune && !options_.batch_invariant && !stream.is_capturing();
  const Choice choice = timed ? fastest(params, call, stream) : candidates(params, 1).front();
  return choices_.emplace(key, choice).first->second;
}

void LtGemm::run(const DenseGemmParams& params, Stream& stream) {
  const Call call(lt_, params);
  const Choice& choice = choose(params, call, stream);
  check(issue(params, call, choice, params.y, stream), "cublasLtMatmul");
  if (params.bias != nullptr && !fused_bias(params)) {
    add_bias_launch({.y = static_cast<float*>(params.y),
                     .bias = params.bias,
                     .m = params.m,
                     .n = params.n,
                     .y_stride = params.y_stride,
                     .bias_dtype = params.dtype == DType::kF16 ? DType::kF16 : DType::kBF16},
                    stream.native());
  }
}

}  // namespace foveal::kernels::cuda
