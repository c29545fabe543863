// DeepSeek Sparse Attention without the choice in the comparison: float32's sets of keys (which
// golden_test holds against Hugging Face transformers') imposed on the fast path; and how much of
// them the fast path chooses itself. On `fast_device`.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "attention/dsa/set_hook.h"
#include "foveal/llm.h"
#include "golden_case.h"

namespace foveal::test {
namespace {

using attention::dsa::InstalledSetHook;
using attention::dsa::SetHook;

/// By layer and position.
using Sets = std::map<int32_t, std::map<int32_t, std::vector<int32_t>>>;

class Recorder final : public SetHook {
 public:
  void on_set(int32_t layer, int32_t position, std::span<int32_t> set) override {
    sets[layer][position].assign(set.begin(), set.end());
  }
  Sets sets;
};

class Imposer final : public SetHook {
 public:
  explicit Imposer(const Sets& sets) : sets_(sets) {}
  void on_set(int32_t layer, int32_t position, std::span<int32_t> set) override {
    const std::vector<int32_t>& given = sets_.at(layer).at(position);
    if (given.size() != set.size()) throw std::length_error("a set of another size");
    changed += std::equal(set.begin(), set.end(), given.begin()) ? 0 : 1;
    std::copy(given.begin(), given.end(), set.begin());
  }
  int64_t changed = 0;

 private:
  const Sets& sets_;
};

enum class Path : uint8_t { kFloat32, kFast };

LlmConfig config_of(const GoldenFamily& family, Path path, int64_t chunk) {
  LlmConfig config;
  config.model = family.folder;
  config.threads = 2;
  config.prefill_chunk = chunk;
  config.kv_cache_config.max_tokens = 4096;
  config.device = "cpu";
  if (path == Path::kFloat32) {
    config.compute_dtype = "f32";
    config.kv_cache_config.dtype = "f32";
    return config;
  }
  config.device = fast_device();
  config.cuda_graph_config.enable = false;  // a hook sees steps that are issued
  return config;
}

/// The golden prompt and its golden answer, whatever the logits say.
RequestOutput run(const GoldenFamily& family, Path path, int64_t chunk, SetHook& hook) {
  const InstalledSetHook installed(hook);
  LLM llm(config_of(family, path, chunk));
  const GoldenCase& golden = family.cases[1];
  return llm.generate({.token_ids = golden.prompt}, {},
                      {.logits = true,
                       .logits_last = golden.logits_rows,
                       .generation_logits = true,
                       .forced_tokens = golden.greedy});
}

/// Mean KL over the last rows of the prompt and those of the answer; the first of the answer's is
/// the prompt's last.
double loss(const GoldenFamily& family, const RequestOutput& out) {
  const GoldenCase& golden = family.cases[1];
  double sum = 0;
  for (int64_t row = 0; row < golden.logits_rows; ++row) {
    sum += kl(golden.logits.data() + row * family.vocab,
              out.logits.value().data.data() + row * family.vocab, family.vocab);
  }
  const auto steps = static_cast<int64_t>(golden.greedy.size());
  for (int64_t step = 1; step < steps; ++step) {
    sum += kl(golden.greedy_logits.data() + step * family.vocab,
              out.generation_logits.value().data.data() + step * family.vocab, family.vocab);
  }
  return sum / static_cast<double>(golden.logits_rows + steps - 1);
}

/// Of one layer's golden sets, how much the sets given hold.
double overlap(const GoldenCase& golden, int32_t layer,
               const std::map<int32_t, std::vector<int32_t>>& sets) {
  const std::vector<int32_t>& want = golden.index_sets.at(layer);
  const auto size = static_cast<size_t>(golden.index_topk);
  const size_t rows = want.size() / size;
  const size_t first = golden.prompt.size() + golden.greedy.size() - 1 - rows;
  size_t same = 0;
  for (size_t row = 0; row < rows; ++row) {
    const std::vector<int32_t>& got = sets.at(static_cast<int32_t>(first + row));
    std::vector<int32_t> both;
    std::set_intersection(want.begin() + static_cast<int64_t>(row * size),
                          want.begin() + static_cast<int64_t>((row + 1) * size), got.begin(),
                          got.end(), std::back_inserter(both));
    same += both.size();
  }
  return static_cast<double>(same) / static_cast<double>(rows * size);
}

std::vector<std::string> folders_with_indexers() {
  std::vector<std::string> out;
  for (const std::string& folder : golden_folders()) {
    if (!load_golden(folder).cases[1].index_sets.empty()) out.push_back(folder);
  }
  return out;
}

class GoldenSets : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    family_ = load_golden(GetParam());
    Recorder recorder;
    run(family_, Path::kFloat32, 1000, recorder);
    exact_ = std::move(recorder.sets);
    // transformers' where it tells them; at the other positions they are its by what follows.
    for (const auto& [layer, sets] : family_.cases[1].index_sets) {
      ASSERT_EQ(overlap(family_.cases[1], layer, exact_.at(layer)), 1) << "layer " << layer;
    }
  }

  GoldenFamily family_;
  Sets exact_;
};

/// Mean KL of transformers' bfloat16 run of the golden deepseek_v3: the same layers without a
/// choice of keys. (Where both runs choose, one key in another set has others in all sets after
/// it.) Most of it is experts that flip; one row with another expert lost 1.27 there, which of the
/// 31 rows here would be 0.04.
constexpr double kWithoutAChoice = 0.0207;
constexpr double kOneMoreExpert = 0.041;

TEST_P(GoldenSets, ImposedTheyLeaveTheNoiseOfBfloat16) {
  for (const int64_t chunk : {1000, 64}) {
    Imposer imposer(exact_);
    const double lost = loss(family_, run(family_, Path::kFast, chunk, imposer));
    std::printf("%-16s chunk %-4d KL %.2e, %d sets were others\n", family_.name.c_str(),
                static_cast<int>(chunk), lost, static_cast<int>(imposer.changed));
    EXPECT_GT(imposer.changed, 0);
    EXPECT_LE(lost, 2 * kWithoutAChoice + kOneMoreExpert);
  }
}

/// What e4m3 index keys may cost beside bfloat16, which is all that transformers' run rounds to:
/// the first layer, whose inputs are almost the same, shows it.
constexpr double kRounding = 0.05;

TEST_P(GoldenSets, ChosenInBfloat16TheyAreMostlyTheSame) {
  Recorder recorder;
  const double lost = loss(family_, run(family_, Path::kFast, 1000, recorder));
  double sum = 0;
  for (const auto& [layer, sets] : family_.cases[1].index_sets) {
    const double same = overlap(family_.cases[1], layer, recorder.sets.at(layer));
    std::printf("%-16s layer %d: %.1f %% of the golden sets\n", family_.name.c_str(), layer,
                100 * same);
    if (layer == 0) {
      EXPECT_GE(same, 1 - kRounding);
    }
    sum += same;
  }
  const double mean = sum / static_cast<double>(family_.cases[1].index_sets.size());
  std::printf("%-16s mean %.1f %% (bf16 run of transformers %.1f %%), KL %.2e\n",
              family_.name.c_str(), 100 * mean, 100 * family_.bf16_sets, lost);
  EXPECT_GE(mean, family_.bf16_sets - kRounding);
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(GoldenSets);
INSTANTIATE_TEST_SUITE_P(Families, GoldenSets, testing::ValuesIn(folders_with_indexers()),
                         [](const testing::TestParamInfo<std::string>& family) {
                           return family.param.substr(family.param.rfind('/') + 1);
                         });

}  // namespace
}  // namespace foveal::test
