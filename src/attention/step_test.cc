#include "attention/step.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "foveal/error.h"

namespace foveal::attention {
namespace {

/// Writes `value` into every output and counts two pairs, one of them used.
class Probe final : public AttentionMethod {
 public:
  std::string_view name() const override { return "probe"; }
  const Capabilities& capabilities() const override { return capabilities_; }
  bool active(Phase /*phase*/) const override { return true; }
  Resolution resolve(int32_t /*layer*/, Phase /*phase*/) const override {
    return {"probe", "", ""};
  }
  void plan(Phase phase, std::span<const kernels::AttentionSeq> /*seqs*/) override {
    calls += phase == Phase::kPrefill ? "P" : "D";
  }
  void append(int32_t /*layer*/, Phase /*phase*/, const AttendArgs&, Stream&) override {
    calls += "+";
  }
  void attend(int32_t /*layer*/, Phase phase, const AttendArgs& args, Stream&) override {
    calls += phase == Phase::kPrefill ? "p" : "d";
    for (size_t seq = 0; seq < args.seqs.size(); ++seq) {
      static_cast<float*>(args.out)[args.seqs[seq].q_begin * args.out_stride] = value;
      if (args.counters != nullptr) args.counters[seq].add({2, pairs_used, 1, 0});
    }
  }

  Capabilities capabilities_{.devices = {DeviceKind::kCpu}, .kv_dtypes = {DType::kBF16}};
  std::string calls;
  float value = 1;
  uint64_t pairs_used = 1;
};

struct StepTest : testing::Test {
  StepTest() {
    auto owned = std::make_unique<Probe>();
    probe = owned.get();
    AttentionSet::Methods methods;
    methods.push_back(std::move(owned));
    set = std::make_unique<AttentionSet>(std::move(methods));
    shape.num_layers = 3;
  }

  AttendArgs args(std::span<const kernels::AttentionSeq> seqs) {
    AttendArgs args;
    args.out = out.data();
    args.out_stride = 2;
    args.num_heads = 1;
    args.kv.head_dim = 2;
    args.seqs = seqs;
    return args;
  }

