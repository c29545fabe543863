// What rounding to int8 may do to votes: tests of their reference, which the kernel follows bit for
// bit (prefill_vote_gpu_test), against votes in double precision.
#include <gtest/gtest.h>

#include <random>

#include "kernels/cuda/prefill_vote_reference.h"

namespace foveal::kernels::cuda::testing {
namespace {

constexpr int32_t kTile = 128;
constexpr int32_t kRows = 64;

struct Inputs {
  int32_t channels;
  std::vector<float> queries, keys;  ///< of one unit; its last query sees all keys
};

/// Runs of keys of different size, so that some tiles matter; `offset` is what all keys share.
Inputs inputs(int32_t channels, int32_t num_keys, float offset, uint32_t seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  Inputs out{channels, {}, {}};
  for (int32_t i = 0; i < kRows * channels; ++i) out.queries.push_back(2 * normal(rng));
  std::vector<float> shared;
  for (int32_t i = 0; i < channels; ++i) shared.push_back(offset * normal(rng));
  for (int32_t key = 0; key < num_keys; ++key) {
    const float spread = 0.2F + 0.13F * static_cast<float>(key / 100 * 7 % 11);
    for (int32_t i = 0; i < channels; ++i) {
      out.keys.push_back(spread * normal(rng) + shared[static_cast<size_t>(i)]);
    }
  }
  return out;
}

UnitCase unit_of(const Inputs& in, float threshold) {
  return {.position = static_cast<int32_t>(in.keys.size()) / in.channels - kRows,
          .channels = in.channels,
          .tile_keys = kTile,
          .window = 0,
          .scale_log2 = 1.4426950F / std::sqrt(static_cast<float>(in.channels)),
          .threshold = threshold};
}

struct Exact {
  double beyond = -std::numeric_limits<double>::infinity();  ///< the most that a row is
  double error = 0;                                          ///< that rounding may have in it
};

/// What a score may be off by: half a step of each side for every channel.
double score_error(const Inputs& in, const Int8Rows& queries, const Int8Rows& keys, size_t row,
                   size_t tile, double scale) {
  double sum = 0;
  for (int32_t i = 0; i < in.channels; ++i) {
    sum += 0.5 * std::abs(queries.values[row * static_cast<size_t>(in.channels) + i]) + 0.5 * 127 +
           0.25;
  }
  return 1.01 * sum * double{queries.units[row]} * double{keys.units[tile]} * scale;
}

std::vector<Exact> exact_votes(const Inputs& in, const UnitCase& unit) {
  const Int8Rows queries = round_rows(in.queries, in.channels, 1);
  const Int8Rows keys = round_keys(in.keys, in.channels, kTile, false);
  std::vector<Exact> out(keys.units.size());
  for (size_t row = 0; row < kRows; ++row) {
    double running = -std::numeric_limits<double>::infinity();
    double running_error = 0;
    for (size_t tile = 0; tile < out.size(); ++tile) {
      double top = -std::numeric_limits<double>::infinity();
      const size_t end = std::min((tile + 1) * kTile, static_cast<size_t>(unit.position) + row + 1);
      for (size_t key = tile * kTile; key < end; ++key) {
        double sum = 0;
        for (int32_t i = 0; i < in.channels; ++i) {
          sum += double{in.queries[row * static_cast<size_t>(in.channels) + i]} *
                 double{in.keys[key * static_cast<size_t>(in.channels) + i]};
        }
        top = std::max(top, sum * double{unit.scale_log2});
      }
      const double error = score_error(in, queries, keys, row, tile, double{unit.scale_log2});
      out[tile].beyond = std::max(out[tile].beyond, top - running);
      out[tile].error = std::max(out[tile].error, error + running_error);
      running = std::max(running, top);
      running_error = std::max(running_error, error);
    }
  }
  return out;
}

TEST(PrefillVote, RoundsToNearestAndKeepsTheLargest) {
  const Int8Rows rows = round_rows({1, -2, 0.5F, 0, 0, 0, 0.004F, 0.0039F}, 4, 1);
  EXPECT_EQ(rows.values, (std::vector<int32_t>{64, -127, 32, 0, 0, 0, 127, 124}));
  EXPECT_EQ(rows.units[0], 2.0F / 127);
  EXPECT_EQ(round_rows({0, 0}, 2, 1).values, (std::vector<int32_t>{0, 0}));
}

TEST(PrefillVote, WhatAllKeysShareIsTakenOff) {
  std::vector<float> keys;
  for (int32_t key = 0; key < 300; ++key)
    keys.insert(keys.end(), {100.0F, key % 2 == 0 ? 1.0F : -1.0F});
  const Int8Rows rounded = round_keys(keys, 2, kTile, false);
  EXPECT_EQ(rounded.units, std::vector<float>(3, 1.0F / 127));
  EXPECT_EQ(rounded.values[0], 0);
  EXPECT_EQ(rounded.values[1], 127);
  EXPECT_EQ(round_keys(keys, 2, kTile, true).values[0], 127) << "a window may hide the first tile";
}

// A decision may differ only where rounding could have moved it over the threshold; few do.
TEST(PrefillVote, DecidesAsScoresInDoubleDo) {
  int tiles = 0;
  int other = 0;
  int dropped = 0;
  for (const int32_t channels : {64, 128}) {
    for (const float offset : {0.0F, 5.0F}) {
      const Inputs in = inputs(channels, 30 * kTile + 17, offset, 5);
      for (const float threshold : {-0.25F, -1.0F, -3.0F}) {
        const UnitCase unit = unit_of(in, threshold);
        const Int8Rows keys = round_keys(in.keys, channels, kTile, false);
        const UnitVotes got = vote_by_int8(in.queries, keys, unit);
        const std::vector<Exact> want = exact_votes(in, unit);
        ASSERT_EQ(got.kept.size(), want.size());
        for (size_t tile = 0; tile < want.size(); ++tile) {
          const double beyond = want[tile].beyond - double{threshold};
          const bool kept = beyond >= 0;
          ++tiles;
          dropped += kept ? 0 : 1;
          if (kept == got.kept[tile]) continue;
          ++other;
          EXPECT_LE(std::fabs(beyond), want[tile].error) << tile;
        }
      }
    }
  }
  EXPECT_GT(dropped, tiles / 5);
  EXPECT_LT(dropped, tiles * 4 / 5);
  EXPECT_LE(other, tiles / 50);
}

}  // namespace
}  // namespace foveal::kernels::cuda::testing
