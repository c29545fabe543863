// A first layer's indexer from the checkpoint's weights on, in double, against what the engine
// chose: every step in between shows when it is wrong.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>

#include "kernels/reference/indexer.h"
#include "latent_files.h"

namespace foveal::test {
namespace {

constexpr int64_t kHidden = 128;
constexpr int64_t kHeads = 8;
constexpr int64_t kDim = 32;
constexpr int64_t kRotary = 16;
constexpr int32_t kTopk = 12;
constexpr double kEps = 1e-6;

/// How the oracle reads the checkpoint; right is the default with the architecture's pairs.
struct Reading {
  bool neighbours = false;  ///< channels (2i, 2i + 1) rotate together, else (i, i + 8)
  bool bias = true;         ///< of the keys' norm
};

std::vector<double> product(const std::vector<float>& weight, const std::vector<double>& x) {
  std::vector<double> out(weight.size() / x.size());
  for (size_t row = 0; row < out.size(); ++row) {
    for (size_t col = 0; col < x.size(); ++col) out[row] += weight[row * x.size() + col] * x[col];
  }
  return out;
}

void rms_norm(std::vector<double>& x, const std::vector<float>& weight) {
  const double squares = std::inner_product(x.begin(), x.end(), x.begin(), 0.0);
  const double scale = 1 / std::sqrt(squares / static_cast<double>(x.size()) + kEps);
  for (size_t at = 0; at < x.size(); ++at) x[at] *= scale * weight[at];
}

void layer_norm(std::vector<double>& x, const std::vector<float>& weight,
                const std::vector<float>& bias) {
  const auto n = static_cast<double>(x.size());
  const double mean = std::accumulate(x.begin(), x.end(), 0.0) / n;
  double squares = 0;
  for (const double value : x) squares += (value - mean) * (value - mean);
  const double scale = 1 / std::sqrt(squares / n + kEps);
  for (size_t at = 0; at < x.size(); ++at) {
    x[at] = (x[at] - mean) * scale * weight[at] + bias[at];
  }
}

/// The first kRotary channels of each head.
void rotate(std::vector<double>& x, int32_t position, bool neighbours) {
  for (size_t head = 0; head < x.size(); head += kDim) {
    for (size_t pair = 0; pair < kRotary / 2; ++pair) {
      const double angle = position * std::pow(10000.0, -2.0 * static_cast<double>(pair) / kRotary);
      double& a = x[head + (neighbours ? 2 * pair : pair)];
      double& b = x[head + (neighbours ? 2 * pair + 1 : pair + kRotary / 2)];
      const double even = a * std::cos(angle) - b * std::sin(angle);
      b = a * std::sin(angle) + b * std::cos(angle);
      a = even;
    }
  }
}

void append(std::vector<float>& out, const std::vector<double>& values) {
  for (const double value : values) out.push_back(static_cast<float>(value));
}

/// What layer 0 chooses for each token.
std::vector<std::vector<int32_t>> oracle(const Files& files, const std::vector<int32_t>& tokens,
                                         const Reading& reading) {
  const std::string layer = "model.layers.0.";
  const auto of = [&](const std::string& name) { return files.values(layer + name); };
  const std::vector<float> embeddings = files.values("model.embed_tokens.weight");
  std::vector<float> bias = of("self_attn.indexer.k_norm.bias");
  if (!reading.bias) std::fill(bias.begin(), bias.end(), 0.0F);
  std::vector<float> q;
  std::vector<float> k;
  std::vector<float> weights;
  for (size_t position = 0; position < tokens.size(); ++position) {
    const auto row = embeddings.begin() + tokens[position] * kHidden;
    std::vector<double> x(row, row + kHidden);
    rms_norm(x, of("input_layernorm.weight"));
    std::vector<double> latent = product(of("self_attn.q_a_proj.weight"), x);
    rms_norm(latent, of("self_attn.q_a_layernorm.weight"));
    std::vector<double> queries = product(of("self_attn.indexer.wq_b.weight"), latent);
    std::vector<double> key = product(of("self_attn.indexer.wk.weight"), x);
    layer_norm(key, of("self_attn.indexer.k_norm.weight"), bias);
    rotate(queries, static_cast<int32_t>(position), reading.neighbours);
    rotate(key, static_cast<int32_t>(position), reading.neighbours);
    append(q, queries);
    append(k, key);
    append(weights, product(of("self_attn.indexer.weights_proj.weight"), x));
  }
  const auto count = static_cast<int32_t>(tokens.size());
  const std::vector<double> scores =
      kernels::reference::index_scores({.q = q.data(),
                                        .k = k.data(),
                                        .weights = weights.data(),
                                        .rows = count,
                                        .keys = count,
                                        .num_heads = kHeads,
                                        .dim = kDim},
                                       kernels::reference::kReferenceMode);
  std::vector<std::vector<int32_t>> sets;
  for (int32_t row = 0; row < count; ++row) {
    sets.push_back(kernels::reference::index_set(
        {scores.data() + int64_t{row} * count, static_cast<size_t>(row) + 1}, kTopk));
  }
  return sets;
}

struct IndexerOfTheModel : ::testing::Test {
  /// The share of keys that the engine, in float32, and the oracle choose alike.
  double agreement(const Files& files, const Reading& reading) const {
    const model::TempFolder folder;
    files.write(folder);
    LLM llm(config_of(folder));
    SamplingParams sampling;
    sampling.max_tokens = 1;
    sampling.ignore_eos = true;
    const RequestOutput out =
        llm.generate({.token_ids = tokens}, sampling, {.trace_filter = "^dsa\\.topk\\.0$"});
    if (out.trace.size() != 1 || out.trace[0].cols != kTopk) return -1;
    const auto want = oracle(files, tokens, reading);
    size_t same = 0;
    size_t all = 0;
    for (size_t row = 0; row < want.size(); ++row) {
      std::vector<int32_t> got;
      for (size_t col = 0; col < kTopk; ++col) {
        const float key = out.trace[0].data[row * kTopk + col];
        if (key >= 0) got.push_back(static_cast<int32_t>(key));
      }
      std::vector<int32_t> both;
      std::set_intersection(got.begin(), got.end(), want[row].begin(), want[row].end(),
                            std::back_inserter(both));
      same += both.size();
      all += std::max(got.size(), want[row].size());
    }
    return static_cast<double>(same) / static_cast<double>(all);
  }

