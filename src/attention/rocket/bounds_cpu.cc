#include "attention/rocket/rocket_isa.h"
#include "kernels/cpu/simd/vec.h"

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {
namespace {

constexpr int kMaxTokens = 1024;  ///< of a cache page
constexpr float kInf = __builtin_inff();
constexpr uint32_t kSign = 0x80000000U;

enum class Toward : uint8_t { kMinus, kPlus };

/// The nearest bf16 that is not on the wrong side of `x`.
FOVEAL_SIMD uint16_t outward_bf16(float x, Toward toward) {
  uint32_t bits = 0;
  __builtin_memcpy(&bits, &x, sizeof(bits));
  if ((bits & ~kSign) > 0x7f800000U) return static_cast<uint16_t>((bits >> 16) | 0x40U);  // NaN
  const bool grows = ((bits & kSign) != 0) == (toward == Toward::kMinus);
  return static_cast<uint16_t>((bits >> 16) + (grows && (bits & 0xffffU) != 0 ? 1U : 0U));
}

/// The same for e5m2. Past its largest finite value, 57344, it is infinite or that value.
FOVEAL_SIMD uint8_t outward_e5m2(float x, Toward toward) {
  uint32_t bits = 0;
  __builtin_memcpy(&bits, &x, sizeof(bits));
  const uint32_t sign = bits >> 24 & 0x80U;
  const bool grows = (sign != 0) == (toward == Toward::kMinus);
  bits &= ~kSign;
  if (bits >= 0x7f800000U) return static_cast<uint8_t>(sign | (bits > 0x7f800000U ? 0x7eU : 0x7cU));
  uint32_t code = 0;
  bool exact = false;
  if (bits < 0x38800000U) {  // below 2^-14: steps of 2^-16
    float steps = 0;
    __builtin_memcpy(&steps, &bits, sizeof(steps));
    steps *= 0x1p16F;
    code = static_cast<uint32_t>(steps);
    exact = static_cast<float>(code) == steps;
  } else {
    code = (bits >> 21) - (112U << 2);  // the exponents' biases differ by 112
    exact = (bits & 0x1fffffU) == 0;
    if (code > 0x7bU) {
      code = 0x7b;
      exact = false;
    }
  }
  return static_cast<uint8_t>(sign | (code + (grows && !exact ? 1U : 0U)));
}

struct Bounds {
  const RocketBoundItem& item;

  int64_t row_len() const { return item.cache_page_size / item.page_size; }

  void put(int64_t row, int page, float value, Toward toward) const {
    const int64_t at = row * row_len() + page;
    if (item.bound_format == BoundFormat::kBf16) {
      const uint16_t bits = outward_bf16(value, toward);
      __builtin_memcpy(item.bounds + 2 * at, &bits, sizeof(bits));
    } else {
      item.bounds[at] = static_cast<std::byte>(outward_e5m2(value, toward));
    }
  }

  /// From one channel's keys, of which keys[token - begin] is valid up to num_tokens.
  void channel(int channel, const float* keys, int begin) const {
    for (int page = item.page_begin; page < item.page_end; ++page) {
      const int first = page * item.page_size;
      const int end =
          first + item.page_size < item.num_tokens ? first + item.page_size : item.num_tokens;
      float least = kInf;
      float most = -kInf;
      for (int token = first; token < end; ++token) {
        const float key = keys[token - begin];
        least = key < least ? key : least;
        most = key > most ? key : most;
      }
      put(channel, page, least, Toward::kMinus);
      put(item.head_dim + channel, page, most, Toward::kPlus);
    }
  }

  void run() const {
    const int begin = item.page_begin * item.page_size / 16 * 16;  // whole vectors at every level
    const int wanted = item.page_end * item.page_size;
    const int end = wanted < item.num_tokens ? wanted : item.num_tokens;
    float even[kMaxTokens];
    float odd[kMaxTokens];
    const int64_t stride = item.cache_page_size;
    for (int ch = 0; ch < item.head_dim; ch += item.format == KvFormat::kBf16 ? 2 : 1) {
      for (int at = begin; at < end; at += kLanes) {
        if (item.format == KvFormat::kBf16) {
          const Pairs pairs = load_pairs(item.k + 4 * (ch / 2 * stride + at));
          store(even + (at - begin), widen_even(pairs));
          store(odd + (at - begin), widen_odd(pairs));
        } else if (item.format == KvFormat::kF16) {
          const std::byte* p = item.k + 2 * (ch * stride + at);
          store(even + (at - begin), load_f16(reinterpret_cast<const uint16_t*>(p)));
        } else {
          const std::byte* p = item.k + 4 * (ch * stride + at);
          store(even + (at - begin), load(reinterpret_cast<const float*>(p)));
        }
      }
      channel(ch, even, begin);
      if (item.format == KvFormat::kBf16) channel(ch + 1, odd, begin);
    }
  }
};

}  // namespace

// Computes:  bounds[0][d][P] <= min, bounds[1][d][P] >= max over page P's tokens t of k[t][d], as
//            the storage type's value nearest to it
// In/out:    K of one KV head in one cache page (base/kv_view.h); bounds [2, head_dim,
//            cache_page_size / page_size] bf16 or e5m2
// Units:     a page is page_size consecutive tokens of the sequence, counted within its cache page
// Launch:    one call a (sequence, touched cache page, KV head)
// Needs:     page_size divides cache_page_size, which is a multiple of 16 up to 1024; tokens
// Numerics:  from the keys as stored, so a page may be redone at any time and chunks do not show;
//            slots past num_tokens count for nothing. NaN keys are passed over
// Source:    RocketKV (arXiv 2502.14051) stage two; outward rounding is ours
// Measured:  not yet
void rocket_bounds(const RocketBoundItem& item) { Bounds{item}.run(); }

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS
