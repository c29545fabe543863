// The device's sampler against the host's, token by token: in tests/ because it sees both.

#include "kernels/cuda/sample.h"

#include <algorithm>
#include <limits>

#include "kernels/cuda/dense_cuda_testing.h"
#include "sampler/choice.h"
#include "sampler/philox.h"
#include "sampler/rules.h"

namespace foveal::kernels::cuda {
namespace {

using namespace testing;

constexpr float kInf = std::numeric_limits<float>::infinity();

class SampleCudaTest : public CudaTest {
 protected:
  struct Result {
    std::vector<int32_t> tokens;
    std::vector<uint32_t> flags;
  };

  Result run(const std::vector<float>& logits, int32_t vocab, const std::vector<SampleRow>& rows,
             const std::vector<LogitEdit>& edits = {}, const std::vector<int32_t>& edit_begin = {},
             const std::vector<uint32_t>& allowed = {}) {
    const int64_t stride = (vocab + 3) / 4 * 4 + 4;
    std::vector<float> padded(rows.size() * static_cast<size_t>(stride), kInf);
    for (size_t row = 0; row < rows.size(); ++row) {
      std::copy_n(logits.begin() + static_cast<ptrdiff_t>(row) * vocab, vocab,
                  padded.begin() + static_cast<ptrdiff_t>(row) * stride);
    }
    const auto logits_dev = upload(padded);
    const auto rows_dev = upload(rows);
    const auto edits_dev = upload(edits);
    const auto begin_dev = upload(edit_begin);
    const auto allowed_dev = upload(allowed);
    const DeviceArray<int32_t> tokens(stream_, rows.size());
    const DeviceArray<uint32_t> flags(stream_, rows.size());
    sample({.logits = logits_dev.data(),
            .m = static_cast<int64_t>(rows.size()),
            .vocab = vocab,
            .logits_stride = stride,
            .rows = rows_dev.data(),
            .edits = edits.empty() ? nullptr : edits_dev.data(),
            .edit_begin = edits.empty() ? nullptr : begin_dev.data(),
            .allowed = allowed.empty() ? nullptr : allowed_dev.data(),
            .allowed_stride = (vocab + 31) / 32,
            .tokens = tokens.data(),
            .flags = flags.data()},
           stream_);
    return {tokens.download(), flags.download()};
  }

  SampleRow random_row() {
    const auto pick = [&](auto... values) {
      const double all[] = {static_cast<double>(values)...};
      return all[rng_() % std::size(all)];
    };
    return {.temperature = pick(0, 0.1, 0.7, 1.0, 1.0, 3.0),
            .top_p = pick(1, 1, 0.1, 0.5, 0.9, 0.999),
            .min_p = pick(0, 0, 0, 0.01, 0.3),
            .seed = (uint64_t{rng_()} << 32) | rng_(),
            .index = rng_() % 1000,
            .top_k = static_cast<int64_t>(pick(0, 0, 1, 2, 40, 1000, 1e7))};
  }

  static int32_t host_choice(std::span<const float> logits, const SampleRow& row) {
    if (row.temperature == 0) return sampler::argmax(logits);
    return sampler::choose(logits, {row.temperature, row.top_k, row.top_p, row.min_p},
                           sampler::uniform_draw(row.seed, row.index));
  }

