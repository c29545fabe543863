// The engine as its users see it, on a tiny golden model: many requests,
// failures, reuse, preemption.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <numeric>
#include <thread>

#include "engine_testing.h"
#include "foveal/llm.h"

namespace foveal {
namespace {

using engine_testing::Hold;
using engine_testing::kVocab;
using engine_testing::random_prompt;
using engine_testing::tokens;

constexpr const char* kModel = FOVEAL_SOURCE_DIR "/tests/golden/llama3";

LlmConfig small_config() {
  LlmConfig config;
  config.model = kModel;
  config.device = "cpu";
  config.threads = 2;
  config.kv_cache_config.max_tokens = 4096;
  return config;
}

ErrorKind kind_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.kind();
  }
  ADD_FAILURE() << "nothing was thrown";
  return ErrorKind::kInternal;
}

TEST(Engine, ManyRequestsAnswerAsEachAlone) {
  std::vector<std::vector<int32_t>> alone;
  for (uint32_t seed = 0; seed < 12; ++seed) {
    LLM llm(small_config());
    alone.push_back(llm.generate({.token_ids = random_prompt(seed, 5 + seed * 17)}, tokens(20))
                        .outputs[0]
                        .token_ids);
    EXPECT_EQ(alone.back().size(), 20U);
  }
  LLM llm(small_config());
  std::vector<Generation> running;
  for (uint32_t seed = 0; seed < 12; ++seed) {
    running.push_back(llm.submit({.token_ids = random_prompt(seed, 5 + seed * 17)}, tokens(20)));
  }
  for (size_t idx = 0; idx < running.size(); ++idx) {
    EXPECT_EQ(running[idx].result().outputs[0].token_ids, alone[idx]) << idx;
  }
}

TEST(Engine, PreemptionChangesNothing) {
  LlmConfig config = small_config();
  std::vector<RequestOutput> calm;
  {
    LLM llm(config);
    for (uint32_t seed = 0; seed < 6; ++seed) {
      calm.push_back(llm.generate({.token_ids = random_prompt(seed, 60)}, tokens(90)));
    }
  }
  config.kv_cache_config.max_tokens = 256;  // six requests of 150 tokens cannot all stay
  config.kv_cache_config.tokens_per_block = 16;
  LLM llm(config);
  Hold hold(llm);  // all six are there before the first ends
  std::vector<Generation> running;
  for (uint32_t seed = 0; seed < 6; ++seed) {
    running.push_back(llm.submit({.token_ids = random_prompt(seed, 60)}, tokens(90)));
  }
  hold.release();
  for (size_t idx = 0; idx < running.size(); ++idx) {
    const RequestOutput out = running[idx].result();
    EXPECT_EQ(out.outputs[0].token_ids, calm[idx].outputs[0].token_ids) << idx;
    // What was measured is one computation, not one and its repetition.
    EXPECT_EQ(out.cached_tokens, 0) << idx;
    EXPECT_EQ(out.timings.prefill_tokens, 60) << idx;
    const LayerSparsity got = out.sparsity.total();
    const LayerSparsity want = calm[idx].sparsity.total();
    EXPECT_EQ(got.prefill.pairs, want.prefill.pairs) << idx;
    EXPECT_EQ(got.decode.pairs, want.decode.pairs) << idx;
  }
  EXPECT_GT(llm.stats().preemptions, 0U);
}

TEST(Engine, ForcedTokensGoThroughDecodeAsChosenOnesDo) {
  LLM llm(small_config());
  SamplingParams sampling = tokens(24);
  sampling.logprobs = 3;
  const std::vector<int32_t> prompt = random_prompt(7, 41);
  const RequestOutput chosen =
      llm.generate({.token_ids = prompt}, sampling, {.generation_logits = true});
  const std::vector<int32_t>& ids = chosen.outputs[0].token_ids;
  sampling.max_tokens = 1;  // what ends a text otherwise is passed over
  sampling.ignore_eos = false;
  sampling.stop_token_ids = {ids[3]};
  const RequestOutput forced = llm.generate({.token_ids = prompt}, sampling,
                                            {.generation_logits = true, .forced_tokens = ids});
  EXPECT_EQ(forced.outputs[0].token_ids, ids);
  EXPECT_EQ(forced.outputs[0].finish_reason, FinishReason::kLength);
  ASSERT_TRUE(forced.generation_logits.has_value());
  EXPECT_EQ(forced.generation_logits->rows, 24);
  EXPECT_EQ(forced.generation_logits->data, chosen.generation_logits->data);
  for (size_t at = 0; at < ids.size(); ++at) {
    const TokenLogprob& got = forced.outputs[0].logprobs[at];
    EXPECT_EQ(got.logprob, chosen.outputs[0].logprobs[at].logprob) << at;
    EXPECT_EQ(got.rank, chosen.outputs[0].logprobs[at].rank) << at;
    EXPECT_EQ(forced.outputs[0].top_logprobs[at].at(0).token, ids[at]) << at;
    const float* row = forced.generation_logits->data.data() + at * kVocab;
    double sum = 0;
    for (int32_t token = 0; token < kVocab; ++token) sum += std::exp(double{row[token]});
    EXPECT_NEAR(got.logprob, row[ids[at]] - std::log(sum), 1e-5) << at;
  }
}

// What a prompt's rows say of its tokens, decode must say of the same tokens
// when they are forced: within what bf16 keys and another order of summation
// change, 2^-8 of logits of about 4.
TEST(Engine, ForcedTokensAgreeWithThePrompt) {
  LLM llm(small_config());
  const std::vector<int32_t> text = random_prompt(9, 120);
  SamplingParams sampling = tokens(0);
  sampling.prompt_logprobs = 0;
  const RequestOutput whole = llm.generate({.token_ids = text}, sampling);
  const std::vector<int32_t> head(text.begin(), text.begin() + 50);
  SamplingParams decode = tokens(1);
  decode.logprobs = 0;
  const RequestOutput forced =
      llm.generate({.token_ids = head}, decode, {.forced_tokens = {text.begin() + 50, text.end()}});
  EXPECT_EQ(forced.sparsity.total().prefill.pairs > 0, true);
  ASSERT_EQ(forced.outputs[0].logprobs.size(), 70U);
  for (size_t at = 0; at < 70; ++at) {
    EXPECT_NEAR(forced.outputs[0].logprobs[at].logprob, whole.prompt_logprobs[50 + at]->logprob,
                0.05)
        << at;
  }
}

TEST(Engine, ForcedTokensSurvivePreemption) {
  LlmConfig config = small_config();
  const auto forced = [](uint32_t seed) { return random_prompt(seed + 100, 90); };
  SamplingParams sampling = tokens(1);
  sampling.logprobs = 0;
  std::vector<RequestOutput> calm;
  {
    LLM llm(config);
    for (uint32_t seed = 0; seed < 6; ++seed) {
      calm.push_back(llm.generate({.token_ids = random_prompt(seed, 60)}, sampling,
                                  {.generation_logits = true, .forced_tokens = forced(seed)}));
    }
  }
  config.kv_cache_config.max_tokens = 256;
  config.kv_cache_config.tokens_per_block = 16;
  LLM llm(config);
  Hold hold(llm);
  std::vector<Generation> running;
  for (uint32_t seed = 0; seed < 6; ++seed) {
    running.push_back(llm.submit({.token_ids = random_prompt(seed, 60)}, sampling,
                                 {.generation_logits = true, .forced_tokens = forced(seed)}));
  }
  hold.release();
  for (size_t idx = 0; idx < running.size(); ++idx) {
    const RequestOutput out = running[idx].result();
    EXPECT_EQ(out.outputs[0].token_ids, forced(static_cast<uint32_t>(idx)));
    EXPECT_EQ(out.generation_logits->data, calm[idx].generation_logits->data) << idx;
  }
  EXPECT_GT(llm.stats().preemptions, 0U);
}

TEST(Engine, ForcedTokensAreRefusedWhereTheyCannotBe) {
  LLM llm(small_config());
  const Prompt prompt{.token_ids = random_prompt(1, 10)};
  const auto kind = [&](SamplingParams sampling, const RequestOptions& options) {
    return kind_of([&] { llm.generate(prompt, sampling, options); });
  };
  EXPECT_EQ(kind(tokens(1), {.forced_tokens = {kVocab}}), ErrorKind::kInvalidArgument);
  EXPECT_EQ(kind(tokens(1), {.forced_tokens = {-1}}), ErrorKind::kInvalidArgument);
  const std::vector<int32_t> too_many(static_cast<size_t>(llm.max_seq_len() - 9), 5);
  EXPECT_EQ(kind(tokens(1), {.forced_tokens = too_many}), ErrorKind::kContextLength);
  SamplingParams two = tokens(1);
  two.n = 2;
  EXPECT_EQ(kind(two, {.forced_tokens = {1}}), ErrorKind::kInvalidArgument);
  EXPECT_EQ(kind(two, {.generation_logits = true}), ErrorKind::kInvalidArgument);
  SamplingParams guided = tokens(1);
  guided.guided = GuidedDecoding{.kind = GuidedDecoding::Kind::kRegex, .text = "a"};
  EXPECT_EQ(kind(guided, {.forced_tokens = {1}}), ErrorKind::kInvalidArgument);
}

