#include "attention/rocket/page_bounds.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>

#include "attention/rocket/rocket_testing.h"
#include "base/math.h"
#include "foveal/error.h"
#include "kernels/reference/attention.h"

namespace foveal::attention::rocket {
namespace {

using testing::Case;
using testing::CaseShape;

struct RocketBounds : ::testing::Test {
  void TearDown() override { kernels::cpu::set_active_isa(kernels::cpu::machine_isa()); }

  uint64_t seed = std::random_device{}();
  ThreadPool pool{2};
  Stream stream{Device{}, pool};
};

/// All finite and infinite values of a format, ascending.
std::vector<double> values_of(BoundFormat format) {
  std::vector<double> values;
  const uint32_t count = format == BoundFormat::kBf16 ? 0x10000U : 0x100U;
  for (uint32_t bits = 0; bits < count; ++bits) {
    const auto code = static_cast<uint16_t>(bits);
    std::byte bytes[2];
    std::memcpy(bytes, &code, 2);
    const double value = reference::bound_value(format, bytes);
    if (!std::isnan(value)) values.push_back(value);
  }
  std::sort(values.begin(), values.end());
  return values;
}

/// Every bound is the format's nearest value on the outer side of the keys as stored.
void expect_tight(const Case& data, const std::vector<double>& values) {
  for (size_t seq = 0; seq < data.seqs.size(); ++seq) {
    const int32_t len = data.seqs[seq].kv_len;
    for (int32_t page = 0; page * data.shape.page_size < len; ++page) {
      for (int32_t head = 0; head < data.shape.num_kv_heads; ++head) {
        for (int32_t ch = 0; ch < data.shape.head_dim; ++ch) {
          double least = HUGE_VAL;
          double most = -HUGE_VAL;
          const int32_t end = std::min(len, (page + 1) * data.shape.page_size);
          for (int32_t token = page * data.shape.page_size; token < end; ++token) {
            const int32_t id = data.seqs[seq].pages[token / data.kv.page_size];
            const double key = kernels::reference::cache_value(data.kv, true, id, head,
                                                               token % data.kv.page_size, ch);
            least = std::min(least, key);
            most = std::max(most, key);
          }
          const auto idx = static_cast<int32_t>(seq);
          const double low = *(std::upper_bound(values.begin(), values.end(), least) - 1);
          const double high = *std::lower_bound(values.begin(), values.end(), most);
          ASSERT_EQ(reference::bound_at(data, idx, head, 0, ch, page), low) << least;
          ASSERT_EQ(reference::bound_at(data, idx, head, 1, ch, page), high) << most;
        }
      }
    }
  }
}

TEST_F(RocketBounds, AreTheTightestThatBound) {
  for (const BoundFormat format : {BoundFormat::kBf16, BoundFormat::kE5m2}) {
    const std::vector<double> values = values_of(format);
    for (const kernels::cpu::Isa isa : testing::isa_levels()) {
      kernels::cpu::set_active_isa(isa);
      for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF32}) {
        for (const int32_t page_size : {1, 2, 4, 16}) {
          SCOPED_TRACE(::testing::Message()
                       << kernels::cpu::isa_name(isa) << " " << dtype_name(dtype) << " page "
                       << page_size << " seed " << seed);
          const Case data({.head_dim = 6,
                           .cache_page = 48,
                           .dtype = dtype,
                           .page_size = page_size,
                           .format = format,
                           .lens = {1, 47, 48, 101}},
                          seed++, stream);
          ASSERT_NO_FATAL_FAILURE(expect_tight(data, values));
        }
      }
    }
  }
}

// Float32 keys of any bits: subnormals, what rounds past the largest value, infinities, zeros.
TEST_F(RocketBounds, OfAnyBits) {
  for (const BoundFormat format : {BoundFormat::kBf16, BoundFormat::kE5m2}) {
    const std::vector<double> values = values_of(format);
    for (const kernels::cpu::Isa isa : testing::isa_levels()) {
      kernels::cpu::set_active_isa(isa);
      SCOPED_TRACE(::testing::Message() << kernels::cpu::isa_name(isa) << " seed " << seed);
      Case data({.num_kv_heads = 1,
                 .head_dim = 64,
                 .dtype = DType::kF32,
                 .page_size = 1,
                 .format = format,
                 .lens = {512}},
                seed++, stream);
      std::mt19937_64 rng(seed);
      const int64_t count = data.kv.page_bytes * data.kv.num_pages / 4;
      for (int64_t at = 0; at < count; ++at) {
        auto bits = static_cast<uint32_t>(rng());
        if (at % 3 == 0) {  // around e5m2's range, often exactly on its steps
          const uint32_t exponent = 0x36U + static_cast<uint32_t>(rng() % 18);
          bits = (bits & 0x80ffffffU) | exponent << 24;
          if (at % 2 == 0) bits &= 0xffe00000U;
        }
        float key = std::bit_cast<float>(bits);
        if (std::isnan(key)) key = at % 2 == 0 ? 0.0F : -0.0F;
        std::memcpy(data.kv.k + 4 * at, &key, 4);
      }
      kernels::AttentionSeq seq = data.seqs[0];
      seq.q_len = seq.kv_len;
      update_bounds(data.kv, {&seq, 1}, data.bounds, stream);
      ASSERT_NO_FATAL_FAILURE(expect_tight(data, values));
    }
  }
}

