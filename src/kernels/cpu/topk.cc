#include "kernels/topk.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <limits>

#include "base/check.h"

namespace foveal::kernels {
namespace {

/// A number that orders as (value, then lower index first), so that one integer compare decides and
/// no two are equal.
uint64_t make_key(float value, int64_t idx) {
  if (value != value) value = -std::numeric_limits<float>::infinity();
  if (value == 0) value = 0;  // -0
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t ordered = (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
  return (static_cast<uint64_t>(ordered) << 32) | ~static_cast<uint32_t>(idx);
}

int32_t key_index(uint64_t key) { return static_cast<int32_t>(~static_cast<uint32_t>(key)); }

/// The best k so far, kept as an unordered buffer of up to 2k keys; each time it is full, it is cut
/// back to k in linear time, which raises the threshold that later values must pass.
class Candidates {
 public:
  explicit Candidates(size_t k) : k_(k) { keys_.reserve(2 * k); }

  bool selective() const { return selective_; }
  float threshold() const { return threshold_; }

  void push(float value, int64_t idx, std::span<const float> values) {
    keys_.push_back(make_key(value, idx));
    if (keys_.size() < 2 * k_) return;
    cut();
    const float worst = values[static_cast<size_t>(key_index(keys_[k_ - 1]))];
    threshold_ = worst == worst ? worst : -std::numeric_limits<float>::infinity();
    selective_ = true;
  }

  std::vector<uint64_t>& finish() {
    if (keys_.size() > k_) cut();
    std::sort(keys_.begin(), keys_.end(), std::greater<>());
    return keys_;
  }

 private:
  void cut() {
    std::nth_element(keys_.begin(), keys_.begin() + static_cast<ptrdiff_t>(k_ - 1), keys_.end(),
                     std::greater<>());
    keys_.resize(k_);
  }

  size_t k_;
  std::vector<uint64_t> keys_;
  float threshold_ = 0;
  bool selective_ = false;
};

}  // namespace

std::vector<int32_t> top_k(std::span<const float> values, int64_t k) {
  const auto n = static_cast<int64_t>(values.size());
  FOVEAL_CHECK(n <= std::numeric_limits<int32_t>::max(), ErrorKind::kInvalidArgument, "top_k",
               "got {} values; need less than 2^31", n);
  FOVEAL_CHECK(k >= 0 && k <= n, ErrorKind::kInvalidArgument, "top_k",
               "got k {} for {} values; need 0 to {}", k, n, n);
  if (k == 0) return {};
  Candidates best(static_cast<size_t>(k));
  int64_t idx = 0;
  for (; idx < n && !best.selective(); ++idx) {
    best.push(values[static_cast<size_t>(idx)], idx, values);
  }
  // A later value equal to the threshold loses the tie, hence strict. Most blocks have no winner:
  // their test is branch-free, for the compiler to vectorise.
  constexpr int64_t kBlock = 32;
  for (; idx + kBlock <= n; idx += kBlock) {
    const float* block = values.data() + idx;
    const float threshold = best.threshold();
    int winners = 0;
    for (int64_t lane = 0; lane < kBlock; ++lane) winners |= block[lane] > threshold ? 1 : 0;
    if (winners == 0) continue;
    for (int64_t lane = 0; lane < kBlock; ++lane) {
      if (block[lane] > best.threshold()) best.push(block[lane], idx + lane, values);
    }
  }
  for (; idx < n; ++idx) {
    if (values[static_cast<size_t>(idx)] > best.threshold()) {
      best.push(values[static_cast<size_t>(idx)], idx, values);
    }
  }
  const std::vector<uint64_t>& keys = best.finish();
  std::vector<int32_t> indices(keys.size());
  std::transform(keys.begin(), keys.end(), indices.begin(), key_index);
  return indices;
}

}  // namespace foveal::kernels
