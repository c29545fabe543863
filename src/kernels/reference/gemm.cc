#include "kernels/reference/gemm.h"

#include <cmath>

#include "kernels/reference/dequant.h"

namespace foveal::kernels::reference {

GemmResult gemm(const float* x, int64_t m, int64_t k, int64_t x_stride, const WeightView& weight) {
  const auto size = static_cast<size_t>(m * weight.rows);
  GemmResult result{std::vector<double>(size), std::vector<double>(size)};
  for (int64_t col = 0; col < weight.rows; ++col) {
    const std::vector<float> w = dequantize_row(weight, col);
    for (int64_t row = 0; row < m; ++row) {
      double sum = 0;
      double norm = 0;
      for (int64_t idx = 0; idx < k; ++idx) {
        const double term =
            static_cast<double>(x[row * x_stride + idx]) * w[static_cast<size_t>(idx)];
        sum += term;
        norm += std::abs(term);
      }
      result.value[static_cast<size_t>(row * weight.rows + col)] = sum;
      result.norm[static_cast<size_t>(row * weight.rows + col)] = norm;
    }
  }
  return result;
}

}  // namespace foveal::kernels::reference
