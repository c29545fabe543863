#include "kernels/latent_attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <numbers>
#include <random>

#include "base/half.h"
#include "foveal/error.h"
#include "kernels/attention_testing.h"
#include "kernels/latent_testing.h"
#include "kernels/reference/latent.h"

namespace foveal::kernels {
namespace {

using testing::LatentCase;
using testing::LatentShape;

struct LatentAttention : ::testing::Test {
  void TearDown() override { cpu::set_active_isa(cpu::machine_isa()); }

  uint64_t seed = std::random_device{}();
  ThreadPool pool{2};
  Stream stream{Device{}, pool};
};

/// Cases that between them take every path: dimensions that fill no vector, pages and tiles crossed
/// and met, one key, more heads than an item has.
std::vector<LatentShape> shapes() {
  const LatentShape plain{.seqs = {{3, 40}, {1, 1}, {2, 257}, {1, 256}, {2, 600}}};
  LatentShape odd = plain;
  odd.num_heads = 5;
  odd.head_dim = 86;
  odd.value_dim = 70;
  odd.page_size = 16;
  LatentShape real = plain;
  real.num_heads = 19;
  real.head_dim = 576;
  real.value_dim = 512;
  real.page_size = 64;
  real.seqs = {{2, 300}, {1, 77}};
  LatentShape small = plain;
  small.num_heads = 1;
  small.head_dim = 14;
  small.value_dim = 10;
  std::vector<LatentShape> out = {plain, odd, real, small};
  for (const DType dtype : {DType::kF16, DType::kF32}) {
    out.push_back(odd);
    out.back().dtype = dtype;
  }
  for (LatentShape shape : {odd, real}) {
    shape.exact = true;
    out.push_back(shape);
  }
  return out;
}

template <class Body>
void for_each_path(uint64_t seed, Body body) {
  for (const cpu::Isa isa : testing::isa_levels()) {
    cpu::set_active_isa(isa);
    for (const LatentShape& shape : shapes()) {
      SCOPED_TRACE(::testing::Message()
                   << cpu::isa_name(isa) << " heads " << shape.num_heads << " dims "
                   << shape.head_dim << " " << shape.value_dim << " dtype "
                   << dtype_name(shape.dtype) << " exact " << shape.exact << " seed " << seed);
      body(shape);
      if (::testing::Test::HasFatalFailure()) return;
    }
  }
}

std::vector<float> run(LatentCase& data, Stream& stream) {
  std::fill(data.out.begin(), data.out.end(), std::nanf(""));
  latent_attention(data.params(), stream);
  return data.out;
}

void expect_same_bits(const std::vector<float>& got, const std::vector<float>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t at = 0; at < got.size(); ++at) {
    ASSERT_EQ(std::memcmp(&got[at], &want[at], sizeof(float)), 0)
        << "element " << at << ": got " << got[at] << ", want " << want[at];
  }
}

void expect_matches(LatentCase& data, Stream& stream) {
  const bool rounded = data.shape.dtype == DType::kBF16 && !data.shape.exact &&
                       cpu::active_isa() == cpu::Isa::kAvx512Bf16;
  const std::vector<float> got = run(data, stream);
  const reference::LatentResult want = reference::latent_attention(data.params(), rounded);
  // As for paged attention: a score sums head_dim products in float32, a weight on the bf16 path is
  // rounded to half an ulp and comes from exp2_coarse; sums of up to 4096 keys round on top.
  const double score_error = (data.shape.head_dim + 2) * 0x1p-24;
  for (size_t at = 0; at < got.size(); ++at) {
    const double norm = want.score_norm[at / static_cast<size_t>(data.shape.value_dim)];
    const double weight =
        norm * score_error * std::numbers::ln2 + 4e-7 + (rounded ? 0x1p-9 + 1.6e-4 : 0);
    const double bound = (2 * weight + 4096 * 0x1p-23) * want.magnitude[at] + 1e-30;
    ASSERT_LE(std::abs(got[at] - want.out[at]), bound)
        << "element " << at << ": got " << got[at] << ", want " << want.out[at];
  }
}

TEST_F(LatentAttention, MatchesTheReference) {
  for_each_path(seed, [&](const LatentShape& shape) {
    LatentCase data(shape, seed, stream);
    expect_matches(data, stream);
    for (const AttentionCounters& counters : data.counters) {
      EXPECT_EQ(counters.pairs_used, counters.pairs);
    }
    data.choose_sets(33, seed);
    expect_matches(data, stream);
    data.choose_sets(300, seed);
    expect_matches(data, stream);
  });
}

TEST_F(LatentAttention, CountsWhatSetsLeaveOut) {
  LatentCase data({.num_heads = 3, .seqs = {{2, 5}, {1, 200}}}, seed, stream);
  data.choose_sets(4, seed);
  run(data, stream);
  EXPECT_EQ(data.counters[0].pairs, 3U * (4 + 5));
  EXPECT_EQ(data.counters[0].pairs_used, 3U * (4 + 4));
  EXPECT_EQ(data.counters[1].pairs, 3U * 200);
  EXPECT_EQ(data.counters[1].pairs_used, 3U * 4);
}

TEST_F(LatentAttention, ASetOfAllKeysGivesTheBitsOfNone) {
  for_each_path(seed, [&](const LatentShape& shape) {
    LatentCase data(shape, seed, stream);
    const std::vector<float> want = run(data, stream);
    data.choose_sets(1 << 20, seed);
    expect_same_bits(run(data, stream), want);
  });
}

/// Rows [begin, end) of sequence `idx` in a call of their own, with the sets they have.
void run_rows(LatentCase& data, size_t idx, int32_t begin, int32_t end, Stream& stream) {
  LatentAttentionParams params = data.params();
  params.counters = nullptr;
  AttentionSeq seq = data.seqs[idx];
  const int32_t first = seq.kv_len - seq.q_len;
  TokenSets sets;
  if (params.sets != nullptr) {
    sets = *params.sets;
    sets.offsets += seq.q_begin + begin;
    params.sets = &sets;
  }
  seq.q_begin += begin;
  seq.q_len = end - begin;
  seq.kv_len = first + end;
  params.seqs = {&seq, 1};
  latent_attention(params, stream);
}

TEST_F(LatentAttention, NeitherThreadsNorBatchNorChunksShow) {
  for_each_path(seed, [&](LatentShape shape) {
    // Enough rows that whole rows are tasks, which they are not alone.
    shape.seqs = {{37, 300}, {29, 29}, {1, 600}};
    LatentCase data(shape, seed, stream);
    for (const int32_t most : {0, 50, 290}) {
      if (most > 0) data.choose_sets(most, seed);
      const std::vector<float> want = run(data, stream);
      for (const int threads : {1, 3}) {
        ThreadPool other(threads);
        Stream other_stream(Device{}, other);
        ASSERT_NO_FATAL_FAILURE(expect_same_bits(run(data, other_stream), want));
      }
      for (const int32_t step : {1, 7, 64}) {
        std::fill(data.out.begin(), data.out.end(), 0.0F);
        for (size_t idx = 0; idx < data.seqs.size(); ++idx) {
          const int32_t rows = data.seqs[idx].q_len;
          for (int32_t begin = 0; begin < rows; begin += step) {
            run_rows(data, idx, begin, std::min(begin + step, rows), stream);
          }
        }
        ASSERT_NO_FATAL_FAILURE(expect_same_bits(data.out, want)) << "rows of " << step;
      }
    }
  });
}

TEST_F(LatentAttention, StoresRowsAsTheyAreRounded) {
  for_each_path(seed, [&](const LatentShape& shape) {
    LatentCase data(shape, seed, stream);
    size_t at = 0;
    for (const AttentionSeq& seq : data.seqs) {
      for (int32_t key = 0; key < seq.kv_len; ++key) {
        for (int32_t ch = 0; ch < shape.head_dim; ++ch, ++at) {
          const float row = data.rows[at];
          float want = row;
          if (shape.dtype == DType::kBF16) want = bf16_to_float(float_to_bf16(row));
          if (shape.dtype == DType::kF16) want = f16_to_float(float_to_f16(row));
          ASSERT_EQ(reference::latent_value(data.kv, seq.pages[key / shape.page_size],
                                            key % shape.page_size, ch),
                    want);
        }
      }
    }
  });
}

TEST_F(LatentAttention, RefusesWhatItCannotDo) {
  using Params = LatentAttentionParams;
  LatentCase data({.seqs = {{3, 40}}}, seed, stream);
  data.choose_sets(8, seed);
  AttentionSeq seq;
  TokenSets sets;
  std::vector<int64_t> offsets;
  std::vector<int32_t> tokens;
  const std::function<void(Params&)> wrongs[] = {
      [](Params& p) { p.kv.dtype = DType::kF8E4M3; },
      [](Params& p) { p.kv.head_dim = 81; },
      [](Params& p) { p.kv.value_dim = 0; },
      [](Params& p) { p.kv.value_dim = 82; },
      [](Params& p) { p.kv.num_kv_heads = 2; },
      [](Params& p) { p.kv.page_size = 24; },
      [](Params& p) { p.kv.page_bytes -= 1; },
      [](Params& p) { p.kv.k = nullptr; },
      [](Params& p) { p.num_heads = 0; },
      [](Params& p) { p.q = nullptr; },
      [](Params& p) { p.q_stride = 159; },
      [](Params& p) { p.out_stride = 127; },
      [](Params& p) { p.softmax_scale = std::nanf(""); },
      [&](Params&) { seq.q_len = 0; },
      [&](Params&) { seq.kv_len = 2; },
      [&](Params&) { seq.evicted = 1; },
      [&](Params&) { seq.pages = nullptr; },
      [&](Params&) { sets.tokens = nullptr; },
      [&](Params&) { offsets[1] = 0; },               // an empty set
      [&](Params&) { tokens[offsets[1] - 1] = 38; },  // a key after the first row's own, 37
      [&](Params&) { tokens[0] = -1; },
  };
  for (size_t idx = 0; idx < std::size(wrongs) + 1; ++idx) {
    seq = data.seqs[0];
    offsets = data.offsets;
    tokens = data.tokens;
    sets = {.offsets = offsets.data(), .tokens = tokens.data()};
    Params params = data.params();
    params.seqs = {&seq, 1};
    params.sets = &sets;
    if (idx == std::size(wrongs)) {
      EXPECT_NO_THROW(latent_attention(params, stream));
      continue;
    }
    wrongs[idx](params);
    EXPECT_THROW(latent_attention(params, stream), Error) << "wrong " << idx;
  }
  LatentStoreParams store{.rows = data.rows.data(), .stride = 79, .kv = data.kv, .seqs = data.seqs};
  EXPECT_THROW(latent_store(store, stream), Error);
}

TEST_F(LatentAttention, TakesAnEmptyBatch) {
  LatentCase data({.seqs = {{1, 1}}}, seed, stream);
  LatentAttentionParams params = data.params();
  params.seqs = {};
  EXPECT_NO_THROW(latent_attention(params, stream));
}

}  // namespace
}  // namespace foveal::kernels
