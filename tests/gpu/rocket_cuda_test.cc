#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>
#include <tuple>

#include "base/math.h"
#include "device/graph.h"
#include "kernels/cuda/call_entry.h"
#include "rocket_cuda_testing.h"

namespace foveal::attention::rocket {
namespace {

using kernels::cuda::call_entry;
using testing::CaseShape;
using testing::CudaCase;

class RocketCuda : public ::testing::Test {
 protected:
  void run(const foveal_rocket_params& params) {
    call_entry(foveal_rocket_decode, params, gpu.native());
    gpu.synchronize();
  }
  void fill_bounds(const CudaCase& data) {
    const foveal_bounds_params params = data.bounds();
    call_entry(foveal_rocket_bounds, params, gpu.native());
    gpu.synchronize();
  }

  ThreadPool pool{2};
  Stream host{Device{}, pool};
  Stream gpu{kernels::cuda::testing::kGpu, pool};
  uint64_t seed = 1;
};

std::vector<int32_t> tokens_of(const int32_t* pages, int32_t count, int32_t page_tokens,
                               int32_t kv_len) {
  std::vector<int32_t> out;
  for (int32_t i = 0; i < count; ++i) {
    for (int32_t token = pages[i] * page_tokens;
         token < std::min(kv_len, (pages[i] + 1) * page_tokens); ++token) {
      out.push_back(token);
    }
  }
  return out;
}

/// Outputs of one (sequence, KV head) against double precision over the tokens that were selected.
void check_outputs(const CudaCase& cuda, int32_t seq, int32_t head,
                   const std::vector<int32_t>& tokens, const std::vector<uint16_t>& out) {
  const testing::Case& data = cuda.data;
  const int32_t dim = data.shape.head_dim;
  for (int32_t idx = 0; idx < data.shape.group; ++idx) {
    const int32_t query_head = head * data.shape.group + idx;
    const auto want = reference::attention(data, seq, query_head, tokens, false);
    const bool bf16 = cuda.kv_dtype == FOVEAL_BF16;
    const double weight = bf16 ? 0x1p-8 : 0x1p-11 + 0x1p-17;
    const double round_out = cuda.q_dtype == FOVEAL_F16 ? 0x1p-11 : 0x1p-8;
    for (int32_t ch = 0; ch < dim; ++ch) {
      const size_t at = static_cast<size_t>(seq * data.width() + int64_t{query_head} * dim + ch);
      const double allowed = round_out * std::abs(want.out[ch]) +
                             want.magnitude[ch] * (weight + want.norm * 0x1p-20 + 0x1p-19) +
                             0x1p-24;
      ASSERT_NEAR(testing::from_bits(out[at], cuda.q_dtype), want.out[ch], allowed)
          << "sequence " << seq << " head " << query_head << " channel " << ch;
    }
  }
}

void check_selection(const CudaCase& cuda, const foveal_rocket_params& params,
                     const std::vector<int32_t>& kept, const float* ranks, int32_t seq,
                     int32_t head) {
  const testing::Case& data = cuda.data;
  const auto pages = static_cast<int32_t>(ceil_div(data.seqs[seq].kv_len, data.shape.page_size));
  ASSERT_EQ(kept.back(), pages - 1) << "the newest page is always in";
  if (params.topk >= pages) {
    for (int32_t page = 0; page < pages; ++page) ASSERT_EQ(kept[page], page);
    return;
  }
  if (params.topk == 1) return;  // nothing is ranked
  const int32_t channels = params.num_channels > 0 ? params.num_channels : data.shape.head_dim;
  const auto want = reference::page_ranks(data, seq, head, channels);
  // As on the CPU (page_select_test.cc), with ex2.approx within 2 ulp.
  const double score = 2 * (channels + 6) * want.norm * std::numbers::ln2;
  const double relative = (score + pages / 4.0 + 16 + data.shape.group) * 0x1p-24 + 6e-7;
  ASSERT_LT(relative, 1e-3) << "the bound says nothing";
  for (int32_t page = 0; page + 1 < pages; ++page) {
    ASSERT_NEAR(ranks[page], want.ranks[page], relative * want.ranks[page] + 1e-30) << page;
  }
  // Exactly the best by the GPU's own ranks, of equals the lowest.
  std::vector<int32_t> exact =
      reference::top(std::vector<float>(ranks, ranks + pages - 1), params.topk - 1);
  exact.push_back(pages - 1);
  ASSERT_EQ(kept, exact);
}

void check_all(const CudaCase& cuda, const foveal_rocket_params& params) {
  const testing::Case& data = cuda.data;
  const std::vector<int32_t> pages = cuda.pages();
  const std::vector<int32_t> count = cuda.count();
  const std::vector<float> ranks = cuda.ranks();
  const std::vector<uint16_t> out = cuda.out();
  const std::vector<uint64_t> counters = cuda.counters();
  const int32_t heads = data.shape.num_kv_heads;
  for (int32_t seq = 0; seq < std::ssize(data.seqs); ++seq) {
    const int32_t kv_len = data.seqs[seq].kv_len;
    const auto all = static_cast<int32_t>(ceil_div(kv_len, data.shape.page_size));
    uint64_t used = 0;
    for (int32_t head = 0; head < heads; ++head) {
      const int64_t row = int64_t{seq} * heads + head;
      ASSERT_EQ(count[row], std::min(params.topk, all));
      const int32_t* own = pages.data() + row * params.topk;
      const std::vector<int32_t> kept(own, own + count[row]);
      ASSERT_NO_FATAL_FAILURE(
          check_selection(cuda, params, kept, ranks.data() + row * params.ranks_stride, seq, head))
          << "sequence " << seq << " head " << head;
      const std::vector<int32_t> tokens = tokens_of(own, count[row], data.shape.page_size, kv_len);
      used += tokens.size() * static_cast<size_t>(data.shape.group);
      ASSERT_NO_FATAL_FAILURE(check_outputs(cuda, seq, head, tokens, out));
    }
    EXPECT_EQ(counters[static_cast<size_t>(seq) * 4],
              static_cast<uint64_t>(kv_len) * heads * data.shape.group);
    EXPECT_EQ(counters[static_cast<size_t>(seq) * 4 + 1], used);
  }
}

TEST_F(RocketCuda, BoundsAreTheCpus) {
  for (const int32_t dtype : {FOVEAL_BF16, FOVEAL_F16, FOVEAL_E4M3}) {
    for (const BoundFormat format : {BoundFormat::kE5m2, BoundFormat::kBf16}) {
      for (const auto& [cache_page, page] : {std::pair{64, 4}, {16, 16}, {128, 2}, {32, 1}}) {
        SCOPED_TRACE(::testing::Message() << dtype << ' ' << static_cast<int>(format) << ' '
                                          << cache_page << ' ' << page);
        CudaCase cuda({.head_dim = 64,
                       .cache_page = cache_page,
                       .dtype = dtype == FOVEAL_F16 ? DType::kF16 : DType::kBF16,
                       .page_size = page,
                       .format = format,
                       .lens = {131, 1, 64, 17}},
                      seed++, host, gpu, dtype);
        ASSERT_NO_FATAL_FAILURE(fill_bounds(cuda));
        EXPECT_EQ(cuda.got_lane(), cuda.want_lane());
      }
    }
  }
}

TEST_F(RocketCuda, MatchesReference) {
  for (const int32_t dtype : {FOVEAL_BF16, FOVEAL_F16, FOVEAL_E4M3}) {
    for (const BoundFormat format : {BoundFormat::kE5m2, BoundFormat::kBf16}) {
      if (dtype == FOVEAL_F16 && format == BoundFormat::kBf16) continue;  // refused
      for (const auto& [cache_page, page] :
           {std::pair{64, 4}, {16, 16}, {128, 32}, {64, 1}, {32, 2}, {64, 8}}) {
        CudaCase cuda({.num_kv_heads = 2,
                       .group = 4,
                       .head_dim = 128,
                       .cache_page = cache_page,
                       .dtype = dtype == FOVEAL_F16 ? DType::kF16 : DType::kBF16,
                       .page_size = page,
                       .format = format,
                       .lens = {803, 1, 64, 131}},
                      seed++, host, gpu, dtype);
        ASSERT_NO_FATAL_FAILURE(fill_bounds(cuda));
        for (const auto& [topk, channels] : {std::pair{9, 0}, {9, 50}, {1, 0}, {64, 128}}) {
          SCOPED_TRACE(::testing::Message()
                       << "dtype " << dtype << " format " << static_cast<int>(format)
                       << " pages of " << page << " in " << cache_page << " topk " << topk
                       << " channels " << channels << " seed " << seed - 1);
          const foveal_rocket_params params = cuda.rocket(topk, channels);
          ASSERT_NO_FATAL_FAILURE(run(params));
          ASSERT_NO_FATAL_FAILURE(check_all(cuda, params));
        }
      }
    }
  }
}

TEST_F(RocketCuda, EveryHeadDimAndGroup) {
  for (const int32_t dim : {64, 96, 128, 192, 256}) {
    for (const int32_t group : {1, 3, 8, 16, 24}) {
      for (const BoundFormat format : {BoundFormat::kE5m2, BoundFormat::kBf16}) {
        SCOPED_TRACE(::testing::Message() << "head_dim " << dim << " group " << group << " format "
                                          << static_cast<int>(format));
        CudaCase cuda({.num_kv_heads = 1,
                       .group = group,
                       .head_dim = dim,
                       .cache_page = 64,
                       .format = format,
                       .lens = {517, 40}},
                      seed++, host, gpu, FOVEAL_BF16);
        ASSERT_NO_FATAL_FAILURE(fill_bounds(cuda));
        const foveal_rocket_params params = cuda.rocket(16, dim / 2);
        ASSERT_NO_FATAL_FAILURE(run(params));
        ASSERT_NO_FATAL_FAILURE(check_all(cuda, params));
      }
    }
  }
}

TEST_F(RocketCuda, LongAndRagged) {
  // Over several CTAs: with weights in shared memory; in memory, as they do not fit; over several
  // launches. The best gathered in one CTA (topk 2, 300) or counted together.
  for (const auto& [group, slack] : {std::pair{2, 0}, {2, 40000}, {16, 0}, {16, 200000}}) {
    CudaCase cuda({.num_kv_heads = 2,
                   .group = group,
                   .head_dim = 64,
                   .cache_page = 64,
                   .page_size = 1,
                   .lens = {30011, 5, 700, 64, 1025, 2}},
                  seed++, host, gpu, FOVEAL_BF16);
    cuda.slack = slack;
    ASSERT_NO_FATAL_FAILURE(fill_bounds(cuda));
    for (const int32_t topk : {2, 300, 4000}) {
      SCOPED_TRACE(::testing::Message()
                   << "group " << group << " slack " << slack << " topk " << topk);
      const foveal_rocket_params params = cuda.rocket(topk, 0);
      ASSERT_NO_FATAL_FAILURE(run(params));
      ASSERT_NO_FATAL_FAILURE(check_all(cuda, params));
      const std::vector<uint16_t> first = cuda.out();
      ASSERT_NO_FATAL_FAILURE(run(params));
      EXPECT_EQ(cuda.out(), first) << "two runs differ";
    }
  }
}

// Neither the number of CTAs a sequence is spread over nor what else is in the batch shows.
TEST_F(RocketCuda, RanksDoNotDependOnTheBatch) {
  CudaCase cuda({.num_kv_heads = 2,
                 .group = 4,
                 .head_dim = 128,
                 .cache_page = 64,
                 .page_size = 1,
                 .lens = {9001, 3000, 70}},
                seed++, host, gpu, FOVEAL_BF16);
  ASSERT_NO_FATAL_FAILURE(fill_bounds(cuda));
  const foveal_rocket_params together = cuda.rocket(40, 0);
  ASSERT_NO_FATAL_FAILURE(run(together));
  const std::vector<float> ranks = cuda.ranks();
  const std::vector<int32_t> pages = cuda.pages();
  for (int32_t seq = 0; seq < 3; ++seq) {
    foveal_rocket_params alone = cuda.rocket(40, 0);
    foveal_attention_params& a = alone.attention;
    a.num_seqs = a.num_rows = 1;
    a.max_kv_len = cuda.data.shape.lens[seq];
    a.q = static_cast<const uint16_t*>(a.q) + seq * a.q_row_stride;
    a.out = static_cast<uint16_t*>(a.out) + seq * a.out_row_stride;
    a.kv_len += seq;
    a.page_table += seq * a.page_table_stride;
    ASSERT_NO_FATAL_FAILURE(run(alone));
    const std::vector<float> own = cuda.ranks();
    const std::vector<int32_t> own_pages = cuda.pages();
    for (int32_t head = 0; head < 2; ++head) {
      const int64_t row = int64_t{seq} * 2 + head;
      for (int32_t page = 0; page + 1 < a.max_kv_len; ++page) {
        ASSERT_EQ(own[head * alone.ranks_stride + page], ranks[row * together.ranks_stride + page])
            << "sequence " << seq << " head " << head << " page " << page;
      }
      for (int32_t i = 0; i < 40; ++i) ASSERT_EQ(own_pages[head * 40 + i], pages[row * 40 + i]);
    }
  }
}

// The newest page's bounds need not be there: the step makes them.
TEST_F(RocketCuda, AppendsTheNewestPage) {
  for (const int32_t page : {4, 16, 64}) {
    CudaCase cuda({.head_dim = 128, .cache_page = 64, .page_size = page, .lens = {803, 1, 64, 131}},
                  seed++, host, gpu, FOVEAL_BF16);
    ASSERT_NO_FATAL_FAILURE(fill_bounds(cuda));
    const std::vector<uint8_t> want = cuda.got_lane();
    std::vector<uint8_t> damaged = want;
    const testing::CaseShape& s = cuda.data.shape;
    const int64_t head_bytes = int64_t{2} * s.head_dim * (s.cache_page / page);
    for (const kernels::AttentionSeq& seq : cuda.data.seqs) {
      const int32_t newest = (seq.kv_len - 1) / page;
      const int32_t per_page = s.cache_page / page;
      for (int32_t head = 0; head < s.num_kv_heads; ++head) {
        const int64_t at = seq.pages[newest / per_page] * cuda.data.bounds.bytes_per_page +
                           head * head_bytes + int64_t{newest % per_page} * 2 * s.head_dim;
        std::fill_n(damaged.begin() + at, 2 * s.head_dim, uint8_t{0x7f});
      }
    }
    cuda.put_lane(damaged);
    const foveal_rocket_params params = cuda.rocket(5, 0);
    ASSERT_NO_FATAL_FAILURE(run(params));
    EXPECT_EQ(cuda.got_lane(), want);
    ASSERT_NO_FATAL_FAILURE(check_all(cuda, params));
  }
}

TEST_F(RocketCuda, AllPagesAreDenseBitForBit) {
  for (const int32_t dtype : {FOVEAL_BF16, FOVEAL_E4M3}) {
    for (const uint32_t flags : {0U, FOVEAL_ATTENTION_FIXED_SPLITS}) {
      for (const int32_t page : {1, 4, 16, 64}) {
        CudaCase cuda({.group = 4,
                       .head_dim = 128,
                       .cache_page = 64,
                       .page_size = page,
                       .lens = {1500, 1, 64, 700}},
                      seed++, host, gpu, dtype);
        ASSERT_NO_FATAL_FAILURE(fill_bounds(cuda));
        foveal_rocket_params params = cuda.rocket(1500, 0);
        params.attention.flags = flags;
        cuda.give_workspace(params.attention, foveal_rocket_decode_workspace(&params));
        ASSERT_NO_FATAL_FAILURE(run(params));
        const std::vector<uint16_t> sparse = cuda.out();
        foveal_attention_params dense = cuda.attention();
        dense.flags = flags;
        cuda.give_workspace(dense, foveal_attention_decode_workspace(&dense));
        call_entry(foveal_attention_decode, dense, gpu.native());
        gpu.synchronize();
        EXPECT_EQ(cuda.out(), sparse) << "pages of " << page << " flags " << flags;
      }
    }
  }
}

// Of the prompt's pages only those listed are looked at, and all after them; KV heads may have
// different numbers of them, some fewer than topk.
TEST_F(RocketCuda, Candidates) {
  CudaCase cuda(
      {.num_kv_heads = 3, .group = 2, .head_dim = 64, .cache_page = 64, .lens = {1500, 700, 64}},
      seed++, host, gpu, FOVEAL_BF16);
  ASSERT_NO_FATAL_FAILURE(fill_bounds(cuda));
  constexpr int32_t kStride = 400;
  constexpr int32_t kOffset = 16;
  const std::vector<int32_t> first_own = {350, 170, 0};
  std::mt19937_64 random(3);
  std::vector<std::vector<std::vector<int32_t>>> lists(2, std::vector<std::vector<int32_t>>(3));
  std::vector<kernels::cuda::testing::DeviceArray<int32_t>> device;
  for (size_t seq = 0; seq < 2; ++seq) {
    std::vector<int32_t> cells(kOffset + 3 * kStride, -1);
    cells[0] = first_own[seq];
    for (size_t head = 0; head < 3; ++head) {
      std::vector<int32_t>& list = lists[seq][head];
      for (int32_t page = 0; page < first_own[seq]; ++page) {
        if (random() % (head == 1 ? 30 : 3) == 0) list.push_back(page);
      }
      const int64_t at = kOffset + static_cast<int64_t>(head) * kStride;
      cells[at] = static_cast<int32_t>(list.size());
      std::copy(list.begin(), list.end(), cells.begin() + at + 1);
    }
    device.emplace_back(gpu, cells);
  }
  const std::vector<const int32_t*> pointers = {device[0].data(), device[1].data(), nullptr};
  const kernels::cuda::testing::DeviceArray<const int32_t*> table(gpu, pointers);
  foveal_rocket_params params = cuda.rocket(40, 0);
  params.candidates = table.data();
  params.candidates_offset = kOffset;
  params.candidates_stride = kStride;
  params.sink_pages = 2;
  params.recent_pages = 3;
  ASSERT_NO_FATAL_FAILURE(run(params));
  const std::vector<int32_t> pages = cuda.pages();
  const std::vector<int32_t> count = cuda.count();
  const std::vector<float> ranks = cuda.ranks();
  for (int32_t seq = 0; seq < 3; ++seq) {
    const int32_t kv_len = cuda.data.seqs[seq].kv_len;
    for (int32_t head = 0; head < 3; ++head) {
      std::vector<int32_t> entries;
      if (seq < 2) entries = lists[seq][head];
      for (int32_t page = first_own[seq]; page * 4 < kv_len; ++page) entries.push_back(page);
      const int64_t row = int64_t{seq} * 3 + head;
      const auto all = static_cast<int32_t>(entries.size());
      ASSERT_EQ(count[row], std::min(40, all)) << seq << ' ' << head;
      std::vector<int32_t> want;
      if (all <= 40) {
        want = entries;
      } else {
        const float* rank = ranks.data() + row * params.ranks_stride;
        std::vector<float> forced(rank, rank + all - 1);
        for (int32_t i = 0; i < all - 1; ++i) {
          if (i < 2 || i >= all - 3) forced[i] = INFINITY;
        }
        for (const int32_t i : reference::top(forced, 39)) want.push_back(entries[i]);
        want.push_back(entries.back());
      }
      const int32_t* got = pages.data() + row * 40;
      ASSERT_EQ(std::vector<int32_t>(got, got + count[row]), want) << seq << ' ' << head;
      ASSERT_NO_FATAL_FAILURE(
          check_outputs(cuda, seq, head, tokens_of(got, count[row], 4, kv_len), cuda.out()));
    }
  }
}

TEST_F(RocketCuda, PromptMatchesReference) {
  for (const int32_t dtype : {FOVEAL_BF16, FOVEAL_F16, FOVEAL_E4M3}) {
    for (const auto& [dim, group, window, len] :
         {std::tuple{128, 4, 32, 1411}, {64, 3, 16, 2100}, {96, 9, 32, 300}, {256, 1, 7, 130}}) {
      SCOPED_TRACE(::testing::Message() << "dtype " << dtype << " head_dim " << dim << " group "
                                        << group << " window " << window << " seed " << seed);
      CudaCase cuda({.group = group,
                     .head_dim = dim,
                     .cache_page = 64,
                     .dtype = dtype == FOVEAL_F16 ? DType::kF16 : DType::kBF16,
                     .lens = {len}},
                    seed++, host, gpu, dtype);
      std::vector<float> queries = testing::prompt_queries(cuda.data, len, seed);
      const auto width = static_cast<size_t>(cuda.data.width());
      std::vector<uint16_t> ring(static_cast<size_t>(window) * width);
      for (size_t i = 0; i < queries.size(); ++i) {
        const uint16_t bits = testing::to_bits(queries[i], cuda.q_dtype);
        queries[i] = testing::from_bits(bits, cuda.q_dtype);
        const size_t position = i / width;
        if (position + static_cast<size_t>(window) >= static_cast<size_t>(len)) {
          ring[position % static_cast<size_t>(window) * width + i % width] = bits;
        }
      }
      const kernels::cuda::testing::DeviceArray<uint16_t> q(gpu, ring);
      const int32_t budget = len / 3;
      const int32_t prefix = len - window;
      const kernels::cuda::testing::DeviceArray<int32_t> kept(gpu, 2 * size_t(budget));
      const kernels::cuda::testing::DeviceArray<float> scores(gpu, 2 * size_t(prefix));
      const foveal_attention_params a = cuda.attention();
      foveal_rocket_prompt_params p{};
      p.struct_size = sizeof(p);
      p.q_dtype = cuda.q_dtype;
      p.kv_dtype = dtype;
      p.q = q.data();
      p.q_row_stride = cuda.data.width();
      p.q_head_stride = dim;
      p.k = a.k;
      p.k_page_stride = a.k_page_stride;
      p.k_head_stride = a.k_head_stride;
      p.k_token_stride = a.k_token_stride;
      p.page_table = a.page_table;
      p.num_heads = a.num_heads;
      p.num_kv_heads = a.num_kv_heads;
      p.head_dim = dim;
      p.page_size = a.page_size;
      p.prompt_len = len;
      p.window = window;
      p.budget = budget;
      p.sink_tokens = 4;
      p.kernel_size = 7;
      p.softmax_scale = a.softmax_scale;
      p.q_scale = p.k_scale = 1;
      p.kept = kept.data();
      p.scores = scores.data();
      const kernels::cuda::testing::DeviceArray<uint8_t> workspace(
          gpu, foveal_rocket_prompt_workspace(&p));
      p.workspace = workspace.data();
      p.workspace_bytes = foveal_rocket_prompt_workspace(&p);
      call_entry(foveal_rocket_prompt, p, gpu.native());
      const std::vector<float> got = scores.download();
      const std::vector<int32_t> chosen = kept.download();
      for (int32_t head = 0; head < 2; ++head) {
        const auto want = reference::window_scores(cuda.data, queries, window, head, false);
        // A weight is off by its score's error twice over (its own and the sum's); sums run over
        // keys in splits and over rows.
        const double relative =
            (2 * (dim + 6) * want.norm * std::numbers::ln2 + len / 16.0 + group * window + 64) *
                0x1p-24 +
            1e-6;
        ASSERT_LT(relative, 2e-3) << "the bound says nothing";
        const std::vector<float> own(got.begin() + int64_t{head} * prefix,
                                     got.begin() + int64_t{head + 1} * prefix);
        for (int32_t key = 0; key < prefix; ++key) {
          ASSERT_NEAR(own[key], want.scores[key], relative * want.scores[key] + 1e-30)
              << "head " << head << " key " << key;
        }
        std::vector<float> pooled = reference::max_pool(own, 7);
        std::fill_n(pooled.begin(), 4, INFINITY);
        std::vector<int32_t> best = reference::top(pooled, budget - window);
        for (int32_t i = 0; i < window; ++i) best.push_back(prefix + i);
        const std::vector<int32_t> mine(chosen.begin() + int64_t{head} * budget,
                                        chosen.begin() + int64_t{head + 1} * budget);
        ASSERT_EQ(mine, best) << "head " << head;
      }
    }
  }
}

TEST_F(RocketCuda, CompactionAndCandidates) {
  std::mt19937_64 random(11);
  for (const int32_t dtype : {FOVEAL_BF16, FOVEAL_E4M3}) {
    constexpr int32_t kHeads = 3, kDim = 96, kPage = 16, kPages = 40, kTokens = 150;
    const int32_t bytes = dtype == FOVEAL_E4M3 ? 1 : 2;
    std::vector<uint8_t> cells(size_t{kPages} * kHeads * kPage * kDim * size_t(bytes));
    for (uint8_t& cell : cells) cell = static_cast<uint8_t>(random());
    std::vector<int32_t> order(kPages);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), random);
    const std::vector<int32_t> from(order.begin(), order.begin() + 25);
    const std::vector<int32_t> to(order.begin() + 25, order.begin() + 35);
    std::vector<int32_t> kept;
    for (int32_t head = 0; head < kHeads; ++head) {
      std::vector<int32_t> all(25 * kPage);
      std::iota(all.begin(), all.end(), 0);
      std::shuffle(all.begin(), all.end(), random);
      std::sort(all.begin(), all.begin() + kTokens);
      kept.insert(kept.end(), all.begin(), all.begin() + kTokens);
    }
    using Ints = kernels::cuda::testing::DeviceArray<int32_t>;
    const Ints d_from(gpu, from), d_to(gpu, to), d_kept(gpu, kept);
    const kernels::cuda::testing::DeviceArray<uint8_t> k(gpu, cells), v(gpu, cells);
    foveal_compact_params p{};
    p.struct_size = sizeof(p);
    p.kv_dtype = dtype;
    p.k = k.data();
    p.v = v.data();
    p.k_token_stride = p.v_token_stride = kDim;
    p.k_head_stride = p.v_head_stride = kDim * kPage;
    p.k_page_stride = p.v_page_stride = kDim * kPage * kHeads;
    p.num_kv_heads = kHeads;
    p.head_dim = kDim;
    p.page_size = kPage;
    p.num_tokens = kTokens;
    p.kept = d_kept.data();
    p.kept_stride = kTokens;
    p.from_pages = d_from.data();
    p.to_pages = d_to.data();
    call_entry(foveal_rocket_compact, p, gpu.native());
    std::vector<uint8_t> want = cells;
    const auto row_of = [&](const std::vector<int32_t>& pages, int32_t head, int32_t token) {
      return ((int64_t{pages[token / kPage]} * kHeads + head) * kPage + token % kPage) * kDim *
             bytes;
    };
    for (int32_t head = 0; head < kHeads; ++head) {
      for (int32_t i = 0; i < kTokens; ++i) {
        std::copy_n(cells.begin() + row_of(from, head, kept[head * kTokens + i]), kDim * bytes,
                    want.begin() + row_of(to, head, i));
      }
    }
    EXPECT_EQ(k.download(), want);
    EXPECT_EQ(v.download(), want);

    const Ints lists(gpu, size_t{kHeads} * 200 + 1);
    const foveal_candidates_params c{.struct_size = sizeof(c),
                                     .num_kv_heads = kHeads,
                                     .num_tokens = kTokens,
                                     .page_tokens = 4,
                                     .end_page = 90,
                                     .kept = d_kept.data(),
                                     .kept_stride = kTokens,
                                     .candidates = lists.data() + 1,
                                     .candidates_stride = 200,
                                     .first_own = lists.data()};
    call_entry(foveal_rocket_candidates, c, gpu.native());
    std::vector<int32_t> got = lists.download();
    EXPECT_EQ(got[0], 90);
    got.erase(got.begin());
    for (int32_t head = 0; head < kHeads; ++head) {
      std::vector<int32_t> pages;
      for (int32_t i = 0; i < kTokens; ++i) {
        const int32_t page = kept[head * kTokens + i] / 4;
        if (page < 90 && (pages.empty() || pages.back() != page)) pages.push_back(page);
      }
      ASSERT_EQ(got[head * 200], std::ssize(pages));
      EXPECT_EQ(std::vector<int32_t>(got.begin() + head * 200 + 1,
                                     got.begin() + head * 200 + 1 + std::ssize(pages)),
                pages);
    }
  }
}

// Lengths are read on the device: a recorded step serves other ones.
TEST_F(RocketCuda, GraphReplays) {
  CudaCase cuda({.group = 4, .head_dim = 128, .cache_page = 64, .lens = {803, 64, 131}}, seed++,
                host, gpu, FOVEAL_BF16);
  ASSERT_NO_FATAL_FAILURE(fill_bounds(cuda));
  const foveal_rocket_params params = cuda.rocket(20, 0);
  ASSERT_NO_FATAL_FAILURE(run(params));
  const std::vector<uint16_t> want = cuda.out();
  const std::vector<int32_t> shorter = {402, 64, 1};
  const std::vector<uint8_t> lane = cuda.got_lane();
  auto* lens = const_cast<int32_t*>(params.attention.kv_len);
  gpu.copy(lens, shorter.data(), shorter.size() * 4);
  const Graph graph =
      Graph::capture(gpu, [&] { call_entry(foveal_rocket_decode, params, gpu.native()); });
  graph.launch(gpu);
  gpu.synchronize();
  EXPECT_NE(cuda.out(), want);
  cuda.put_lane(lane);  // the shorter sequences' newest pages were not full
  gpu.copy(lens, cuda.data.shape.lens.data(), shorter.size() * 4);
  graph.launch(gpu);
  gpu.synchronize();
  EXPECT_EQ(cuda.out(), want);
}

}  // namespace
}  // namespace foveal::attention::rocket
