#include "kernels/reference/elementwise.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

namespace foveal::kernels::reference {

std::vector<double> rms_norm(const RmsNormParams& params) {
  std::vector<double> y;
  for (int64_t row = 0; row < params.m; ++row) {
    const float* x = params.x + row * params.x_stride;
    double squares = 0;
    for (int64_t col = 0; col < params.n; ++col) squares += double{x[col]} * double{x[col]};
    const double rms = std::sqrt(squares / static_cast<double>(params.n) + double{params.eps});
    for (int64_t col = 0; col < params.n; ++col) {
      y.push_back(x[col] / rms * (double{params.weight[col]} + double{params.weight_offset}));
    }
  }
  return y;
}

std::vector<double> layer_norm(const LayerNormParams& params) {
  std::vector<double> y;
  for (int64_t row = 0; row < params.m; ++row) {
    const float* x = params.x + row * params.x_stride;
    double sum = 0;
    double squares = 0;
    for (int64_t col = 0; col < params.n; ++col) sum += x[col];
    const double mean = sum / static_cast<double>(params.n);
    for (int64_t col = 0; col < params.n; ++col) squares += (x[col] - mean) * (x[col] - mean);
    const double deviation = std::sqrt(squares / static_cast<double>(params.n) + params.eps);
    for (int64_t col = 0; col < params.n; ++col) {
      y.push_back((x[col] - mean) / deviation * params.weight[col] + params.bias[col]);
    }
  }
  return y;
}

std::vector<double> rope(const RopeParams& params) {
  const int64_t half = params.rotary_dim / 2;
  std::vector<double> y;
  for (int64_t row = 0; row < params.m; ++row) {
    const float* cosines = params.cos_table + params.positions[row] * half;
    const float* sines = params.sin_table + params.positions[row] * half;
    for (int64_t head = 0; head < params.num_heads; ++head) {
      const float* x = params.x + row * params.x_stride + head * params.head_dim;
      const auto first = static_cast<int64_t>(y.size());
      y.insert(y.end(), x, x + params.head_dim);
      for (int64_t pair = 0; pair < half; ++pair) {
        const bool is_half = params.style == RopeStyle::kHalf;
        const int64_t a = is_half ? pair : 2 * pair;
        const int64_t b = is_half ? pair + half : 2 * pair + 1;
        const double c = cosines[pair];
        const double s = sines[pair];
        y[static_cast<size_t>(first + a)] = x[a] * c - x[b] * s;
        y[static_cast<size_t>(first + b)] = x[b] * c + x[a] * s;
      }
    }
  }
  return y;
}

double activation(double x, Activation act) {
  switch (act) {
    case Activation::kSilu:
      return x / (1 + std::exp(-x));
    case Activation::kGeluTanh: {
      const double inner = std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x);
      return x / (1 + std::exp(-2 * inner));  // (1 + tanh u) / 2 without its cancellation
    }
    case Activation::kGeluErf:
      return 0.5 * x * std::erfc(-x / std::numbers::sqrt2);
  }
  return 0;
}

std::vector<double> gated_act(const GatedActParams& params) {
  std::vector<double> y;
  for (int64_t row = 0; row < params.m; ++row) {
    for (int64_t col = 0; col < params.n; ++col) {
      y.push_back(activation(params.gate[row * params.gate_stride + col], params.act) *
                  params.up[row * params.up_stride + col]);
    }
  }
  return y;
}

std::vector<double> router_softmax(const MoeRouteParams& params) {
  std::vector<double> probabilities;
  for (int64_t row = 0; row < params.m; ++row) {
    const float* logits = params.logits + row * params.num_experts;
    const double max = *std::max_element(logits, logits + params.num_experts);
    double sum = 0;
    for (int32_t expert = 0; expert < params.num_experts; ++expert) {
      sum += std::exp(logits[expert] - max);
    }
    for (int32_t expert = 0; expert < params.num_experts; ++expert) {
      probabilities.push_back(std::exp(logits[expert] - max) / sum);
    }
  }
  return probabilities;
}

RoutedRow route_by_sigmoids(const MoeRouteParams& params, int64_t row) {
  const auto count = static_cast<size_t>(params.num_experts);
  const size_t size = count / static_cast<size_t>(params.num_groups);
  std::vector<double> scores(count);
  std::vector<double> choice(count);
  for (size_t expert = 0; expert < count; ++expert) {
    const double logit = params.logits[static_cast<size_t>(row) * count + expert];
    scores[expert] = 1 / (1 + std::exp(-logit));
    choice[expert] = scores[expert] + double{params.bias[expert]};
  }
  std::vector<std::pair<double, size_t>> groups;
  for (size_t first = 0; params.num_groups > 1 && first < count; first += size) {
    std::vector<double> sorted(choice.begin() + static_cast<int64_t>(first),
                               choice.begin() + static_cast<int64_t>(first + size));
    std::sort(sorted.rbegin(), sorted.rend());
    groups.emplace_back(-(sorted[0] + sorted[1]), first);
  }
  std::sort(groups.begin(), groups.end());
  std::vector<std::pair<double, int32_t>> open;
  for (size_t expert = 0; expert < count; ++expert) {
    bool in = groups.empty();
    for (size_t at = 0; at < groups.size() && at < static_cast<size_t>(params.topk_groups); ++at) {
      in = in || (expert >= groups[at].second && expert < groups[at].second + size);
    }
    if (in) open.emplace_back(-choice[expert], static_cast<int32_t>(expert));
  }
  std::sort(open.begin(), open.end());
  RoutedRow out;
  double sum = 1e-20;
  for (size_t at = 0; at < static_cast<size_t>(params.k); ++at) {
    out.experts.push_back(open[at].second);
    out.weights.push_back(scores[static_cast<size_t>(open[at].second)]);
    sum += out.weights.back();
  }
  for (double& weight : out.weights) {
    weight *= params.normalize ? params.scale / sum : double{params.scale};
  }
  return out;
}

}  // namespace foveal::kernels::reference