  ThreadPool pool{1};
  Stream stream{Device{}, pool};
  ModelShape shape;
  Probe* probe = nullptr;
  std::unique_ptr<AttentionSet> set;
  std::array<float, 8> out{};
  const std::vector<kernels::AttentionSeq> prefill{{.q_begin = 0, .q_len = 2},
                                                   {.q_begin = 2, .q_len = 1}};
  const std::vector<kernels::AttentionSeq> decode{{.q_begin = 3, .q_len = 1}};
};

TEST_F(StepTest, RunsTheMethodInOrder) {
  AttentionStep step(*set, shape);
  step.begin(prefill, decode);
  step.attend(0, Phase::kPrefill, args(prefill), stream);
  step.attend(0, Phase::kDecode, args(decode), stream);
  step.begin({}, decode);
  step.attend(0, Phase::kPrefill, args({}), stream);
  EXPECT_EQ(probe->calls, "PD+p+dD");
}

TEST_F(StepTest, CountsByLayerAndSequenceAndForgetsAtBegin) {
  AttentionStep step(*set, shape);
  step.begin(prefill, decode);
  step.attend(1, Phase::kPrefill, args(prefill), stream);
  step.attend(2, Phase::kPrefill, args(prefill), stream);
  step.attend(2, Phase::kDecode, args(decode), stream);
  EXPECT_EQ(step.counters(0, Phase::kPrefill)[1].pairs, 0U);
  EXPECT_EQ(step.counters(1, Phase::kPrefill)[1].pairs, 2U);
  SparsityReport report;
  step.add_to(report, Phase::kPrefill, 1);
  step.add_to(report, Phase::kDecode, 0);
  ASSERT_EQ(report.layers.size(), 3U);
  EXPECT_EQ(report.total().prefill.pairs, 4U);
  EXPECT_EQ(report.total().prefill.pairs_used, 2U);
  EXPECT_EQ(report.layers[2].decode.pairs, 2U);
  EXPECT_EQ(report.layers[1].decode.pairs, 0U);
  step.begin(prefill, {});
  EXPECT_EQ(step.counters(1, Phase::kPrefill)[1].pairs, 0U);
  EXPECT_TRUE(step.counters(1, Phase::kDecode).empty());
}

TEST_F(StepTest, LeavesTheCallersCountersAlone) {
  AttentionStep step(*set, shape);
  step.begin({}, decode);
  kernels::AttentionCounters mine;
  AttendArgs call = args(decode);
  call.counters = &mine;
  step.attend(0, Phase::kDecode, call, stream);
  EXPECT_EQ(mine.pairs, 2U);
  EXPECT_EQ(step.counters(0, Phase::kDecode)[0].pairs, 0U);
}

// Where the device runs behind the host, kernels get an address that follows from layer and phase
// alone, and the counts are collected after the step.
TEST_F(StepTest, CollectsWhatADeviceCounted) {
  constexpr size_t kMaxSeqs = 4;
  shape.windows = {0, 0, 0};
  AttentionStep step(*set, shape);
  std::vector<kernels::AttentionCounters> device(2 * 3 * kMaxSeqs);
  step.count_on_device(device.data(), kMaxSeqs);
  EXPECT_TRUE(step.counts_on_device(Phase::kPrefill));
  step.begin(prefill, decode);
  const kernels::DeviceSeqs seqs{.num_seqs = 2};
  AttendArgs call = args(prefill);
  call.device_seqs = &seqs;
  step.attend(2, Phase::kPrefill, call, stream);
  EXPECT_EQ(device[2 * kMaxSeqs + 1].pairs, 2U);
  EXPECT_EQ(step.counters(2, Phase::kPrefill)[1].pairs, 0U) << "not before the step has ended";
  step.collect(prefill, decode, device.data());
  EXPECT_EQ(step.counters(2, Phase::kPrefill)[1].pairs, 2U);
  EXPECT_EQ(step.counters(2, Phase::kPrefill)[1].pairs_used, 1U);
}

// Nothing is left out of dense layers: the host knows what they did.
TEST(DenseStep, IsCountedOnTheHost) {
  const ModelShape shape{
      .num_layers = 2, .num_heads = 3, .num_kv_heads = 1, .head_dim = 64, .windows = {0, 4}};
  const auto set = make_attention({}, shape, {}, Device{DeviceKind::kCuda, 0});
  AttentionStep step(*set, shape);
  kernels::AttentionCounters unused;
  step.count_on_device(&unused, 1);
  EXPECT_FALSE(step.counts_on_device(Phase::kPrefill));
  const std::vector<kernels::AttentionSeq> prompt{{.q_len = 6, .kv_len = 10}};
  step.begin(prompt, {});
  step.collect(prompt, {}, nullptr);
  EXPECT_EQ(step.counters(0, Phase::kPrefill)[0].pairs, 3U * (5 + 6 + 7 + 8 + 9 + 10));
  EXPECT_EQ(step.counters(1, Phase::kPrefill)[0].pairs, 3U * 6 * 4);
  EXPECT_EQ(step.counters(1, Phase::kPrefill)[0].pairs_used, 3U * 6 * 4);
}

TEST_F(StepTest, TimesOnlyWhenAsked) {
  AttentionStep quiet(*set, shape);
  AttentionStep timed(*set, shape, {.zones = true});
  for (AttentionStep* step : {&quiet, &timed}) {
    step->begin({}, decode);
    step->attend(0, Phase::kDecode, args(decode), stream);
  }
  EXPECT_EQ(quiet.zone(Phase::kDecode).calls, 0U);
  EXPECT_EQ(timed.zone(Phase::kDecode).calls, 1U);
  EXPECT_EQ(timed.zone(Phase::kPrefill).calls, 0U);
}

TEST_F(StepTest, VerifiesOutputsAndCounters) {
  AttentionStep step(*set, shape, {.verify = true});
  step.begin(prefill, {});
  EXPECT_NO_THROW(step.attend(0, Phase::kPrefill, args(prefill), stream));
  probe->value = NAN;
  EXPECT_THROW(step.attend(0, Phase::kPrefill, args(prefill), stream), Error);
  probe->value = 1;
  probe->pairs_used = 3;
  EXPECT_THROW(step.attend(1, Phase::kPrefill, args(prefill), stream), Error);
}

TEST_F(StepTest, RefusesWhatTheMethodDoesNotDeclare) {
  AttentionStep step(*set, shape);
  step.begin({}, decode);
  AttendArgs call = args(decode);
  call.kv.dtype = DType::kF16;
  EXPECT_THROW(step.attend(0, Phase::kDecode, call, stream), Error);
  EXPECT_THROW(step.attend(3, Phase::kDecode, args(decode), stream), Error);
  EXPECT_THROW(step.attend(0, Phase::kPrefill, args(decode), stream), Error)
      << "begin announced no prefill";
  EXPECT_EQ(probe->calls, "D");
}

}  // namespace
}  // namespace foveal::attention
