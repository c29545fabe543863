#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <numeric>

#include "base/check.h"
#include "base/math.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/topk_item.h"
#include "kernels/topk.h"

namespace foveal::kernels {
namespace {

/// Keys order as values do; refinement takes their bits in these digits, from the top.
constexpr std::array<int, 3> kDigits = {11, 11, 10};
constexpr int64_t kSample = 1024;
/// Blocks are chosen first where k is at most this part of them.
constexpr int64_t kFewBlocks = 4;

const cpu::TopKKernels& topk_kernels() {
#if defined(__x86_64__)
  switch (cpu::active_isa()) {
    case cpu::Isa::kPortable:
      return cpu::portable::kTopKKernels;
    case cpu::Isa::kAvx2:
      return cpu::avx2::kTopKKernels;
    case cpu::Isa::kAvx512:
      return cpu::avx512::kTopKKernels;
    case cpu::Isa::kAvx512Bf16:
      return cpu::avx512bf16::kTopKKernels;
  }
#endif
  return cpu::portable::kTopKKernels;
}

/// Both zeros have one key, and so have NaN and -inf.
uint32_t order_key(float value) {
  if (value != value) value = -std::numeric_limits<float>::infinity();
  const uint32_t bits = std::bit_cast<uint32_t>(value + 0.0F);
  return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}

float key_value(uint32_t key) {
  return std::bit_cast<float>((key & 0x80000000U) != 0 ? key & 0x7fffffffU : ~key);
}

/// The k-th largest key and how many equal ones belong to the k largest.
struct Cut {
  uint32_t key = 0;
  int64_t ties = 0;
};

/// 1 <= k <= keys.size(). `keys` is used up.
Cut find_cut(std::vector<uint32_t>& keys, int64_t k, std::vector<uint32_t>& bins) {
  uint32_t prefix = 0;
  int shift = 32;
  for (const int digits : kDigits) {
    shift -= digits;
    const uint32_t mask = (1U << digits) - 1;
    bins.assign(size_t{mask} + 1, 0);
    for (const uint32_t key : keys) ++bins[(key >> shift) & mask];
    uint32_t bin = mask;
    while (bins[bin] < k) k -= bins[bin--];
    prefix = (prefix << digits) | bin;
    std::erase_if(keys, [&](uint32_t key) { return ((key >> shift) & mask) != bin; });
  }
  return {prefix, k};
}

/// Of `candidates` (ascending), those above the cut and the first of those at it.
int64_t emit(std::span<const float> values, std::span<const int32_t> candidates, Cut cut,
             int32_t* out) {
  int64_t count = 0;
  for (const int32_t idx : candidates) {
    const uint32_t key = order_key(values[static_cast<size_t>(idx)]);
    if (key < cut.key || (key == cut.key && cut.ties-- <= 0)) continue;
    out[count++] = idx;
  }
  return count;
}

}  // namespace

float largest(std::span<const float> values) {
  float out = -std::numeric_limits<float>::infinity();
  for (const float value : values) out = value > out ? value : out;
  return out;
}

/// The threshold that a sample's rank suggests, a little low. What reaches it is counted: with at
/// least k the k largest are among them.
bool TopKSet::guess(std::span<const float> values, int32_t k, int32_t* out) {
  const auto n = static_cast<int64_t>(values.size());
  keys_.resize(static_cast<size_t>(kSample));
  for (int64_t idx = 0; idx < kSample; ++idx) {
    keys_[static_cast<size_t>(idx)] = order_key(values[static_cast<size_t>(idx * n / kSample)]);
  }
  const int64_t rank = k * kSample / n;
  const int64_t low = rank + rank / 4 + 3 * (std::bit_width(static_cast<uint64_t>(rank)) + 2);
  if (low >= kSample) return false;
  const auto at = keys_.begin() + low;
  std::nth_element(keys_.begin(), at, keys_.end(), std::greater<>());
  if (*at <= order_key(-std::numeric_limits<float>::infinity())) return false;  // NaN ties with it
  const int64_t room = std::min(n, int64_t{4} * k + 8192);
  indices_.resize(static_cast<size_t>(room));
  const int64_t count =
      topk_kernels().at_least(values.data(), n, key_value(*at), indices_.data(), room);
  if (count < k || count == room) return false;
  refine(values, {indices_.data(), static_cast<size_t>(count)}, k, out);
  return true;
}

/// `found`: ascending, the k largest among them.
void TopKSet::refine(std::span<const float> values, std::span<const int32_t> found, int32_t k,
                     int32_t* out) {
  keys_.clear();
  for (const int32_t idx : found) keys_.push_back(order_key(values[static_cast<size_t>(idx)]));
  const Cut cut = find_cut(keys_, k, bins_);
  FOVEAL_INVARIANT(emit(values, found, cut, out) == k);
}

void TopKSet::select(std::span<const float> values, int32_t k, int32_t* out) {
  const auto n = static_cast<int64_t>(values.size());
  FOVEAL_CHECK(n <= std::numeric_limits<int32_t>::max() && k >= 0, ErrorKind::kInvalidArgument,
               "top_k", "got k {} of {} values; need at least 0 of less than 2^31", k, n);
  if (k >= n) {
    std::iota(out, out + n, 0);
    return;
  }
  if (k == 0) return;
  if (n >= kTopKGuessLength) {
    ++guesses_;
    if (guess(values, k, out)) return;
    ++fallbacks_;
  }
  keys_.resize(values.size());
  std::transform(values.begin(), values.end(), keys_.begin(), order_key);
  const Cut cut = find_cut(keys_, k, bins_);
  indices_.resize(values.size());
  std::iota(indices_.begin(), indices_.end(), 0);
  FOVEAL_INVARIANT(emit(values, indices_, cut, out) == k);
}

// The k blocks with the largest maxima hold k values that reach the least of these maxima, and so
// the k largest of all. Of blocks with equal maxima the first are taken, so the values that tie
// for the last places are there too, lowest index first.
void TopKSet::select(std::span<const float> values, std::span<const float> maxima, int32_t k,
                     int32_t* out) {
  const auto n = static_cast<int64_t>(values.size());
  const auto num_blocks = static_cast<int64_t>(maxima.size());
  FOVEAL_INVARIANT(num_blocks == ceil_div(n, kTopKBlock));
  if (k <= 0 || k > num_blocks / kFewBlocks) return select(values, k, out);
  blocks_.resize(static_cast<size_t>(k));
  select(maxima, k, blocks_.data());
  float least = std::numeric_limits<float>::infinity();
  for (const int32_t block : blocks_) least = std::min(least, maxima[static_cast<size_t>(block)]);
  if (least == -std::numeric_limits<float>::infinity()) return select(values, k, out);
  indices_.clear();
  for (const int32_t block : blocks_) {
    const int64_t begin = block * kTopKBlock;
    for (int64_t idx = begin; idx < std::min(begin + kTopKBlock, n); ++idx) {
      if (values[static_cast<size_t>(idx)] >= least) {
        indices_.push_back(static_cast<int32_t>(idx));
      }
    }
  }
  FOVEAL_INVARIANT(std::ssize(indices_) >= k);
  refine(values, indices_, k, out);
}

}  // namespace foveal::kernels
