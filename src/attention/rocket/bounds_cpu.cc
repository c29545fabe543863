#include "attention/rocket/rocket_isa.h"
#include "kernels/cpu/simd/vec.h"

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {
namespace {

constexpr int kMaxTokens = 1024;  ///< of a cache page

FOVEAL_SIMD int32_t bits_of(float x) {
  int32_t bits = 0;
  __builtin_memcpy(&bits, &x, sizeof(bits));
  return bits;
}

/// The nearest bf16 that is not below `x` (`up` 1) or not above it (`up` 0). No branches: loops
/// over it become vectors.
FOVEAL_SIMD uint16_t outward_bf16(float x, int32_t up) {
  const int32_t bits = bits_of(x);
  const int32_t negative = bits < 0 ? 1 : 0;
  const int32_t inexact = (bits & 0xffff) != 0 ? 1 : 0;
  return static_cast<uint16_t>((bits >> 16) + (inexact & (negative ^ up)));
}

/// The same for e5m2. Past its largest finite value, 57344, it is infinite or that value.
FOVEAL_SIMD uint8_t outward_e5m2(float x, int32_t up) {
  const int32_t bits = bits_of(x);
  const int32_t negative = bits < 0 ? 1 : 0;
  const int32_t magnitude = bits & INT32_MAX;
  // Below 2^-14 in steps of 2^-16, else the upper bits, with the exponents' biases 112 apart.
  const float steps = (x < 0 ? -x : x) * 0x1p16F;
  const bool small = magnitude < 0x38800000;
  const auto whole = static_cast<int32_t>(small ? steps : 0.0F);
  const int32_t normal = (magnitude >> 21) - (112 << 2);
  int32_t code = small ? whole : normal;
  int32_t inexact = 0;
  if (small) {
    inexact = static_cast<float>(whole) != steps ? 1 : 0;
  } else {
    inexact = (magnitude & 0x1fffff) != 0 ? 1 : 0;
  }
  const bool over = code > 0x7b;  // finite ones round down to 57344 at most
  const bool infinite = magnitude >= 0x7f800000;
  code = over ? (infinite ? 0x7c : 0x7b) : code;
  inexact = over ? (infinite ? 0 : 1) : inexact;
  return static_cast<uint8_t>((negative << 7) | (code + (inexact & (negative ^ up))));
}

/// least[page], most[page] over the page's keys; kPage 0: page_size, else the same, known.
template <int kPage>
void reduce(const float* keys, int num_pages, int page_size, float* least, float* most) {
  const int len = kPage > 0 ? kPage : page_size;
  for (int page = 0; page < num_pages; ++page) {
    float low = keys[page * len];
    float high = low;
    for (int idx = 1; idx < len; ++idx) {
      const float key = keys[page * len + idx];
      low = key < low ? key : low;
      high = key > high ? key : high;
    }
    least[page] = low;
    most[page] = high;
  }
}

/// The same with mean -+ half the standard deviation.
template <int kPage>
void spread(const float* keys, int num_pages, int page_size, float* least, float* most) {
  const int len = kPage > 0 ? kPage : page_size;
  for (int page = 0; page < num_pages; ++page) {
    const float* own = keys + page * len;
    float sum = 0;
    for (int idx = 0; idx < len; ++idx) sum += own[idx];
    const float mean = sum / static_cast<float>(len);
    float squares = 0;
    for (int idx = 0; idx < len; ++idx) squares += (own[idx] - mean) * (own[idx] - mean);
    const float half = 0.5F * __builtin_sqrtf(squares / static_cast<float>(len));
    least[page] = mean - half;
    most[page] = mean + half;
  }
}

/// Of pages of which the last has fewer keys where `num_keys` ends.
void spread_all(const float* keys, int num_keys, int num_pages, int page_size, float* least,
                float* most) {
  const int whole = num_keys / page_size < num_pages ? num_keys / page_size : num_pages;
  if (page_size == 2) {
    spread<2>(keys, whole, 2, least, most);
  } else if (page_size == 4) {
    spread<4>(keys, whole, 4, least, most);
  } else {
    spread<0>(keys, whole, page_size, least, most);
  }
  if (whole == num_pages) return;
  const int done = whole * page_size;
  spread<0>(keys + done, 1, num_keys - done, least + whole, most + whole);
}

struct Bounds {
  const RocketBoundItem& item;

  int64_t row_len() const { return item.cache_page_size / item.page_size; }

  void put(int64_t row, const float* values, int32_t up) const {
    const int64_t at = row * row_len() + item.page_begin;
    const int count = item.page_end - item.page_begin;
    if (item.bound_format == BoundFormat::kBf16) {
      uint16_t bits[kMaxTokens];
      for (int page = 0; page < count; ++page) bits[page] = outward_bf16(values[page], up);
      __builtin_memcpy(item.bounds + 2 * at, bits, static_cast<unsigned>(count) * 2);
    } else {
      uint8_t bits[kMaxTokens];
      for (int page = 0; page < count; ++page) bits[page] = outward_e5m2(values[page], up);
      __builtin_memcpy(item.bounds + at, bits, static_cast<unsigned>(count));
    }
  }

  /// From one channel's keys, token `begin` first.
  void channel(int channel, float* keys, int begin) const {
    const int first = item.page_begin * item.page_size - begin;
    const int end = item.page_end * item.page_size - begin;
    const int valid = item.num_tokens - begin;
    for (int token = valid; token < end; ++token) keys[token] = keys[valid - 1];
    float least[kMaxTokens];
    float most[kMaxTokens];
    const int count = item.page_end - item.page_begin;
    if (item.kind == BoundKind::kMeanStd) {
      spread_all(keys + first, valid - first, count, item.page_size, least, most);
    } else if (item.page_size == 2) {
      reduce<2>(keys + first, count, 2, least, most);
    } else if (item.page_size == 4) {
      reduce<4>(keys + first, count, 4, least, most);
    } else if (item.page_size == 8) {
      reduce<8>(keys + first, count, 8, least, most);
    } else {
      reduce<0>(keys + first, count, item.page_size, least, most);
    }
    put(channel, least, 0);
    put(item.head_dim + channel, most, 1);
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
//            the storage type's value nearest to it; or the same of mean - and + half the standard
//            deviation
// In/out:    K of one KV head in one cache page (base/kv_view.h); bounds [2, head_dim,
//            cache_page_size / page_size] bf16 or e5m2
// Units:     a page is page_size consecutive tokens of the sequence, counted within its cache page
// Launch:    one call a (sequence, touched cache page, KV head)
// Needs:     page_size divides cache_page_size, which is a multiple of 16 up to 1024; tokens
// Numerics:  from the keys as stored, so a page may be redone at any time and chunks do not show;
//            slots past num_tokens count for nothing. Keys must not be NaN
// Source:    RocketKV (arXiv 2502.14051) stage two; outward rounding is ours
// Measured:  2.1 ms a layer for a prompt of 7,680 keys, 3 us for one token (3 KV heads of 64,
//            pages of 4, e5m2); one core of an AMD EPYC, busy neighbours, 2026-11-28 (bench_rocket)
void rocket_bounds(const RocketBoundItem& item) { Bounds{item}.run(); }

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS
