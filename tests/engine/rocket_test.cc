// RocketKV in the engine, on tiny golden models: what it must equal, what it keeps, what it costs.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <thread>

#include "engine/inspect.h"
#include "engine_testing.h"
#include "foveal/llm.h"

namespace {

/// Allocations of this size fail once the countdown reaches 0: a step that runs out of memory.
std::atomic<size_t> g_failing_size{0};
std::atomic<int> g_countdown{0};

}  // namespace

// Not inlined, for g++ takes `free` of their result for a mistake.
[[gnu::noinline]] void* operator new(size_t size) {
  if (size == g_failing_size.load() && size != 0 && g_countdown.fetch_sub(1) == 0) {
    throw std::bad_alloc();
  }
  if (void* memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc();
}
// AddressSanitizer has one of its own that does not call the form above.
[[gnu::noinline]] void* operator new(size_t size, const std::nothrow_t& /*tag*/) noexcept {
  return std::malloc(size == 0 ? 1 : size);
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t /*size*/) noexcept {
  std::free(memory);
}

namespace foveal {
namespace {

using engine_testing::Hold;
using engine_testing::random_prompt;

LlmConfig config_of(const std::string& family) {
  LlmConfig config;
  config.model = FOVEAL_SOURCE_DIR "/tests/golden/" + family;
  config.device = "cpu";
  config.threads = 2;
  config.kv_cache_config.max_tokens = 8192;
  return config;
}

/// To evict, or the candidates of a decode step where all stays.
constexpr const char* kWays[] = {"evict", "prompt", "all"};

RocketSparseAttentionConfig in_way(RocketSparseAttentionConfig rocket, const std::string& way) {
  if (way == "evict") return rocket;
  rocket.mode = "multi_turn";
  rocket.candidates = way;
  return rocket;
}

RocketSparseAttentionConfig small_budget(const std::string& way = "evict") {
  return in_way({.window_size = 8, .kernel_size = 7, .topk = 8, .prompt_budget = 64}, way);
}

LlmConfig with(LlmConfig config, const RocketSparseAttentionConfig& rocket) {
  config.sparse_attention_config = {rocket};
  return config;
}

SamplingParams tokens(int64_t count) {
  SamplingParams out = engine_testing::tokens(count);
  out.logprobs = 0;
  return out;
}

/// Tokens and their log-probabilities: equal only where attention was, bit for bit.
struct Answer {
  std::vector<int32_t> ids;
  std::vector<float> logprobs;
  bool operator==(const Answer&) const = default;
};
Answer answer_of(const RequestOutput& output) {
  Answer out{.ids = output.outputs[0].token_ids, .logprobs = {}};
  for (const TokenLogprob& entry : output.outputs[0].logprobs) {
    out.logprobs.push_back(entry.logprob);
  }
  return out;
}

TEST(Rocket, IsDenseWhereNothingIsLeftOut) {
  constexpr int64_t kAll = 1 << 20;
  for (const char* family : {"llama3", "gemma3", "qwen3_moe"}) {
    LLM dense(config_of(family));
    for (const char* way : kWays) {
      SCOPED_TRACE(std::string(family) + " " + way);
      LLM rocket(with(config_of(family), in_way({.topk = kAll, .prompt_budget = 400}, way)));
      for (const size_t len : {1U, 33U, 400U}) {  // up to the budget
        const Prompt prompt{.token_ids = random_prompt(5, len)};
        const RequestOutput want = dense.generate(prompt, tokens(40));
        const RequestOutput got = rocket.generate(prompt, tokens(40));
        EXPECT_EQ(answer_of(got), answer_of(want)) << len;
        EXPECT_EQ(got.sparsity.total().decode.pairs_used, want.sparsity.total().decode.pairs);
        EXPECT_EQ(got.sparsity.prompt_tokens, len);
        EXPECT_EQ(got.sparsity.kept_tokens, len);
      }
    }
  }
}

// A layer with a window keeps what its rows will see: with all else covered, nothing is missing.
TEST(Rocket, WindowsSeeWhatTheyWouldSee) {
  RocketSparseAttentionConfig rocket{.topk = 1 << 20, .prompt_budget = 256};
  rocket.mode = "evict";
  LLM dense(config_of("gemma3"));
  LLM evicts(with(config_of("gemma3"), rocket));
  const Prompt prompt{.token_ids = random_prompt(6, 700)};
  const RequestOutput want = dense.generate(prompt, tokens(30));
  const RequestOutput got = evicts.generate(prompt, tokens(30));
  int windows = 0;
  for (size_t layer = 0; layer < got.sparsity.layers.size(); ++layer) {
    const PhaseSparsity& decode = got.sparsity.layers[layer].decode;
    EXPECT_EQ(decode.pairs, want.sparsity.layers[layer].decode.pairs) << layer;
    if (decode.pairs == decode.pairs_used) ++windows;
  }
  EXPECT_GT(windows, 0);
  EXPECT_LT(windows, static_cast<int>(got.sparsity.layers.size()));
}

TEST(Rocket, ChunksChangeNothing) {
  for (const char* way : kWays) {
    std::optional<Answer> whole;
    for (const int64_t chunk : {512, 64, 3, 499}) {  // the window in one chunk, or across two
      LlmConfig config = with(config_of("llama3"), small_budget(way));
      config.prefill_chunk = chunk;
      LLM llm(config);
      const RequestOutput output = llm.generate({.token_ids = random_prompt(7, 500)}, tokens(40));
      const Answer got = answer_of(output);
      if (!whole) whole = got;
      EXPECT_EQ(got, *whole) << way << " chunk " << chunk;
      EXPECT_GT(output.sparsity.total().decode.skipped(), 0.5);
    }
  }
}

TEST(Rocket, ReuseChangesNothing) {
  for (const char* way : kWays) {
    LlmConfig config = with(config_of("llama3"), small_budget(way));
    LLM reuses(config);
    config.kv_cache_config.enable_block_reuse = false;
    LLM alone(config);
    const std::vector<int32_t> document = random_prompt(8, 512);
    for (uint32_t question = 0; question < 4; ++question) {
      std::vector<int32_t> prompt = document;
      const std::vector<int32_t> tail = random_prompt(20 + question, 5 + 9 * question);
      prompt.insert(prompt.end(), tail.begin(), tail.end());
      const RequestOutput got = reuses.generate({.token_ids = prompt}, tokens(30));
      EXPECT_EQ(answer_of(got), answer_of(alone.generate({.token_ids = prompt}, tokens(30))))
          << way << " " << question;
      // Rows whose queries select are computed anew, the last one always, and what lies before
      // comes from the index, whole: nothing that was compacted is found there.
      const size_t own = way == std::string_view("all") ? 1 : 8;
      const auto most = static_cast<int64_t>((prompt.size() - own) / 32 * 32);
      EXPECT_EQ(got.cached_tokens, question == 0 ? 0 : std::min<int64_t>(512, most));
    }
    // A prompt within the budget finds the pages of a longer one, bounds included.
    const std::vector<int32_t> start(document.begin(), document.begin() + 60);
    const RequestOutput got = reuses.generate({.token_ids = start}, tokens(30));
    EXPECT_EQ(got.cached_tokens, 32);
    EXPECT_EQ(answer_of(got), answer_of(alone.generate({.token_ids = start}, tokens(30))));
  }
}

// Each turn asks less than the window holds, after the turns and answers before it.
TEST(Rocket, TurnsOfAConversationReuseThePromptsBeforeThem) {
  for (const char* way : kWays) {
    LlmConfig config = with(config_of("llama3"), small_budget(way));
    LLM reuses(config);
    config.kv_cache_config.enable_block_reuse = false;
    LLM alone(config);
    std::vector<int32_t> talk = random_prompt(30, 300);
    int64_t asked = 0;  // tokens of the prompt before this one
    for (uint32_t turn = 0; turn < 5; ++turn) {
      SCOPED_TRACE(std::string(way) + " turn " + std::to_string(turn));
      const RequestOutput got = reuses.generate({.token_ids = talk}, tokens(37));
      EXPECT_EQ(answer_of(got), answer_of(alone.generate({.token_ids = talk}, tokens(37))));
      // Of what was decoded nothing is found again: it was computed from a selection.
      EXPECT_EQ(got.cached_tokens, asked / 32 * 32);
      EXPECT_EQ(got.sparsity.kept_tokens, way == std::string_view("all") ? talk.size() : 64U);
      asked = std::ssize(talk);
      const std::vector<int32_t> answer = got.outputs[0].token_ids;
      talk.insert(talk.end(), answer.begin(), answer.end());
      const std::vector<int32_t> question = random_prompt(40 + turn, 3);
      talk.insert(talk.end(), question.begin(), question.end());
    }
  }
}

TEST(Rocket, CombinesWithSkipSoftmaxByPhase) {
  SkipSoftmaxAttentionConfig skip;
  skip.threshold_scale_factor = PhaseValue{.prefill = 200.0};
  LlmConfig config = config_of("llama3");
  config.sparse_attention_config = {skip, small_budget()};
  LLM llm(config);
  EXPECT_EQ(llm.method(), "skip_softmax+rocket");
  const RequestOutput output = llm.generate({.token_ids = random_prompt(9, 900)}, tokens(20));
  EXPECT_GT(output.sparsity.total().prefill.skipped(), 0);
  EXPECT_GT(output.sparsity.total().decode.skipped(), 0.9);
  skip.threshold_scale_factor = PhaseValue{.prefill = 200.0, .decode = 1.0};
  config.sparse_attention_config = {skip, small_budget()};
  EXPECT_THROW(LLM{config}, Error) << "two methods for decode";
}

TEST(Rocket, HoldsWhatItKeepsAndReportsIt) {
  LLM dense(config_of("llama3"));
  LLM rocket(with(config_of("llama3"), small_budget()));
  const Prompt prompt{.token_ids = random_prompt(10, 900)};
  const RequestOutput want = dense.generate(prompt, tokens(30));
  const RequestOutput got = rocket.generate(prompt, tokens(30));
  // 900 tokens are 29 pages of 32; 64 kept are 2, with 29 more that get a slot 3. The lane of
  // bounds (e5m2, pages of 4) is an eighth of a bf16 page.
  const int64_t page = want.memory.kv_bytes / 30 * 9 / 8;  // 929 tokens
  EXPECT_EQ(got.memory.kv_peak_bytes, (29 + 2) * page);
  EXPECT_EQ(got.memory.kv_bytes, 3 * page);
  EXPECT_EQ(got.sparsity.method, "rocket");
  EXPECT_EQ(got.sparsity.prompt_tokens, 900U);
  EXPECT_EQ(got.sparsity.kept_tokens, 64U);
  const PhaseSparsity decode = got.sparsity.total().decode;
  EXPECT_EQ(decode.pairs, want.sparsity.total().decode.pairs) << "of the whole text";
  EXPECT_EQ(decode.blocks_read, 2U * 29 * 8) << "topk pages a layer, token and KV head";
  EXPECT_GT(decode.blocks, 2U * 29 * 16);
  EXPECT_EQ(got.sparsity.total().prefill.blocks, 0U) << "nothing decides about dense prefill";
  EXPECT_EQ(want.sparsity.total().decode.blocks, 0U);
  EXPECT_EQ(rocket.stats().sparsity.kept_tokens, 64U);
  // A single token comes from the prompt's last row: nothing is moved for it.
  const RequestOutput one = rocket.generate(prompt, tokens(1));
  EXPECT_EQ(one.memory.kv_bytes, 29 * page);
  EXPECT_EQ(one.sparsity.kept_tokens, 900U);
}

// In what the report calls blocks only RocketKV's pages count, not the tiles of dense layers.
TEST(Rocket, DenseLayersAttendToEverything) {
  RocketSparseAttentionConfig rocket = small_budget("all");
  rocket.dense_layers = {1};
  LLM llm(with(config_of("llama3"), rocket));
  const RequestOutput got = llm.generate({.token_ids = random_prompt(17, 300)}, tokens(10));
  const PhaseSparsity& sparse = got.sparsity.layers.at(0).decode;
  EXPECT_GT(sparse.skipped(), 0.5);
  EXPECT_GT(sparse.blocks, 0U);
  const PhaseSparsity& dense = got.sparsity.layers.at(1).decode;
  EXPECT_EQ(dense.pairs_used, dense.pairs);
  EXPECT_EQ(dense.blocks, 0U);
}

TEST(Rocket, InspectShowsWhatARequestHolds) {
  const Prompt longest{.token_ids = random_prompt(16, 1020)};
  const RequestOutput dense = LLM(config_of("llama3")).generate(longest, tokens(4));
  for (const char* way : kWays) {
    SCOPED_TRACE(way);
    const LlmConfig config = with(config_of("llama3"), small_budget(way));
    const engine::MemoryInspection shown = engine::inspect(config).memory.back();
    EXPECT_EQ(shown.prompt_tokens, 1024);
    EXPECT_EQ(shown.dense_bytes, dense.memory.kv_peak_bytes);
    const RequestOutput got = LLM(config).generate(longest, tokens(4));
    EXPECT_EQ(shown.reading_bytes, got.memory.kv_peak_bytes);
    const bool evicts = way == std::string_view("evict");
    // Where all stays, bounds are those of half as many tokens.
    const int64_t page = shown.dense_bytes / 32 * (evicts ? 9 : 10) / 8;
    EXPECT_EQ(shown.kept_tokens, evicts ? 64 : 1024);
    EXPECT_EQ(got.memory.kv_bytes, shown.kept_bytes + (evicts ? page : 0)) << "4 new tokens";
  }
}

// The pool that is planned for one request holds its longest prompt and the copy of what it keeps;
// of a pool of a given size the longest request is what can be read in it.
TEST(Rocket, ThePoolIsPlannedForTheCopy) {
  LlmConfig config = with(config_of("llama3"), small_budget());
  config.max_batch_size = 1;
  config.kv_cache_config.max_tokens.reset();
  LLM planned(config);
  EXPECT_EQ(planned.max_seq_len(), 1024);
  EXPECT_EQ(planned.info().kv_tokens, 1024 + 64);
  const Prompt longest{.token_ids = random_prompt(15, 1020)};
  EXPECT_EQ(planned.generate(longest, tokens(4)).outputs[0].token_ids.size(), 4U);
  config.kv_cache_config.max_tokens = 512;
  LLM small(config);
  EXPECT_EQ(small.max_seq_len(), 512 - 64);
  const RequestOutput output = small.generate({.token_ids = random_prompt(15, 440)}, tokens(9));
  EXPECT_EQ(output.outputs[0].token_ids.size(), 8U) << "cut at the longest request";
  EXPECT_EQ(output.sparsity.kept_tokens, 64U);
  EXPECT_THROW(small.generate({.token_ids = random_prompt(15, 448)}, tokens(9)), Error);
  config.kv_cache_config.max_tokens = 64;
  EXPECT_EQ(LLM(config).max_seq_len(), 64) << "all of it is kept";
}

void expect_preemption_changes_nothing(const std::string& way) {
  SCOPED_TRACE(way);
  std::vector<Answer> calm;
  {
    LLM llm(with(config_of("llama3"), small_budget(way)));
    for (uint32_t seed = 0; seed < 6; ++seed) {
      calm.push_back(answer_of(llm.generate({.token_ids = random_prompt(seed, 150)}, tokens(150))));
    }
  }
  LlmConfig config = with(config_of("llama3"), small_budget(way));
  config.kv_cache_config.max_tokens = 512;  // six of 64 + 150 tokens cannot all stay
  config.kv_cache_config.tokens_per_block = 16;
  LLM llm(config);
  Hold hold(llm);  // all six are there before the first ends
  std::vector<Generation> running;
  for (uint32_t seed = 0; seed < 6; ++seed) {
    running.push_back(llm.submit({.token_ids = random_prompt(seed, 150)}, tokens(150)));
  }
  hold.release();
  for (size_t idx = 0; idx < running.size(); ++idx) {
    const RequestOutput output = running[idx].result();
    EXPECT_EQ(answer_of(output), calm[idx]) << idx;
    EXPECT_EQ(output.sparsity.kept_tokens, way == "all" ? 150U : 64U);
  }
  EXPECT_GT(llm.stats().preemptions, 0U);
  EXPECT_EQ(llm.stats().kv_pages_used, 0);
}

TEST(Rocket, PreemptionChangesNothing) {
  for (const char* way : kWays) expect_preemption_changes_nothing(way);
}

/// Scores of stage one, [KV heads, prompt - window], of a prompt of a length no other test has.
constexpr size_t kOddPrompt = 617;
constexpr size_t kScoreBytes = (kOddPrompt - 8) * sizeof(float);

TEST(Rocket, AFailureInTheMiddleOfCompactionLosesNoPage) {
  LLM llm(with(config_of("llama3"), small_budget()));
  const Prompt prompt{.token_ids = random_prompt(11, kOddPrompt)};
  const Answer want = answer_of(llm.generate(prompt, tokens(20)));
  Hold hold(llm);  // the other is still decoded when this one fails
  Generation other = llm.submit({.token_ids = random_prompt(12, 40)}, tokens(400));
  g_countdown = 1;  // the first layer's K and V have moved already
  g_failing_size = kScoreBytes;
  Generation doomed = llm.submit({.token_ids = random_prompt(13, kOddPrompt)}, tokens(20));
  hold.release();
  ASSERT_TRUE(other.next_delta());
  EXPECT_THROW(doomed.result(), Error);
  g_failing_size = 0;
  EXPECT_LT(g_countdown.load(), 0) << "nothing failed";
  // Rows of one step fail together; what comes later goes on.
  EXPECT_THROW(other.result(), Error);
  EXPECT_EQ(llm.stats().kv_pages_used, 0);
  EXPECT_EQ(answer_of(llm.generate(prompt, tokens(20))), want);
}

TEST(Rocket, CancelledRequestsGiveTheirPagesBack) {
  for (const char* way : kWays) {
    LLM llm(with(config_of("llama3"), small_budget(way)));
    std::vector<Generation> doomed;
    for (uint32_t seed = 0; seed < 24; ++seed) {
      doomed.push_back(llm.submit({.token_ids = random_prompt(seed, 300 + seed)}, tokens(300)));
      std::this_thread::sleep_for(std::chrono::milliseconds(seed % 5));
      if (seed >= 3) doomed[seed - 3].cancel();
    }
    for (Generation& generation : doomed) generation.cancel();
    for (Generation& generation : doomed) generation.result();
    EXPECT_EQ(llm.stats().kv_pages_used, 0) << way;
    EXPECT_EQ(llm.stats().running, 0);
  }
}

TEST(Rocket, RefusesWhatMakesNoSense) {
  const auto refused = [](const LlmConfig& config, std::string_view text,
                          ErrorKind kind = ErrorKind::kInvalidArgument) {
    try {
      LLM llm(config);
      ADD_FAILURE() << "must throw: " << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), kind) << error.what();
      EXPECT_NE(std::string_view(error.what()).find(text), std::string_view::npos) << error.what();
    }
  };
  const auto change = [](auto set) {
    RocketSparseAttentionConfig rocket = small_budget("all");
    set(rocket);
    return with(config_of("llama3"), rocket);
  };
  refused(change([](auto& rocket) { rocket.dense_layers = {2}; }),
          "[rocket.dense_layers] got layer 2; need 0 to 1");
  refused(change([](auto& rocket) { rocket.dense_layers = {0, 1}; }),
          "[rocket.dense_layers] got 2 layers, of which 2 are among dense_layers");
  refused(
      change([](auto& rocket) { rocket.page_size = 64; }),
      "[rocket.page_size] got 64 tokens; need a power of two that divides the cache's pages of 32");
  RocketSparseAttentionConfig wide = small_budget();
  wide.window_size = wide.prompt_budget;
  refused(with(config_of("llama3"), wide), "window_size");
  refused(change([](auto& rocket) { rocket.topk = 0; }), "topk");
  RocketSparseAttentionConfig narrow = small_budget();
  narrow.prompt_budget = 16;
  narrow.window_size = 4;
  refused(with(config_of("mistral_sliding"), narrow),
          "[rocket.prompt_budget] got 16; need at least 96, the window of layer 0");
  refused(with(config_of("mistral_sliding"), small_budget("all")),
          "[rocket] got 3 layers, of which 0 are among dense_layers and the others have a window",
          ErrorKind::kUnsupported);
  LlmConfig cuda = with(config_of("llama3"), small_budget());
  cuda.device = "cuda";
  refused(cuda, "cuda", ErrorKind::kUnsupported);
  LLM llm(with(config_of("llama3"), small_budget()));
  RequestOptions off;
  off.sparse_attention = SparseOverride{.off = true};
  EXPECT_THROW(llm.submit({.token_ids = random_prompt(1, 9)}, tokens(1), off), Error);
}

TEST(Rocket, TracesWhatItSelects) {
  LLM llm(with(config_of("llama3"), small_budget()));
  const RequestOutput out = llm.generate({.token_ids = random_prompt(14, 200)}, tokens(3),
                                         {.trace_filter = "^rocket\\."});
  ASSERT_EQ(out.trace.size(), 2U + 2 * 2);
  EXPECT_EQ(out.trace[0].name, "rocket.prompt.0");
  EXPECT_EQ(out.trace[0].cols, 64);
  EXPECT_EQ(out.trace[0].data[63], 199);
  EXPECT_EQ(out.trace[2].name, "rocket.decode.0.200");
  EXPECT_EQ(out.trace[2].cols, 8);
  EXPECT_EQ(out.trace[2].data[7], 16) << "the newest page: 64 tokens were kept";
}

}  // namespace
}  // namespace foveal