  void compare(const std::vector<float>& logits, int32_t vocab,
               const std::vector<SampleRow>& rows) {
    const Result got = run(logits, vocab, rows);
    for (size_t row = 0; row < rows.size(); ++row) {
      const std::span<const float> own(logits.data() + row * static_cast<size_t>(vocab),
                                       static_cast<size_t>(vocab));
      ASSERT_EQ(got.flags[row], kSampleFine);
      ASSERT_EQ(got.tokens[row], host_choice(own, rows[row]))
          << "vocab " << vocab << " row " << row << " temperature " << rows[row].temperature
          << " top_k " << rows[row].top_k << " top_p " << rows[row].top_p << " min_p "
          << rows[row].min_p;
    }
  }
};

TEST_F(SampleCudaTest, TheHostsTokens) {
  for (const int32_t vocab : {1, 2, 7, 33, 1000, 4099, 32000, 49152, 128256, 151936, 262208}) {
    const size_t count = vocab > 100000 ? 24 : 96;
    std::vector<SampleRow> rows(count);
    for (SampleRow& row : rows) row = random_row();
    compare(normal(count * static_cast<size_t>(vocab), 3), vocab, rows);
  }
}

TEST_F(SampleCudaTest, TiesGoToTheLowerId) {
  for (const int32_t vocab : {3, 64, 5000, 32000}) {
    const size_t count = 64;
    std::vector<SampleRow> rows(count);
    for (SampleRow& row : rows) row = random_row();
    // A handful of values, all the same, and both zeros.
    std::vector<float> logits = integers(count * static_cast<size_t>(vocab), 2);
    for (float& x : logits) x = x == 0 && rng_() % 2 == 0 ? -0.0F : x;
    compare(logits, vocab, rows);
    compare(std::vector<float>(logits.size(), -3.5F), vocab, rows);
  }
}

TEST_F(SampleCudaTest, PeakedAndBannedEntries) {
  const int32_t vocab = 32000;
  const size_t count = 48;
  std::vector<SampleRow> rows(count);
  for (SampleRow& row : rows) row = random_row();
  std::vector<float> logits = normal(count * vocab, 8);
  for (float& x : logits) x = rng_() % 3 == 0 ? -kInf : x;
  for (size_t row = 0; row < count; ++row) logits[row * vocab + rng_() % vocab] = 40;
  compare(logits, vocab, rows);
}

TEST_F(SampleCudaTest, FlagsBadRows) {
  const int32_t vocab = 1000;
  std::vector<SampleRow> rows(5);
  for (SampleRow& row : rows) row.temperature = 1;
  std::vector<float> logits = normal(5 * vocab);
  logits[999] = std::nanf("");
  logits[vocab + 5] = kInf;
  std::fill_n(logits.begin() + 2 * vocab, vocab, -kInf);
  const std::vector<uint32_t> allowed = [&] {
    std::vector<uint32_t> words(5 * 32, 0xffffffffU);
    std::fill_n(words.begin() + 3 * 32, 32, 0U);
    return words;
  }();
  const Result got = run(logits, vocab, rows, {}, {}, allowed);
  EXPECT_EQ(got.flags, (std::vector<uint32_t>{kSampleBadLogit, kSampleBadLogit, kSampleBadLogit,
                                              kSampleAllBanned, kSampleFine}));
}

TEST_F(SampleCudaTest, EditsAsLogitRules) {
  const int32_t vocab = 500;
  const size_t count = 40;
  std::vector<float> logits = normal(count * vocab, 2);
  std::vector<SampleRow> rows(count);
  std::vector<LogitEdit> edits;
  std::vector<int32_t> begin{0};
  std::vector<uint32_t> allowed;
  std::vector<int32_t> want;
  for (size_t row = 0; row < count; ++row) {
    SamplingParams params;
    params.repetition_penalty = 1.3;
    params.presence_penalty = 0.7;
    params.frequency_penalty = -0.4;
    for (int i = 0; i < 20; ++i) {
      params.logit_bias[static_cast<int32_t>(rng_() % vocab)] =
          static_cast<double>(rng_() % 100) / 10 - 5;
    }
    for (int i = 0; i < 9; ++i) params.bad_words.push_back({static_cast<int32_t>(rng_() % vocab)});
    std::vector<int32_t> prompt;
    for (int i = 0; i < 60; ++i) prompt.push_back(static_cast<int32_t>(rng_() % vocab));
    sampler::LogitRules rules(params, vocab, prompt, {});
    std::map<int32_t, LogitEdit> merged;
    const auto at = [&](int32_t token) -> LogitEdit& {
      merged[token].token = token;
      return merged[token];
    };
    for (const auto& [token, bias] : params.logit_bias) {
      at(token).what |= LogitEdit::kBias;
      at(token).bias = bias;
    }
    for (const auto& word : params.bad_words) at(word.back()).what |= LogitEdit::kBan;
    for (const int32_t token : prompt) at(token).what |= LogitEdit::kPenalise;
    for (int i = 0; i < 30; ++i) {
      const auto token = static_cast<int32_t>(rng_() % vocab);
      rules.accept(token);
      at(token).what |= LogitEdit::kPenalise;
      ++at(token).generated;
    }
    for (const auto& [token, edit] : merged) edits.push_back(edit);
    begin.push_back(static_cast<int32_t>(edits.size()));
    std::vector<uint32_t> mask(16);
    for (uint32_t& word : mask) word = rng_() | rng_();
    allowed.insert(allowed.end(), mask.begin(), mask.end());
    rows[row] = random_row();
    rows[row].repetition = params.repetition_penalty;
    rows[row].presence = params.presence_penalty;
    rows[row].frequency = params.frequency_penalty;
    std::vector<float> own(logits.begin() + static_cast<ptrdiff_t>(row) * vocab,
                           logits.begin() + static_cast<ptrdiff_t>(row + 1) * vocab);
    rules.apply(own, mask);
    want.push_back(host_choice(own, rows[row]));
  }
  const Result got = run(logits, vocab, rows, edits, begin, allowed);
  EXPECT_EQ(got.tokens, want);
}

}  // namespace
}  // namespace foveal::kernels::cuda