TEST_F(RocketBounds, ChunksAndThreadsChangeNoBit) {
  for (const kernels::cpu::Isa isa : testing::isa_levels()) {
    kernels::cpu::set_active_isa(isa);
    for (const int32_t page_size : {1, 4, 32}) {
      Case data({.head_dim = 10, .page_size = page_size, .lens = {203}}, seed, stream);
      const std::vector<std::byte> want = data.bound_bytes;
      for (const int threads : {1, 3}) {
        ThreadPool other(threads);
        Stream other_stream(Device{}, other);
        for (const int32_t chunk : {1, 3, 64, 203}) {
          std::fill(data.bound_bytes.begin(), data.bound_bytes.end(), std::byte{0xff});
          for (int32_t at = 0; at < 203; at += chunk) {
            kernels::AttentionSeq seq = data.seqs[0];
            seq.q_len = std::min(chunk, 203 - at);
            seq.kv_len = at + seq.q_len;  // later keys are there already, as garbage would be
            update_bounds(data.kv, {&seq, 1}, data.bounds, other_stream);
          }
          ASSERT_EQ(data.bound_bytes, want) << "chunk " << chunk << " seed " << seed;
        }
      }
    }
  }
}

TEST_F(RocketBounds, LevelsAgree) {
  const CaseShape shape{.head_dim = 34, .lens = {77, 160}};
  const Case want(shape, seed, stream);
  for (const kernels::cpu::Isa isa : testing::isa_levels()) {
    kernels::cpu::set_active_isa(isa);
    EXPECT_EQ(Case(shape, seed, stream).bound_bytes, want.bound_bytes)
        << kernels::cpu::isa_name(isa) << " seed " << seed;
  }
}

// Mean -+ half the spread of the tokens there are, rounded outward: within a step of the exact
// values.
TEST_F(RocketBounds, OfMeanAndSpread) {
  for (const BoundFormat format : {BoundFormat::kBf16, BoundFormat::kE5m2}) {
    const std::vector<double> values = values_of(format);
    for (const kernels::cpu::Isa isa : testing::isa_levels()) {
      kernels::cpu::set_active_isa(isa);
      for (const int32_t page_size : {1, 4, 16}) {
        SCOPED_TRACE(::testing::Message()
                     << kernels::cpu::isa_name(isa) << " page " << page_size << " seed " << seed);
        Case data({.head_dim = 6, .page_size = page_size, .format = format, .lens = {47}}, seed++,
                  stream);
        data.bounds.kind = BoundKind::kMeanStd;
        kernels::AttentionSeq all = data.seqs[0];
        all.q_len = all.kv_len;
        update_bounds(data.kv, {&all, 1}, data.bounds, stream);
        for (int32_t token = 0; token < 47; token += page_size) {
          const int32_t end = std::min(47, token + page_size);
          for (int32_t ch = 0; ch < 6; ++ch) {
            double sum = 0;
            double squares = 0;
            double largest = 0;
            for (int32_t at = token; at < end; ++at) {
              const int32_t id = data.seqs[0].pages[at / 32];
              const double key = kernels::reference::cache_value(data.kv, true, id, 1, at % 32, ch);
              sum += key;
              squares += key * key;
              largest = std::max(largest, std::abs(key));
            }
            const double mean = sum / (end - token);
            const double half =  // of the standard deviation
                0.5 * std::sqrt(std::max(0.0, squares / (end - token) - mean * mean));
            const double slack = 1e-5 * largest;
            const auto above = [&](double x) {
              return *std::lower_bound(values.begin(), values.end(), x);
            };
            const auto below = [&](double x) {
              return *(std::upper_bound(values.begin(), values.end(), x) - 1);
            };
            const double low = reference::bound_at(data, 0, 1, 0, ch, token / page_size);
            const double high = reference::bound_at(data, 0, 1, 1, ch, token / page_size);
            ASSERT_GE(low, below(mean - half - slack));
            ASSERT_LE(low, below(mean - half + slack));
            ASSERT_GE(high, above(mean + half - slack));
            ASSERT_LE(high, above(mean + half + slack));
          }
        }
      }
    }
  }
}

TEST_F(RocketBounds, TakeAnEighthOfTheCache) {
  const Case data({.head_dim = 64, .lens = {64}}, seed, stream);
  EXPECT_EQ(data.bounds.bytes_per_page * 8, 2 * data.kv.page_bytes);  // e5m2, pages of 4, bf16 KV
}

TEST_F(RocketBounds, Refuse) {
  Case data({.lens = {64}}, seed, stream);
  for (const int32_t page_size : {0, 3, 64}) {
    data.bounds.page_size = page_size;
    EXPECT_THROW(update_bounds(data.kv, data.seqs, data.bounds, stream), Error) << page_size;
  }
  data.bounds.page_size = 4;
  data.bounds.bytes_per_page *= 2;
  EXPECT_THROW(update_bounds(data.kv, data.seqs, data.bounds, stream), Error);
}

}  // namespace
}  // namespace foveal::attention::rocket
