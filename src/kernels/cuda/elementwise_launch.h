#pragma once

#include "kernels/cuda/dense_gemm.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/expand.h"

// The third floor: what is checked already, on a cudaStream_t. Only the files beside this call it.

namespace foveal::kernels::cuda {

void rms_norm_launch(const RmsNormParams& params, void* stream);
void rope_store_launch(const RopeStoreParams& params, void* stream);
void fill_slots_launch(const FillSlotsParams& params, void* stream);
void act_mul_launch(const ActMulParams& params, void* stream);
void embed_launch(const EmbedParams& params, void* stream);
void add_scaled_launch(const float* x, float alpha, float* y, int64_t n, void* stream);
void scale_softcap_launch(float* x, float alpha, float cap, int64_t n, void* stream);
void gather_rows_launch(const void* x, const int32_t* rows, void* y, int64_t m, int64_t row_bytes,
                        void* stream);
void zero_pages_launch(void* base, int64_t page_bytes, const int32_t* pages, int64_t num_pages,
                       void* stream);
void fill_normal_launch(uint16_t* y, int64_t n, uint64_t seed, float deviation, void* stream);
void expand_launch(const ExpandParams& params, void* stream);
void quantize_e4m3_blocks_launch(const QuantizeParams& params, void* stream);
void quantize_e4m3_rows_launch(const QuantizeParams& params, void* stream);
void quantize_e4m3_tensor_launch(const QuantizeParams& params, void* stream);

/// y += bias, row by row: for products whose library epilogue has no such bias.
struct AddBiasParams {
  float* y = nullptr;          ///< [m, n], row stride y_stride
  const void* bias = nullptr;  ///< [n] bias_dtype
  int64_t m = 0;
  int64_t n = 0;
  int64_t y_stride = 0;
  DType bias_dtype = DType::kBF16;  ///< kBF16 or kF16
};
void add_bias_launch(const AddBiasParams& params, void* stream);

/// The most columns of a row that rms_norm takes: 1024 threads times 32 values in registers.
inline constexpr int64_t kMaxNormCols = 32768;

}  // namespace foveal::kernels::cuda