TEST(Engine, EqualPrefixesShareTheirPages) {
  LLM llm(small_config());
  const std::vector<int32_t> prompt = random_prompt(3, 300);
  const RequestOutput first = llm.generate({.token_ids = prompt}, tokens(16));
  const RequestOutput second = llm.generate({.token_ids = prompt}, tokens(16));
  EXPECT_EQ(first.cached_tokens, 0);
  EXPECT_EQ(second.cached_tokens,
            288);  // whole pages of 32, and at least one row is computed
  EXPECT_EQ(first.outputs[0].token_ids, second.outputs[0].token_ids);
  std::vector<int32_t> other = prompt;
  other[40] = (other[40] + 1) % kVocab;
  EXPECT_EQ(llm.generate({.token_ids = other}, tokens(1)).cached_tokens, 32);
}

TEST(Engine, ReuseCanBeSwitchedOff) {
  LlmConfig config = small_config();
  config.kv_cache_config.enable_block_reuse = false;
  LLM llm(config);
  const std::vector<int32_t> prompt = random_prompt(3, 300);
  llm.generate({.token_ids = prompt}, tokens(1));
  EXPECT_EQ(llm.generate({.token_ids = prompt}, tokens(1)).cached_tokens, 0);
}

TEST(Engine, CancelEndsOneRequestOnly) {
  LLM llm(small_config());
  Hold hold(llm);
  Generation doomed = llm.submit({.token_ids = random_prompt(1, 50)}, tokens(900));
  Generation other = llm.submit({.token_ids = random_prompt(2, 50)}, tokens(30));
  doomed.cancel();
  hold.release();
  ASSERT_TRUE(doomed.next()) << "it ran";
  EXPECT_EQ(doomed.result().outputs[0].finish_reason, FinishReason::kCancelled);
  const RequestOutput out = other.result();
  EXPECT_EQ(out.outputs[0].finish_reason, FinishReason::kLength);
  EXPECT_EQ(out.outputs[0].token_ids.size(), 30U);
}

TEST(Engine, DestructionEndsWhatRuns) {
  std::optional<Generation> orphan;
  {
    LLM llm(small_config());
    Hold hold(llm);
    orphan = llm.submit({.token_ids = random_prompt(1, 50)}, tokens(900));
    // A consumer that holds up each step makes it last for most of a minute.
    orphan->on_ready([] { std::this_thread::sleep_for(std::chrono::milliseconds(50)); });
    hold.release();
  }
  EXPECT_EQ(orphan->result().outputs[0].finish_reason, FinishReason::kCancelled);
}

TEST(Engine, RefusesBadRequestsAndGoesOn) {
  LLM llm(small_config());
  const auto submit = [&](std::vector<int32_t> ids, SamplingParams sampling) {
    return [&llm, ids, sampling] { llm.submit({.token_ids = ids}, sampling); };
  };
  EXPECT_EQ(kind_of(submit({}, tokens(1))), ErrorKind::kInvalidArgument);
  EXPECT_EQ(kind_of(submit({1, kVocab}, tokens(1))), ErrorKind::kInvalidArgument);
  EXPECT_EQ(kind_of(submit({1, -1}, tokens(1))), ErrorKind::kInvalidArgument);
  EXPECT_EQ(kind_of(submit(random_prompt(1, 5000), tokens(1))), ErrorKind::kContextLength);
  EXPECT_EQ(kind_of(submit({1}, tokens(-1))), ErrorKind::kInvalidArgument);
  SamplingParams hot = tokens(1);
  hot.temperature = std::nan("");
  EXPECT_EQ(kind_of(submit({1}, hot)), ErrorKind::kInvalidArgument);
  EXPECT_EQ(kind_of([&] { llm.submit({.text = "no tokenizer here"}, tokens(1)); }),
            ErrorKind::kUnsupported);
  EXPECT_EQ(llm.generate({.token_ids = {{1, 2, 3}}}, tokens(4)).outputs[0].token_ids.size(), 4U);
}

