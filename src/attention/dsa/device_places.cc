#include "attention/dsa/device_places.h"

#include <algorithm>

#include "base/math.h"

namespace foveal::attention::dsa {
namespace {

/// Scores that are kept at once: at 128 Ki keys this is 512 rows, enough to fill a GPU.
constexpr int64_t kScoreBytes = int64_t{256} << 20;

}  // namespace

DevicePlaces device_places(const Settings& settings, int32_t num_rows, int32_t max_kv_len) {
  DevicePlaces out;
  out.all = settings.unscored(max_kv_len);
  out.most = std::min(settings.topk, max_kv_len);
  out.stride = round_up(int64_t{out.most}, int64_t{4});
  out.scores_stride = round_up(int64_t{max_kv_len}, int64_t{4});
  const int64_t fits = kScoreBytes / (out.scores_stride * 4);
  out.chunk = static_cast<int32_t>(
      std::clamp<int64_t>(std::min<int64_t>(fits, settings.max_chunk), 1, std::max(1, num_rows)));
  if (out.all) return out;
  size_t used = 0;
  const auto place = [&](int64_t bytes) {
    const size_t begin = used;
    used += static_cast<size_t>(round_up(bytes, int64_t{256}));
    return begin;
  };
  const int64_t rows = num_rows;
  place(rows * settings.num_heads * settings.head_dim);
  out.weights = place(rows * settings.num_heads * 4);
  out.scores = place(out.chunk * out.scores_stride * 4);
  out.tokens = place(rows * out.stride * 4);
  out.counts = place(rows * 4);
  out.attention = used;
  return out;
}

int64_t device_workspace_bytes(const Settings& settings, const StepLimits& limits) {
  const auto bytes = [&](int64_t rows) {
    const DevicePlaces places = device_places(settings, static_cast<int32_t>(rows),
                                              static_cast<int32_t>(limits.max_kv_len));
    return static_cast<int64_t>(places.attention) / 4 * 5;
  };
  return bytes(limits.max_rows) + bytes(std::min(limits.max_rows, limits.max_seqs));
}

}  // namespace foveal::attention::dsa
