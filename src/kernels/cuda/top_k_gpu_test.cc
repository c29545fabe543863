#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <optional>

#include "device/graph.h"
#include "foveal/kernels_top_k.h"
#include "kernels/cuda/dense_cuda_testing.h"
#include "kernels/topk.h"

namespace foveal::kernels::cuda {
namespace {

using namespace testing;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

/// Rows of one kind: what values they have, from a row's random numbers.
struct Kind {
  const char* name;
  std::function<void(std::span<float>, std::mt19937&)> fill;
};

float draw(std::mt19937& rng) { return std::normal_distribution<float>()(rng); }

/// Each value from one standard normal and its place.
auto each(std::function<float(float, size_t)> value) {
  return [value = std::move(value)](std::span<float> row, std::mt19937& rng) {
    for (size_t i = 0; i < row.size(); ++i) row[i] = value(draw(rng), i);
  };
}

std::vector<Kind> kinds() {
  std::vector<Kind> out;
  out.push_back({"normal", each([](float x, size_t) { return x; })});
  out.push_back({"all equal", each([](float, size_t) { return 1.5F; })});
  out.push_back({"two zeros", each([](float x, size_t) { return x > 0 ? 0.0F : -0.0F; })});
  out.push_back({"two values", each([](float x, size_t) { return x > 1 ? 2.0F : 1.0F; })});
  out.push_back({"ascending", each([](float, size_t i) { return static_cast<float>(i); })});
  out.push_back({"descending", each([](float, size_t i) { return -static_cast<float>(i); })});
  out.push_back({"denormal", [](std::span<float> row, std::mt19937& rng) {
                   for (float& x : row) {
                     x = std::bit_cast<float>(static_cast<uint32_t>(rng() & 0x803fffffU));
                   }
                 }});
  out.push_back({"any bits", [](std::span<float> row, std::mt19937& rng) {
                   for (float& x : row) x = std::bit_cast<float>(static_cast<uint32_t>(rng()));
                 }});
  out.push_back({"infinities and NaN", each([](float x, size_t) {
                   return x > 1.8F ? kInf : x < -0.5F ? -kInf : std::fabs(x) < 0.1F ? kNan : x;
                 })});
  out.push_back({"mostly -inf", each([](float x, size_t) { return x > 2.4F ? x : -kInf; })});
  out.push_back({"NaN alone", each([](float, size_t) { return kNan; })});
  out.push_back({"few values", each([](float x, size_t) { return std::round(3 * x); })});
  out.push_back({"narrow", each([](float x, size_t) { return 100 + 1e-3F * x; })});
  out.push_back({"heavy tails", each([](float x, size_t) { return x * std::exp(3 * x); })});
  out.push_back({"clipped", each([](float x, size_t) { return std::max(x, 1.9F); })});
  out.push_back({"one large stretch", [](std::span<float> row, std::mt19937& rng) {
                   const size_t begin = rng() % row.size();
                   for (size_t i = 0; i < row.size(); ++i) {
                     row[i] = draw(rng) + (i >= begin && i < begin + 3000 ? 20.0F : 0.0F);
                   }
                 }});
  out.push_back({"a walk", [](std::span<float> row, std::mt19937& rng) {
                   float at = 0;
                   for (float& x : row) x = at += draw(rng);
                 }});
  return out;
}

/// A call and its inputs on the host.
struct Case {
  int32_t rows = 1;
  int32_t columns = 0;
  int32_t padding = 0;  ///< of each row
  int32_t k = 0;
  uint32_t flags = 0;
  int32_t page_size = 0;         ///< 0: no slots
  std::vector<int32_t> lengths;  ///< or empty
  std::vector<int32_t> starts;   ///< or empty
  std::vector<float> values;     // [rows][columns + padding]

