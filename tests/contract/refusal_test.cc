#include <gtest/gtest.h>

#include <algorithm>

#include "attention/capabilities.h"
#include "foveal/error.h"
#include "world.h"

namespace foveal::contract {
namespace {

using attention::AttentionMethod;
using attention::Capabilities;
using attention::Needs;
using attention::Phase;

class Refusal : public testing::TestWithParam<NamedExample> {
 protected:
  std::unique_ptr<attention::AttentionSet> make(Device device) {
    attention::ModelShape shape = World(plain_shape(GetParam(), {1}), 0).model_shape();
    shape.num_layers = 2;
    shape.windows.assign(2, 0);
    if (shape.indexer) shape.indexer->full = {1, 0};
    std::vector<SparseAttentionConfig> configs;
    if (GetParam().example.config) configs.push_back(*GetParam().example.config);
    return attention::make_attention(configs, shape, {}, device);
  }
};

bool declares(const Capabilities& has, const Needs& needs) {
  const auto in = [](const auto& list, auto value) {
    return std::find(list.begin(), list.end(), value) != list.end();
  };
  return in(has.devices, needs.device) && in(has.kv_dtypes, needs.kv_dtype) &&
         (needs.phase == Phase::kPrefill ? has.prefill : has.decode) &&
         (has.sliding_window || !needs.sliding_window) &&
         (needs.latent ? has.latent : has.per_head);
}

TEST_P(Refusal, WhatIsNotDeclared) {
  const auto set = make(Device{});
  int refused = 0;
  for (const Phase phase : attention::kPhases) {
    const AttentionMethod& method = set->method(phase);
    for (const DeviceKind device : {DeviceKind::kCpu, DeviceKind::kCuda}) {
      for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16, DType::kI8}) {
        for (const int kind : {0, 1, 2, 3}) {
          const Needs needs{device, dtype, phase, /*sliding_window=*/kind % 2 == 1,
                            /*latent=*/kind >= 2};
          if (declares(method.capabilities(), needs)) {
            EXPECT_NO_THROW(attention::require_capable(method, needs));
          } else {
            EXPECT_THROW(attention::require_capable(method, needs), Error);
            ++refused;
          }
        }
      }
    }
  }
  EXPECT_GT(refused, 0) << "nobody has an int8 cache";
}

TEST_P(Refusal, ADeviceThatIsNotDeclared) {
  const auto set = make(Device{});
  for (const DeviceKind kind : {DeviceKind::kCpu, DeviceKind::kCuda}) {
    const auto& devices = set->method(Phase::kDecode).capabilities().devices;
    if (std::find(devices.begin(), devices.end(), kind) == devices.end()) {
      EXPECT_THROW(make(Device{kind, 0}), Error);
    } else {
      EXPECT_NO_THROW(make(Device{kind, 0}));
    }
  }
}

/// Every layer and phase has an answer that a reader understands.
TEST_P(Refusal, EveryLayerIsExplained) {
  const auto set = make(Device{});
  for (const Phase phase : attention::kPhases) {
    bool sparse = false;
    for (int32_t layer = 0; layer < 2; ++layer) {
      const attention::Resolution row = set->resolve(layer, phase);
      EXPECT_FALSE(row.why.empty());
      EXPECT_TRUE(row.method == "dense" || row.method == GetParam().method) << row.method;
      sparse = sparse || row.method != "dense";
    }
    EXPECT_EQ(sparse, set->method(phase).active(phase)) << attention::phase_name(phase);
  }
}

TEST_P(Refusal, WhatAPromptKeepsIsPartOfIt) {
  const auto set = make(Device{});
  for (const int32_t len : {1, 63, 64, 65, 1000, 1 << 24}) {
    const int32_t kept = set->kept_tokens(len);
    EXPECT_GE(kept, 1);
    EXPECT_LE(kept, len);
    EXPECT_GE(set->reached_tokens(len), 1);
    EXPECT_LE(set->reached_tokens(len), kept);
    EXPECT_GE(set->own_tokens(len), 1);
    EXPECT_LE(set->own_tokens(len), len);
    if (GetParam().example.equals_dense && len <= 1000) {
      EXPECT_EQ(set->reached_tokens(len), len);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Methods, Refusal, testing::ValuesIn(all_examples()),
                         [](const auto& param) { return test_name(param.param); });

}  // namespace
}  // namespace foveal::contract
