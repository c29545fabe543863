// The device's log-probabilities against the host's: in tests/ because it sees both.

#include "kernels/cuda/token_logprob.h"

#include <algorithm>
#include <limits>

#include "kernels/cuda/dense_cuda_testing.h"
#include "kernels/cuda/sample.h"
#include "sampler/logprob.h"

namespace foveal::kernels::cuda {
namespace {

using namespace testing;

constexpr float kInf = std::numeric_limits<float>::infinity();

class TokenLogprobCudaTest : public CudaTest {
 protected:
  std::vector<ScoredToken> run(const std::vector<float>& logits, int32_t vocab,
                               const std::vector<int32_t>& tokens) {
    const int64_t stride = (vocab + 3) / 4 * 4 + 4;
    std::vector<float> padded(tokens.size() * static_cast<size_t>(stride), kInf);
    for (size_t row = 0; row < tokens.size(); ++row) {
      std::copy_n(logits.begin() + static_cast<ptrdiff_t>(row) * vocab, vocab,
                  padded.begin() + static_cast<ptrdiff_t>(row) * stride);
    }
    const auto logits_dev = upload(padded);
    const auto tokens_dev = upload(tokens);
    const DeviceArray<ScoredToken> out(stream_, tokens.size());
    token_logprobs({.logits = logits_dev.data(),
                    .m = static_cast<int64_t>(tokens.size()),
                    .vocab = vocab,
                    .logits_stride = stride,
                    .tokens = tokens_dev.data(),
                    .out = out.data()},
                   stream_);
    return out.download();
  }

  void compare(const std::vector<float>& logits, int32_t vocab,
               const std::vector<int32_t>& tokens) {
    const std::vector<ScoredToken> got = run(logits, vocab, tokens);
    for (size_t row = 0; row < tokens.size(); ++row) {
      const std::span<const float> own(logits.data() + row * static_cast<size_t>(vocab),
                                       static_cast<size_t>(vocab));
      const auto token = static_cast<size_t>(tokens[row]);
      ASSERT_EQ(got[row].flags, kSampleFine);
      ASSERT_EQ(got[row].rank, sampler::token_logprob(own, tokens[row], 0).rank)
          << "vocab " << vocab << " row " << row;
      // The sum in double, from the largest logit on.
      const double best = *std::max_element(own.begin(), own.end());
      double sum = 0;
      for (const float x : own) sum += std::exp(double{x} - best);
      const double want = double{own[token]} - best - std::log(sum);
      if (std::isinf(want)) {
        ASSERT_EQ(got[row].logprob, -kInf);
      } else {
        ASSERT_NEAR(got[row].logprob, want, 1e-6 + std::abs(want) * 0x1p-24)
            << "vocab " << vocab << " row " << row;
      }
    }
  }

  std::vector<int32_t> random_tokens(size_t count, int32_t vocab) {
    std::vector<int32_t> out(count);
    for (int32_t& token : out) token = static_cast<int32_t>(rng_() % static_cast<uint32_t>(vocab));
    return out;
  }
};

TEST_F(TokenLogprobCudaTest, TheHostsFigures) {
  for (const int32_t vocab : {1, 2, 3, 4, 5, 33, 4095, 4097, 32000, 49152, 128256, 151936}) {
    const size_t count = vocab > 100000 ? 20 : 70;
    const size_t size = count * static_cast<size_t>(vocab);
    for (const float deviation : {0.01F, 3.0F, 30.0F}) {
      compare(normal(size, deviation), vocab, random_tokens(count, vocab));
    }
  }
}

TEST_F(TokenLogprobCudaTest, TiesAndBannedEntries) {
  for (const int32_t vocab : {3, 64, 5000, 32000}) {
    const size_t count = 48;
    const auto width = static_cast<size_t>(vocab);
    std::vector<float> logits = integers(count * width, 2);
    for (float& x : logits) x = x == 0 && rng_() % 2 == 0 ? -0.0F : x;
    for (float& x : logits) x = rng_() % 3 == 0 ? -kInf : x;
    for (size_t row = 0; row < count; ++row) logits[row * width + rng_() % width] = 1e30F;
    compare(logits, vocab, random_tokens(count, vocab));
    compare(std::vector<float>(logits.size(), -3.5F), vocab, random_tokens(count, vocab));
  }
}

TEST_F(TokenLogprobCudaTest, FlagsBadRowsAndLeavesOutOthers) {
  const int32_t vocab = 5003;
  std::vector<float> logits = normal(5 * size_t{vocab});
  logits[5002] = std::nanf("");
  logits[vocab + 5] = kInf;
  std::fill_n(logits.begin() + 2 * vocab, vocab, -kInf);
  const std::vector<ScoredToken> got = run(logits, vocab, {0, 5, 7, -1, 5002});
  for (const size_t row : {0, 1, 2}) EXPECT_EQ(got[row].flags, kSampleBadLogit) << row;
  EXPECT_EQ(got[3].flags, 0xffffffffU);  // as it was
  EXPECT_EQ(got[4].flags, kSampleFine);
}

TEST_F(TokenLogprobCudaTest, ARowsResultDependsOnThatRowAlone) {
  const int32_t vocab = 32001;
  const std::vector<float> logits = normal(40 * size_t{vocab}, 4);
  const std::vector<int32_t> tokens = random_tokens(40, vocab);
  const std::vector<ScoredToken> all = run(logits, vocab, tokens);
  for (const size_t row : {0, 17, 39}) {
    const auto begin = logits.begin() + static_cast<ptrdiff_t>(row) * vocab;
    const ScoredToken alone = run({begin, begin + vocab}, vocab, {tokens[row]}).front();
    EXPECT_EQ(alone.logprob, all[row].logprob) << row;
    EXPECT_EQ(alone.rank, all[row].rank) << row;
    EXPECT_EQ(alone.flags, all[row].flags) << row;
  }
}

}  // namespace
}  // namespace foveal::kernels::cuda
