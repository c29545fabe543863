#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

// Votes by scores in int8, operation for operation what the kernels do, so that integers and
// decisions are the same.

namespace foveal::kernels::cuda::testing {

/// As device/int8.cuh.
struct Int8Group {
  float unit;
  float inverse;
  explicit Int8Group(float largest)
      : unit(largest / 127.0F), inverse(largest > 1e-30F ? 127.0F / largest : 0.0F) {}
  int32_t round(float x) const {
    return static_cast<int32_t>(std::fma(x, inverse, 12582912.0F) - 12582912.0F);
  }
};

inline float largest_of(const std::vector<float>& values) {
  float largest = 0;
  for (const float x : values) largest = std::max(largest, std::fabs(x));
  return largest;
}

/// Rows of values that share scales in groups of `rows_a_scale` of them.
struct Int8Rows {
  std::vector<int32_t> values;  ///< [rows, channels]
  std::vector<float> units;     ///< a group
};

inline Int8Rows round_rows(const std::vector<float>& rows, int32_t channels, int32_t rows_a_scale) {
  Int8Rows out;
  const auto step = static_cast<ptrdiff_t>(rows_a_scale) * channels;
  for (auto begin = rows.begin(); begin < rows.end();) {
    const auto end = rows.end() - begin > step ? begin + step : rows.end();
    const std::vector<float> group(begin, end);
    const Int8Group scale(largest_of(group));
    out.units.push_back(scale.unit);
    for (const float x : group) out.values.push_back(scale.round(x));
    begin = end;
  }
  return out;
}

/// One sequence's keys of a head, [keys, channels]: the mean of the first tile taken off, in the
/// order in which sixteen lanes and then their sums are added; none under a window.
inline Int8Rows round_keys(std::vector<float> keys, int32_t channels, int32_t tile_keys,
                           bool window) {
  const auto width = static_cast<size_t>(channels);
  const size_t mean_keys = std::min(keys.size() / width, static_cast<size_t>(tile_keys));
  std::vector<float> mean(width, 0.0F);
  if (!window) {
    std::vector<float> lanes(16 * width, 0.0F);
    for (size_t at = 0; at < mean_keys * width; ++at) {
      lanes[at / width % 16 * width + at % width] += keys[at];
    }
    for (size_t at = 0; at < lanes.size(); ++at) mean[at % width] += lanes[at];
    for (float& x : mean) x /= static_cast<float>(mean_keys);
  }
  for (size_t at = 0; at < keys.size(); ++at) keys[at] -= mean[at % width];
  return round_rows(keys, channels, tile_keys);
}

/// What one unit of queries votes.
struct UnitVotes {
  std::vector<bool> kept;       ///< of each tile
  std::vector<uint64_t> pairs;  ///< (query, key) pairs of each tile
  std::vector<bool> close;      ///< tiles whose vote another log2 of the threshold could turn
};

struct UnitCase {
  int32_t position;  ///< of the first query
  int32_t channels;
  int32_t tile_keys;
  int32_t window;
  float scale_log2;
  float threshold;  ///< log2; -inf: off
};

/// The largest score of a query in a tile, in integers; minimum where it sees no key.
inline int32_t tile_top(const int32_t* query, const Int8Rows& keys, const UnitCase& unit,
                        int32_t position, int32_t tile, uint64_t& pairs) {
  int32_t top = std::numeric_limits<int32_t>::min();
  const int32_t low = unit.window > 0 ? std::max(0, position - unit.window + 1) : 0;
  const int32_t end = std::min(position + 1, (tile + 1) * unit.tile_keys);
  for (int32_t key = std::max(low, tile * unit.tile_keys); key < end; ++key) {
    const int32_t* other = &keys.values[static_cast<size_t>(key) * unit.channels];
    int32_t sum = 0;
    for (int32_t i = 0; i < unit.channels; ++i) sum += query[i] * other[i];
    top = std::max(top, sum);
    ++pairs;
  }
  return top;
}

inline UnitVotes vote_by_int8(const std::vector<float>& queries, const Int8Rows& keys,
                              const UnitCase& unit) {
  constexpr float kNone = -std::numeric_limits<float>::infinity();
  const Int8Rows rounded = round_rows(queries, unit.channels, 1);
  const size_t rows = rounded.units.size();
  const size_t tiles = keys.units.size();
  UnitVotes out{std::vector<bool>(tiles), std::vector<uint64_t>(tiles), std::vector<bool>(tiles)};
  std::vector<float> running(rows, kNone);
  for (size_t tile = 0; tile < tiles; ++tile) {
    float closest = std::numeric_limits<float>::infinity();
    for (size_t row = 0; row < rows; ++row) {
      const int32_t top = tile_top(&rounded.values[row * unit.channels], keys, unit,
                                   unit.position + static_cast<int32_t>(row),
                                   static_cast<int32_t>(tile), out.pairs[tile]);
      if (top == std::numeric_limits<int32_t>::min()) continue;
      const float row_scale = rounded.units[row] * unit.scale_log2;
      const float score = static_cast<float>(top) * (row_scale * keys.units[tile]);
      const float beyond = score - running[row];
      if (!(beyond < unit.threshold)) out.kept[tile] = true;
      closest = std::min(closest, std::fabs(beyond - unit.threshold));
      running[row] = std::max(running[row], score);
    }
    out.close[tile] = closest < 1e-5F;
  }
  return out;
}

}  // namespace foveal::kernels::cuda::testing
