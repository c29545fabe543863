#include "reference.h"

#include <algorithm>
#include <cmath>

namespace foveal::contract {
namespace {

constexpr double kFloatEps = 0x1p-24;
/// Over a bf16 cache, and outside of exact mode, q and the probabilities are rounded to bf16.
constexpr double kBf16Eps = 0x1p-9;

/// One row and head: its keys are rows [first, last] of K and V, values their first value_dim.
struct Row {
  const float* q;
  const float* k;
  const float* v;
  int64_t kv_stride;
  int32_t num_keys;
  int32_t head_dim;
  int32_t value_dim;
  double scale;
};

/// Writes value_dim outputs; returns the tolerance.
///
/// A score is a sum of head_dim products: its error is at most (head_dim + 2) eps of the sum of
/// their magnitudes, plus that sum times the rounding of q. The running maximum and the exponential
/// add a few eps of the score's size. Each weight is then off by a factor of at most
/// exp(2 * error), numerator and denominator together, by the rounding of p, and by summing
/// num_keys terms. All of it scales the sum of p |v|, taken at its largest channel.
double attend_row(const Row& row, double roundings, double* out) {
  std::vector<double> scores(static_cast<size_t>(row.num_keys));
  double largest_sum = 0;
  for (int32_t key = 0; key < row.num_keys; ++key) {
    const float* k = row.k + key * row.kv_stride;
    double sum = 0;
    double magnitude = 0;
    for (int32_t i = 0; i < row.head_dim; ++i) {
      const double product = double{row.q[i]} * double{k[i]};
      sum += product;
      magnitude += std::abs(product);
    }
    scores[static_cast<size_t>(key)] = row.scale * sum;
    largest_sum = std::max(largest_sum, row.scale * magnitude);
  }
  const double top = *std::max_element(scores.begin(), scores.end());
  std::vector<double> sums(static_cast<size_t>(row.value_dim));
  double total = 0;
  std::fill(out, out + row.value_dim, 0.0);
  for (int32_t key = 0; key < row.num_keys; ++key) {
    const double p = std::exp(scores[static_cast<size_t>(key)] - top);
    total += p;
    for (int32_t i = 0; i < row.value_dim; ++i) {
      const double value = row.v[key * row.kv_stride + i];
      out[i] += p * value;
      sums[static_cast<size_t>(i)] += p * std::abs(value);
    }
  }
  for (int32_t i = 0; i < row.value_dim; ++i) out[i] /= total;
  const double score_error =
      largest_sum * ((row.head_dim + 8) * kFloatEps + roundings) + 8 * kFloatEps;
  const double weight_error =
      std::expm1(2 * score_error) + 2 * roundings + (2 * row.num_keys + 16) * kFloatEps;
  return weight_error * *std::max_element(sums.begin(), sums.end()) / total;
}

}  // namespace

Reference dense_reference(const World& world) {
  const Shape& shape = world.shape();
  const int64_t kv_stride = int64_t{shape.num_kv_heads} * shape.head_dim;
  const int64_t q_stride = int64_t{shape.num_heads} * shape.head_dim;
  const double roundings = shape.dtype == DType::kBF16 && !shape.exact ? kBf16Eps : 0;
  Reference reference;
  reference.out.resize(static_cast<size_t>(world.num_rows()) *
                       static_cast<size_t>(shape.num_heads * shape.out_dim()));
  reference.tolerance.resize(static_cast<size_t>(world.num_rows()) *
                             static_cast<size_t>(shape.num_heads));
  for (size_t seq = 0; seq < shape.lens.size(); ++seq) {
    for (int32_t position = 0; position < shape.lens[seq]; ++position) {
      const int64_t row = world.row_begin(seq) + position;
      const int32_t first = shape.window > 0 ? std::max(0, position - shape.window + 1) : 0;
      for (int32_t head = 0; head < shape.num_heads; ++head) {
        const int32_t kv_head = head / (shape.num_heads / shape.num_kv_heads);
        const int64_t kv_at =
            (world.row_begin(seq) + first) * kv_stride + int64_t{kv_head} * shape.head_dim;
        const int64_t q_at = row * q_stride + int64_t{head} * shape.head_dim;
        const int64_t out_at = (row * shape.num_heads + head) * shape.out_dim();
        reference.tolerance[static_cast<size_t>(row * shape.num_heads + head)] =
            attend_row({.q = world.q().data() + q_at,
                        .k = world.k().data() + kv_at,
                        .v = world.v().data() + kv_at,
                        .kv_stride = kv_stride,
                        .num_keys = position - first + 1,
                        .head_dim = shape.head_dim,
                        .value_dim = shape.out_dim(),
                        .scale = world.softmax_scale()},
                       roundings, reference.out.data() + out_at);
      }
    }
  }
  return reference;
}

}  // namespace foveal::contract