  [[nodiscard]] std::span<const float> window(int32_t row) const {
    const auto begin = starts.empty() ? 0 : starts[static_cast<size_t>(row)];
    const auto end = lengths.empty() ? columns : lengths[static_cast<size_t>(row)];
    const auto at = static_cast<size_t>(row) * static_cast<size_t>(columns + padding);
    return std::span(values).subspan(at + static_cast<size_t>(begin),
                                     static_cast<size_t>(std::max(0, end - begin)));
  }
};

class TopKGpuTest : public CudaTest {
 protected:
  void call(const foveal_top_k_params& params) {
    char message[512];
    ASSERT_EQ(foveal_top_k(&params, stream_.native(), message, sizeof(message)), FOVEAL_OK)
        << message;
  }
  std::string refusal(const foveal_top_k_params& params) {
    char message[512];
    EXPECT_EQ(foveal_top_k(&params, stream_.native(), message, sizeof(message)),
              FOVEAL_INVALID_ARGUMENT);
    return message;
  }

  /// Runs a case and compares all it wrote with the host's top_k; adds to the counters.
  void check(const Case& c) {
    const auto rows = static_cast<size_t>(c.rows);
    const auto k = static_cast<size_t>(c.k);
    const auto values = upload(c.values);
    const auto lengths = upload(c.lengths);
    const auto starts = upload(c.starts);
    const DeviceArray<int32_t> indices(stream_, rows * k);
    const DeviceArray<int32_t> slots(stream_, rows * k);
    const DeviceArray<int32_t> counts(stream_, rows);
    const auto counters = upload(std::vector<uint64_t>(2));
    const auto pages = static_cast<size_t>(c.columns / std::max(c.page_size, 1) + 1);
    std::vector<int32_t> table(rows * pages);
    for (int32_t& page : table) page = static_cast<int32_t>(rng_() % 100000);
    const auto device_table = upload(table);
    foveal_top_k_params p{};
    p.struct_size = sizeof(p);
    p.num_rows = c.rows;
    p.values = values.data();
    p.row_stride = c.columns + c.padding;
    p.lengths = c.lengths.empty() ? nullptr : lengths.data();
    p.starts = c.starts.empty() ? nullptr : starts.data();
    p.rows_a_length = 1;
    p.max_length = c.columns;
    p.k = c.k;
    p.indices = indices.data();
    p.indices_stride = c.k;
    p.counts = counts.data();
    p.flags = c.flags;
    p.page_size = c.page_size;
    p.slots = c.page_size > 0 ? slots.data() : nullptr;
    p.page_table = device_table.data();
    p.page_table_stride = static_cast<int64_t>(pages);
    p.counters = counters.data();
    call(p);
    const std::vector<uint64_t> counted = counters.download();
    EXPECT_EQ(counted[0], rows);
    fell_back_ += counted[1];
    const std::vector<int32_t> got = indices.download();
    const std::vector<int32_t> got_slots = slots.download();
    const std::vector<int32_t> got_counts = counts.download();
    for (int32_t row = 0; row < c.rows; ++row) {
      const std::vector<int32_t> want = expected(c, row);
      const auto from = got.begin() + static_cast<ptrdiff_t>(row) * c.k;
      ASSERT_EQ(std::vector<int32_t>(from, from + c.k), want)
          << "row " << row << " of " << c.rows << ", columns " << c.columns << ", k " << c.k;
      ASSERT_EQ(got_counts[static_cast<size_t>(row)],
                std::min(c.k, static_cast<int32_t>(c.window(row).size())));
      for (size_t i = 0; c.page_size > 0 && i < k; ++i) {
        const int32_t page = want[i] < 0 ? 0
                                         : table[static_cast<size_t>(row) * pages +
                                                 static_cast<size_t>(want[i] / c.page_size)];
        const int32_t slot = want[i] < 0 ? -1 : page * c.page_size + want[i] % c.page_size;
        ASSERT_EQ(got_slots[static_cast<size_t>(row) * k + i], slot);
      }
    }
    rows_ += rows;
  }

  static std::vector<int32_t> expected(const Case& c, int32_t row) {
    const std::span<const float> values = c.window(row);
    const int64_t count = std::min(int64_t{c.k}, static_cast<int64_t>(values.size()));
    std::vector<int32_t> out = kernels::top_k(values, count);
    std::sort(out.begin(), out.end());
    out.resize(static_cast<size_t>(c.k), -1);
    return out;
  }