TEST(Engine, OutputIsCutAtTheContext) {
  LlmConfig config = small_config();
  config.max_seq_len = 64;
  LLM llm(config);
  const RequestOutput out = llm.generate({.token_ids = random_prompt(9, 60)}, tokens(100));
  EXPECT_EQ(out.outputs[0].token_ids.size(), 4U);
  EXPECT_EQ(out.outputs[0].finish_reason, FinishReason::kLength);
}

TEST(Engine, SameSeedSameText) {
  LLM llm(small_config());
  SamplingParams sampling = tokens(40);
  sampling.temperature = 1.0;
  sampling.seed = 7;
  const Prompt prompt{.token_ids = random_prompt(5, 30)};
  const auto first = llm.generate(prompt, sampling).outputs[0].token_ids;
  Generation company = llm.submit({.token_ids = random_prompt(6, 100)}, tokens(50));
  EXPECT_EQ(llm.generate(prompt, sampling).outputs[0].token_ids, first);
  company.result();
  sampling.seed = 8;
  EXPECT_NE(llm.generate(prompt, sampling).outputs[0].token_ids, first);
}

TEST(Engine, StopTokensEndTheText) {
  LLM llm(small_config());
  const Prompt prompt{.token_ids = random_prompt(5, 30)};
  const auto free = llm.generate(prompt, tokens(30)).outputs[0].token_ids;
  SamplingParams sampling = tokens(30);
  sampling.stop_token_ids = {free[4]};
  const CompletionOutput out = llm.generate(prompt, sampling).outputs[0];
  EXPECT_EQ(out.finish_reason, FinishReason::kStop);
  const auto first = std::find(free.begin(), free.end(), free[4]) - free.begin();
  EXPECT_EQ(out.token_ids.size(), static_cast<size_t>(first) + 1);
}

TEST(Engine, PromptLogprobsAgreeWithLogits) {
  LLM llm(small_config());
  const std::vector<int32_t> prompt = random_prompt(4, 45);
  SamplingParams sampling = tokens(0);
  sampling.prompt_logprobs = 0;
  const RequestOutput out = llm.generate({.token_ids = prompt}, sampling, {.logits = true});
  ASSERT_EQ(out.logits->rows, 45);
  EXPECT_TRUE(out.outputs[0].token_ids.empty());
  EXPECT_FALSE(out.prompt_logprobs[0]);
  for (size_t at = 1; at < prompt.size(); ++at) {
    const float* row = out.logits->data.data() + (at - 1) * kVocab;
    double sum = 0;
    for (int32_t token = 0; token < kVocab; ++token) sum += std::exp(double{row[token]});
    EXPECT_NEAR(out.prompt_logprobs[at]->logprob, row[prompt[at]] - std::log(sum), 1e-5);
  }
}

LlmConfig skipping_config(double factor, int64_t chunk) {
  LlmConfig config = small_config();
  config.prefill_chunk = chunk;
  SkipSoftmaxAttentionConfig skip;
  skip.threshold_scale_factor = PhaseValue{.prefill = factor, .decode = factor};
  config.sparse_attention_config = {skip};
  return config;
}

TEST(Engine, SkipSoftmaxOffIsDense) {
  LLM dense(small_config());
  const Prompt prompt{.token_ids = random_prompt(8, 400)};
  const RequestOutput want = dense.generate(prompt, tokens(20), {.logits = true});
  EXPECT_EQ(want.sparsity.total().prefill.skipped(), 0);
  for (const double factor : {0.0, 1e6}) {  // off; threshold >= 1 at this length
    LLM llm(skipping_config(factor, 512));
    const RequestOutput out = llm.generate(prompt, tokens(20), {.logits = true});
    EXPECT_EQ(out.logits->data, want.logits->data) << factor;
    EXPECT_EQ(out.outputs[0].token_ids, want.outputs[0].token_ids) << factor;
    EXPECT_EQ(out.sparsity.total().decode.pairs_used, want.sparsity.total().decode.pairs_used);
  }
}

TEST(Engine, SkipSoftmaxSkipsMoreWithTheFactorWhateverTheChunk) {
  const Prompt prompt{.token_ids = random_prompt(8, 400)};
  double last = 0;
  for (const double factor : {1.0, 100.0, 399.0}) {
    std::optional<RequestOutput> whole;
    for (const int64_t chunk : {512, 16, 50, 128}) {
      LLM llm(skipping_config(factor, chunk));
      RequestOutput out = llm.generate(prompt, tokens(20), {.logits = true});
      if (!whole) {
        whole = std::move(out);
        continue;
      }
      EXPECT_EQ(out.logits->data, whole->logits->data) << factor << " " << chunk;
      EXPECT_EQ(out.sparsity.total().prefill.pairs_used,
                whole->sparsity.total().prefill.pairs_used);
    }
    const double share = whole->sparsity.total().prefill.skipped();
    EXPECT_GE(share, last) << factor;
    last = share;
  }
  EXPECT_GT(last, 0.01);
}