  static Files files_of(const std::string& type, const std::string& more = "") {
    Files files = make_files(type, R"(,"index_topk":12)" + more);
    // Random weights are small: a bias of the size of what it is added to.
    std::mt19937 rng(3);
    std::normal_distribution<float> normal;
    std::string& bias = files.tensors.at("model.layers.0.self_attn.indexer.k_norm.bias").data;
    for (size_t at = 0; at < bias.size(); at += 2) {
      const float value = normal(rng);
      std::memcpy(&bias[at], reinterpret_cast<const char*>(&value) + 2, 2);
    }
    return files;
  }

  std::vector<int32_t> tokens = [] {
    std::mt19937 rng(5);
    std::vector<int32_t> out(80);
    for (int32_t& token : out) token = static_cast<int32_t>(rng() % 64);
    return out;
  }();
};

TEST_F(IndexerOfTheModel, RotatesHalvesInDeepSeekV32) {
  const Files files = files_of("deepseek_v32");
  EXPECT_GE(agreement(files, {.neighbours = false}), 0.999);
  EXPECT_LT(agreement(files, {.neighbours = true}), 0.95);
}

TEST_F(IndexerOfTheModel, RotatesNeighboursInGlm) {
  const Files files = files_of("glm_moe_dsa", R"(,"indexer_rope_interleave":true)");
  EXPECT_GE(agreement(files, {.neighbours = true}), 0.999);
  EXPECT_LT(agreement(files, {.neighbours = false}), 0.95);
}

TEST_F(IndexerOfTheModel, AddsTheBiasOfTheKeysNorm) {
  const Files files = files_of("deepseek_v32");
  EXPECT_LT(agreement(files, {.bias = false}), 0.9);
}

}  // namespace
}  // namespace foveal::test