  /// Rows of all kinds in turn.
  Case random_case(int32_t rows, int32_t columns, int32_t k) {
    static const std::vector<Kind> all = kinds();
    Case c{.rows = rows, .columns = columns, .k = k};
    c.padding = static_cast<int32_t>(rng_() % 6);
    c.values.resize(static_cast<size_t>(rows) * static_cast<size_t>(columns + c.padding), kInf);
    for (int32_t row = 0; row < rows; ++row) {
      const auto at = static_cast<size_t>(row) * static_cast<size_t>(columns + c.padding);
      all[next_kind_++ % all.size()].fill(
          std::span(c.values).subspan(at, static_cast<size_t>(columns)), rng_);
    }
    c.page_size = std::vector<int32_t>{0, 1, 16, 64, 100}[rng_() % 5];
    if (rng_() % 2 == 0) return c;
    const bool windows = rng_() % 2 == 0;
    for (int32_t row = 0; row < rows; ++row) {
      const auto length = rng_() % 3 == 0 ? columns : static_cast<int32_t>(rng_() % (columns + 1));
      c.lengths.push_back(length);
      if (windows) c.starts.push_back(static_cast<int32_t>(rng_() % (length + 1)) % 300);
    }
    return c;
  }

  uint64_t rows_ = 0;
  uint64_t fell_back_ = 0;
  size_t next_kind_ = 0;
};

TEST_F(TopKGpuTest, TwentyThousandShortRowsOfEveryKind) {
  for (int trial = 0; rows_ < 20000; ++trial) {
    const auto columns = static_cast<int32_t>(1 + rng_() % (trial % 4 < 2 ? 20000 : 3000));
    const auto k = static_cast<int32_t>(1 + rng_() % (trial % 2 == 0 ? 2500 : 300));
    const int32_t rows = std::vector<int32_t>{1, 30, 100, 600}[static_cast<size_t>(trial) % 4];
    check(random_case(rows, columns, k));
    if (HasFatalFailure()) return;
  }
  EXPECT_LT(fell_back_, rows_ / 2);
}

TEST_F(TopKGpuTest, LengthsAndCountsAroundEveryThreshold) {
  for (const int32_t about : {1, 128, 2048, 4096, 8192, 16384, 32768, 65536, 131072, 262144}) {
    for (const int32_t step : {-4, -1, 0, 1, 3, 5}) {
      for (const int32_t k : {1, 64, 1023, 1024, 2048}) {
        if (about + step < 1) continue;
        check(random_case(about > 40000 ? 1 : 3, about + step, k));
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_F(TopKGpuTest, AnyCountAndAMillionValues) {
  for (const int32_t columns : {20000, 100001, 1 << 20}) {
    for (const int32_t k : {1, 4095, 4096, 4097, 6144, 6145, 16384, 16385, 30000}) {
      check(random_case(columns < 50000 ? 5 : 2, columns, k));
      if (HasFatalFailure()) return;
    }
  }
}

TEST_F(TopKGpuTest, EverySpreadOverCtas) {
  for (const int32_t rows : {1, 8, 9, 16, 17, 33, 66, 67, 133, 300}) {
    check(random_case(rows, 17000, 2048));
    if (HasFatalFailure()) return;
    check(random_case(rows, 70000, 512));
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(fell_back_, 0U);  // of many rows, which no cluster's registers hold
}

TEST_F(TopKGpuTest, RadixSelectionAlone) {
  for (const int32_t rows : {1, 9, 40, 300}) {
    Case c = random_case(rows, 9001, 700);
    c.flags = FOVEAL_TOP_K_RADIX;
    check(c);
    if (HasFatalFailure()) return;
  }
  EXPECT_EQ(fell_back_, 0U);  // it was asked for
}

/// Where scores of neighbours resemble one another, stretches stand out, or the newest do, a guess
/// from samples holds.
TEST_F(TopKGpuTest, GuessesHoldOnRowsLikeScores) {
  const auto smooth = [](std::span<float> row, std::mt19937& rng, float keep) {
    float at = 0;
    for (float& x : row) x = at = keep * at + std::sqrt(1 - keep * keep) * draw(rng);
  };
  for (const int32_t columns : {32768, 131072}) {
    for (const int32_t rows : {1, 40, 280}) {
      Case c{.rows = rows, .columns = columns, .k = 2048};
      c.values.resize(static_cast<size_t>(rows) * static_cast<size_t>(columns));
      for (int32_t row = 0; row < rows; ++row) {
        const auto own = std::span(c.values).subspan(
            static_cast<size_t>(row) * static_cast<size_t>(columns), static_cast<size_t>(columns));
        smooth(own, rng_, std::vector<float>{0, 0.5F, 0.9F}[static_cast<size_t>(row) % 3]);
        for (size_t i = 0; row % 2 == 0 && i < own.size(); ++i) {
          own[i] += 4 * std::exp(-static_cast<float>(own.size() - i) / 2000);
        }
      }
      check(c);
      if (HasFatalFailure()) return;
    }
  }
  EXPECT_LE(fell_back_, rows_ / 100);
}

TEST_F(TopKGpuTest, RunsAreTheSameAndLengthsAreReadOnReplay) {
  const int32_t columns = 100000;
  const auto values = upload(normal(columns));
  const DeviceArray<int32_t> indices(stream_, 2048);
  const auto lengths = upload(std::vector<int32_t>{columns});
  foveal_top_k_params p{};
  p.struct_size = sizeof(p);
  p.num_rows = 1;
  p.values = values.data();
  p.row_stride = columns;
  p.lengths = lengths.data();
  p.rows_a_length = 1;
  p.max_length = columns;
  p.k = 2048;
  p.indices = indices.data();
  p.indices_stride = 2048;
  Graph graph = Graph::capture(stream_, [&] { call(p); });
  const std::vector<float> host = values.download();
  for (const int32_t length : {columns, 100, 2048, 2049, 9000, 50001}) {
    stream_.copy(lengths.data(), &length, sizeof(length));
    for (int run = 0; run < 3; ++run) {
      graph.launch(stream_);
      std::vector<int32_t> want = kernels::top_k(std::span(host).first(static_cast<size_t>(length)),
                                                 std::min(length, 2048));
      std::sort(want.begin(), want.end());
      want.resize(2048, -1);
      ASSERT_EQ(indices.download(), want) << "length " << length;
    }
  }
}

TEST_F(TopKGpuTest, RefusesByName) {
  const auto values = upload(std::vector<float>(100));
  const DeviceArray<int32_t> indices(stream_, 100);
  foveal_top_k_params good{};
  good.struct_size = sizeof(good);
  good.num_rows = 1;
  good.values = values.data();
  good.row_stride = 100;
  good.rows_a_length = 1;
  good.max_length = 100;
  good.k = 10;
  good.indices = indices.data();
  good.indices_stride = 10;
  call(good);
  const auto refused = [&](auto spoil) {
    foveal_top_k_params p = good;
    spoil(p);
    return refusal(p);
  };
  using Params = foveal_top_k_params;
  EXPECT_NE(refused([](Params& p) { p.struct_size = 8; }).find("struct_size 8"), std::string::npos);
  EXPECT_NE(refused([](Params& p) { p.k = 11; }).find("k 11"), std::string::npos);
  EXPECT_NE(refused([](Params& p) { p.num_rows = 0; }).find("num_rows 0"), std::string::npos);
  EXPECT_NE(refused([](Params& p) { p.max_length = 2 << 20; }).find("max_length"),
            std::string::npos);
  EXPECT_NE(refused([](Params& p) { p.indices = nullptr; }).find("indices"), std::string::npos);
  EXPECT_NE(refused([](Params& p) { p.slots = p.indices; }).find("page_table"), std::string::npos);
  EXPECT_NE(refused([](Params& p) { p.starts = p.indices; }).find("lengths"), std::string::npos);
  EXPECT_NE(refused([](Params& p) { p.flags = 6; }).find("flags 6"), std::string::npos);
  // A caller of the first version of the structure.
  Params older = good;
  older.struct_size = FOVEAL_TOP_K_SIZE_1;
  older.flags = 99;
  call(older);
  EXPECT_EQ(indices.download()[9], 9);
}

}  // namespace
}  // namespace foveal::kernels::cuda