TEST(Engine, TraceHasEveryLayersRows) {
  LLM llm(small_config());
  const RequestOutput out =
      llm.generate({.token_ids = random_prompt(2, 70)}, tokens(3), {.trace_filter = "^hidden\\."});
  ASSERT_EQ(out.trace.size(), 2U);
  EXPECT_EQ(out.trace[0].name, "hidden.0");
  EXPECT_EQ(out.trace[0].rows, 72);  // the last token is never fed back
  EXPECT_EQ(out.trace[1].data.size(), 72U * static_cast<size_t>(out.trace[1].cols));
  EXPECT_EQ(kind_of([&] { llm.submit({.token_ids = {{1}}}, tokens(1), {.trace_filter = "("}); }),
            ErrorKind::kInvalidArgument);
}

TEST(Engine, CompletionsOfOnePromptShareItsPages) {
  const std::vector<int32_t> prompt = random_prompt(5, 200);
  SamplingParams sampling = tokens(24);
  sampling.temperature = 1;
  sampling.seed = 11;
  std::vector<std::vector<int32_t>> alone;
  for (uint64_t idx = 0; idx < 4; ++idx) {
    LLM llm(small_config());
    SamplingParams own = sampling;
    own.seed = 11 + idx;
    alone.push_back(llm.generate({.token_ids = prompt}, own).outputs[0].token_ids);
  }
  EXPECT_NE(alone[0], alone[1]);
  LLM llm(small_config());
  sampling.n = 4;
  sampling.prompt_logprobs = 0;
  const RequestOutput out = llm.generate({.token_ids = prompt}, sampling);
  ASSERT_EQ(out.outputs.size(), 4U);
  for (size_t idx = 0; idx < 4; ++idx) EXPECT_EQ(out.outputs[idx].token_ids, alone[idx]) << idx;
  EXPECT_EQ(out.prompt_logprobs.size(), prompt.size());
  const EngineStats stats = llm.stats();
  EXPECT_EQ(stats.prompt_tokens, 4 * prompt.size());
  // The first wants its whole prompt's logits, so it neither publishes nor
  // finds pages.
  sampling.prompt_logprobs.reset();
  llm.generate({.token_ids = random_prompt(6, 200)}, sampling);
  EXPECT_EQ(llm.stats().cached_tokens, stats.cached_tokens + 3 * 192);
  EXPECT_EQ(llm.stats().generated_tokens, 2U * 4 * 24);
}

TEST(Engine, DeltasAddUpToTheOutput) {
  LLM llm(small_config());
  SamplingParams sampling = tokens(20);
  sampling.n = 3;
  sampling.logprobs = 1;
  sampling.temperature = 1;
  sampling.seed = 3;
  Generation generation = llm.submit({.token_ids = random_prompt(1, 40)}, sampling);
  std::atomic<int> calls{0};
  generation.on_ready([&] { calls.fetch_add(1); });
  std::vector<std::vector<int32_t>> ids(3);
  int finished = 0;
  while (const std::optional<OutputDelta> delta = generation.next_delta()) {
    auto& own = ids.at(static_cast<size_t>(delta->index));
    own.insert(own.end(), delta->token_ids.begin(), delta->token_ids.end());
    EXPECT_EQ(delta->logprobs.size(), delta->token_ids.size());
    finished += delta->finish_reason == FinishReason::kLength ? 1 : 0;
  }
  EXPECT_TRUE(generation.ended());
  EXPECT_EQ(finished, 3);
  // At least once: what became ready while nobody looked is announced together.
  EXPECT_GE(calls.load(), 1);
  const RequestOutput out = generation.result();
  for (size_t idx = 0; idx < 3; ++idx) EXPECT_EQ(out.outputs[idx].token_ids, ids[idx]);
}

