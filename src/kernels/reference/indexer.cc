#include "kernels/reference/indexer.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "base/half.h"

namespace foveal::kernels::reference {
namespace {

/// Entry (i, j) of the Sylvester matrix is the parity of the bits that i and j share.
std::vector<double> hadamard(const std::vector<double>& x) {
  std::vector<double> out(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    for (size_t j = 0; j < x.size(); ++j) out[i] += std::popcount(i & j) % 2 == 0 ? x[j] : -x[j];
    out[i] /= std::sqrt(static_cast<double>(x.size()));
  }
  return out;
}

void round_to_fp8(std::vector<double>& x) {
  double largest = 1e-4;
  for (const double value : x) largest = std::max(largest, std::abs(value));
  const double scale = std::exp2(std::ceil(std::log2(largest / 448)));
  for (double& value : x) {
    value = scale * e4m3_to_float(float_to_e4m3(static_cast<float>(value / scale)));
  }
}

/// Vectors of `dim` values, as they are multiplied.
std::vector<std::vector<double>> prepare(const float* x, int64_t count, int32_t dim, bool rotate,
                                         bool fp8) {
  std::vector<std::vector<double>> out;
  for (int64_t idx = 0; idx < count; ++idx, x += dim) {
    std::vector<double> vector(x, x + dim);
    if (rotate) vector = hadamard(vector);
    if (fp8) round_to_fp8(vector);
    out.push_back(std::move(vector));
  }
  return out;
}

}  // namespace

std::vector<double> index_scores(const IndexerParams& params, const IndexerSteps& steps) {
  const int64_t heads = params.num_heads;
  const auto q = prepare(params.q, params.rows * heads, params.dim, steps.hadamard_q, steps.fp8);
  const auto k = prepare(params.k, params.keys, params.dim, steps.hadamard_k, steps.fp8);
  const double unit = 1 / std::sqrt(static_cast<double>(params.dim) * params.num_heads);
  std::vector<double> scores;
  for (int64_t row = 0; row < params.rows; ++row) {
    for (const std::vector<double>& key : k) {
      double sum = 0;
      for (int64_t head = 0; head < heads; ++head) {
        const std::vector<double>& query = q[static_cast<size_t>(row * heads + head)];
        const double dot = std::inner_product(query.begin(), query.end(), key.begin(), 0.0);
        const double part = steps.relu_inside ? std::max(dot, 0.0) : dot;
        sum += params.weights[row * heads + head] * unit * part;
      }
      scores.push_back(steps.relu_inside ? sum : std::max(sum, 0.0));
    }
  }
  return scores;
}

std::vector<int32_t> index_set(std::span<const double> scores, int32_t k) {
  std::vector<int32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return scores[static_cast<size_t>(a)] > scores[static_cast<size_t>(b)];
  });
  order.resize(std::min(order.size(), static_cast<size_t>(k)));
  std::sort(order.begin(), order.end());
  return order;
}

}  // namespace foveal::kernels::reference