TEST(Engine, CancellingEndsEveryCompletion) {
  LLM llm(small_config());
  SamplingParams sampling = tokens(400);
  sampling.n = 3;
  Hold hold(llm);
  std::atomic<int64_t> left{-1};  // at the last of its ends
  Generation generation = llm.submit({.token_ids = random_prompt(1, 300)}, sampling);
  generation.on_ready([&] { left = llm.stats().running + llm.stats().waiting; });
  generation.cancel();
  hold.release();
  const RequestOutput out = generation.result();
  for (const CompletionOutput& output : out.outputs) {
    EXPECT_EQ(output.finish_reason, FinishReason::kCancelled);
  }
  EXPECT_EQ(llm.generate({.token_ids = random_prompt(2, 10)}, tokens(2)).outputs.size(), 1U);
  EXPECT_EQ(left.load(), 0) << "whoever hears of the end finds it in the counts";
  EXPECT_EQ(llm.stats().running, 0);
}

TEST(Engine, DroppedRequestsEndAndGiveTheirPagesBack) {
  LLM llm(small_config());
  Hold hold(llm);
  {
    const Generation dropped = llm.submit({.token_ids = random_prompt(1, 300)}, tokens(700));
  }
  hold.release();
  const RequestOutput out = llm.generate({.token_ids = random_prompt(2, 10)}, tokens(2));
  EXPECT_EQ(out.outputs[0].token_ids.size(), 2U);
  const EngineStats stats = llm.stats();
  EXPECT_EQ(stats.running, 0);
  EXPECT_EQ(stats.kv_pages_used, 0);
  EXPECT_LT(stats.generated_tokens, 700U);
}

TEST(Engine, SaltsKeepPrefixesApart) {
  LLM llm(small_config());
  const std::vector<int32_t> prompt = random_prompt(3, 100);
  const auto cached = [&](const std::string& salt) {
    RequestOptions options;
    options.cache_salt = salt;
    return llm.generate({.token_ids = prompt}, tokens(1), options).cached_tokens;
  };
  EXPECT_EQ(cached("a"), 0);
  EXPECT_EQ(cached("b"), 0);
  EXPECT_EQ(cached("a"), 96);
}

TEST(Engine, RequestsBringTheirOwnFactors) {
  LlmConfig config = small_config();
  SkipSoftmaxAttentionConfig skip;
  skip.threshold_scale_factor = PhaseValue{.prefill = 200.0};
  LLM dense(config);
  config.sparse_attention_config = {skip};
  LLM sparse(config);
  const std::vector<int32_t> prompt = random_prompt(9, 900);
  const auto run = [&](LLM& llm, const std::optional<SparseOverride>& own) {
    RequestOptions options{.logits = true, .logits_last = 4};
    options.sparse_attention = own;
    return llm.generate({.token_ids = prompt}, tokens(4), options);
  };
  const RequestOutput plain = run(dense, {});
  const RequestOutput engine = run(sparse, {});
  const RequestOutput off = run(sparse, SparseOverride{.off = true});
  const RequestOutput more =
      run(sparse, SparseOverride{.threshold_scale_factor = PhaseValue{.prefill = 800.0}});
  EXPECT_EQ(off.logits->data, plain.logits->data);
  EXPECT_EQ(off.sparsity.total().prefill.skipped(), 0);
  EXPECT_GT(engine.sparsity.total().prefill.skipped(), 0);
  EXPECT_GT(more.sparsity.total().prefill.skipped(), engine.sparsity.total().prefill.skipped());
  // Beside each other in a step, each keeps its own.
  const SamplingParams sampling = tokens(4);
  RequestOptions own;
  own.sparse_attention = SparseOverride{.off = true};
  Generation first = sparse.submit({.token_ids = prompt}, sampling, own);
  Generation second = sparse.submit({.token_ids = prompt}, sampling);
  EXPECT_EQ(first.result().outputs[0].token_ids, plain.outputs[0].token_ids);
  EXPECT_EQ(second.result().outputs[0].token_ids, engine.outputs[0].token_ids);
  // What cannot be had is refused.
  const auto refused = [&](LLM& llm, const SparseOverride& wanted) {
    EXPECT_THROW(run(llm, wanted), Error);
  };
  refused(sparse, {.threshold_scale_factor = PhaseValue{.decode = 10.0}});
  refused(sparse, {.threshold_scale_factor = PhaseValue{.prefill = -1.0}});
  refused(sparse, {.off = true, .threshold_scale_factor = PhaseValue{.prefill = 1.0}});
  refused(dense, {.threshold_scale_factor = PhaseValue{.prefill = 10.0}});
  EXPECT_NO_THROW(run(dense, SparseOverride{.off = true}));
}

}  // namespace
}  // namespace foveal
