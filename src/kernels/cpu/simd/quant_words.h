#pragma once

// Quantised blocks to vectors of bf16 integers, for level avx512bf16. Every quant of every format
// is exact in bf16, so a dot product of quants and rounded activations needs one instruction, and
// its scale and minimum are applied to 32 (16 for Q6_K) terms at once.
//
// A "group" is 32 elements in their stored order; a "chunk" is up to kChunkGroups of them at an
// absolute position of the row. A format is a struct with
//     kBytes, kGroups    bytes and groups of a block
//     kUnit              groups unpacked together, because they share bytes
//     kMin               whether a minimum is added
//     words(chunk, group, out)               kUnit vectors of 32 bf16 integers
//     scales(chunk, groups, scale, min)      of the chunk's groups; zeros for the missing
//     scale_at(scale, group)                 the scale of each 32-bit lane (2 elements)

#include "kernels/cpu/simd/e4m3.h"
#include "kernels/cpu/simd/gemm_vec.h"

#if FOVEAL_ISA_LEVEL >= 3

namespace foveal::kernels::cpu::FOVEAL_ISA_NS {

constexpr int kChunkGroups = 16;
/// Floats that `scales` may write for each of scale and min, and scale_at may read.
constexpr int kScaleFloats = 48;

/// bf16 bits of a small integer.
constexpr uint16_t bf16_int(int value) {
  const uint16_t sign = value < 0 ? 0x8000 : 0;
  int rest = value < 0 ? -value : value;
  if (rest == 0) return 0;
  int exponent = 127;
  while (rest >> (exponent - 126) != 0) ++exponent;
  const int shift = 7 - (exponent - 127);
  const int mantissa = (shift >= 0 ? rest << shift : rest >> -shift) & 0x7f;
  return static_cast<uint16_t>(sign | (exponent << 7) | mantissa);
}

struct alignas(64) WordTable {
  uint16_t word[32];
};
/// Entry i is the integer (i & mask) + offset.
constexpr WordTable int_table(int mask, int offset) {
  WordTable table{};
  for (int idx = 0; idx < 32; ++idx) table.word[idx] = bf16_int((idx & mask) + offset);
  return table;
}
FOVEAL_SIMD __m512i table_vec(const WordTable& table) { return _mm512_load_si512(&table); }

// vpermw looks at 5 bits: tables of nibbles repeat, so the bit above a nibble need not be cleared.
static constexpr WordTable kNibble = int_table(15, 0);
static constexpr WordTable kNibbleMinus8 = int_table(15, -8);
static constexpr WordTable kNibblePlus16 = int_table(15, 16);
static constexpr WordTable kNibbleMinus16 = int_table(15, -16);
static constexpr WordTable kMinus32 = int_table(31, -32);
static constexpr WordTable kZero32 = int_table(31, 0);

struct alignas(64) ByteTable {
  uint8_t byte[64];
};
constexpr ByteTable nibble_order() {
  ByteTable table{};
  for (int word = 0; word < 32; ++word) {
    table.byte[2 * word] = table.byte[2 * word + 1] = static_cast<uint8_t>(word % 16);
  }
  return table;
}
static constexpr ByteTable kNibbleOrder = nibble_order();
constexpr WordTable nibble_shift() {
  WordTable table{};
  for (int word = 0; word < 32; ++word) table.word[word] = word < 16 ? 0 : 4;
  return table;
}
static constexpr WordTable kNibbleShift = nibble_shift();

/// 16 bytes to 32 words: the low nibbles, then the high ones, each in the low bits with others
/// above.
FOVEAL_SIMD __m512i spread_nibbles(const uint8_t* qs) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(qs));
  const __m512i order = _mm512_load_si512(&kNibbleOrder);
  const __m512i words = _mm512_permutexvar_epi8(order, _mm512_castsi128_si512(bytes));
  return _mm512_srlv_epi16(words, table_vec(kNibbleShift));
}
FOVEAL_SIMD __m512i widen_bytes(const uint8_t* p) {
  return _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}

constexpr WordTable half_order(int stride_words) {
  WordTable table{};
  for (int idx = 0; idx < 32; ++idx) {
    table.word[idx] = static_cast<uint16_t>((idx % 16) * stride_words % 32 + idx / 16);
  }
  return table;
}
/// Which lanes of half_order come from 64-byte vector `vec`.
constexpr uint32_t half_mask(int stride_words, int vec) {
  uint32_t mask = 0;
  for (int idx = 0; idx < 32; ++idx) {
    const int at = (idx % 16) * stride_words + idx / 16;
    if (at / 32 == vec) mask |= 1U << idx;
  }
  return mask;
}

/// The leading halves of blocks of kBytes: scale, and minimum where the format has one.
template <int kBytes, bool kMin>
struct LeadingHalves {
  static constexpr int kWords = kBytes / 2;
  static constexpr WordTable kOrder = half_order(kWords);

  /// Lanes of missing groups are zero; nothing past the last block is read.
  FOVEAL_SIMD void read(const uint8_t* chunk, int groups, float* scale, float* min) {
    constexpr int kVectors = (kWords * kChunkGroups + 31) / 32;
    const int words = kWords * groups;
    // a minimum may lie in the vector after its scale's: indices wrap with it
    __m512i halves = _mm512_setzero_si512();
#pragma GCC unroll 9
    for (int vec = 0; vec < kVectors; ++vec) {
      if (32 * vec >= words) break;
      const int left = words - 32 * vec;
      const __m512i bytes = left >= 32
                                ? _mm512_loadu_si512(chunk + 64 * vec)
                                : _mm512_maskz_loadu_epi16((1U << left) - 1U, chunk + 64 * vec);
      halves =
          _mm512_mask_permutexvar_epi16(halves, half_mask(kWords, vec), table_vec(kOrder), bytes);
    }
    if (groups < kChunkGroups) {
      const uint32_t live = (1U << groups) - 1U;
      halves = _mm512_maskz_mov_epi16(live | live << 16, halves);
    }
    _mm512_storeu_ps(scale, _mm512_cvtph_ps(_mm512_castsi512_si256(halves)));
    if (kMin) _mm512_storeu_ps(min, _mm512_cvtph_ps(_mm512_extracti64x4_epi64(halves, 1)));
  }
};

/// Formats of 32-element blocks that open with one or two halves.
template <int kBlockBytes, bool kHasMin>
struct SmallBlock {
  static constexpr int kBytes = kBlockBytes;
  static constexpr int kGroups = 1;
  static constexpr int kUnit = 1;
  static constexpr bool kMin = kHasMin;
  FOVEAL_SIMD void scales(const uint8_t* chunk, int groups, float* scale, float* min) {
    LeadingHalves<kBytes, kMin>::read(chunk, groups, scale, min);
  }
  FOVEAL_SIMD F32 scale_at(const float* scale, int group) { return set1(scale[group]); }
};

struct WordsQ4_0 : SmallBlock<18, false> {
  FOVEAL_SIMD void words(const uint8_t* chunk, int group, Pairs* out) {
    out[0] = Pairs{_mm512_permutexvar_epi16(spread_nibbles(chunk + group * kBytes + 2),
                                            table_vec(kNibbleMinus8))};
  }
};

struct WordsQ4_1 : SmallBlock<20, true> {
  FOVEAL_SIMD void words(const uint8_t* chunk, int group, Pairs* out) {
    out[0] = Pairs{
        _mm512_permutexvar_epi16(spread_nibbles(chunk + group * kBytes + 4), table_vec(kNibble))};
  }
};

/// The fifth bits are a mask that picks the second table.
FOVEAL_SIMD __m512i five_bits(__m512i nibbles, __mmask32 high, const WordTable& clear,
                              const WordTable& set) {
  const __m512i words = _mm512_permutexvar_epi16(nibbles, table_vec(clear));
  return _mm512_mask_permutexvar_epi16(words, high, nibbles, table_vec(set));
}

struct WordsQ5_0 : SmallBlock<22, false> {
  FOVEAL_SIMD void words(const uint8_t* chunk, int group, Pairs* out) {
    const uint8_t* block = chunk + group * kBytes;
    uint32_t high;
    __builtin_memcpy(&high, block + 2, 4);
    out[0] = Pairs{five_bits(spread_nibbles(block + 6), high, kNibbleMinus16, kNibble)};
  }
};

struct WordsQ5_1 : SmallBlock<24, true> {
  FOVEAL_SIMD void words(const uint8_t* chunk, int group, Pairs* out) {
    const uint8_t* block = chunk + group * kBytes;
    uint32_t high;
    __builtin_memcpy(&high, block + 4, 4);
    out[0] = Pairs{five_bits(spread_nibbles(block + 8), high, kNibble, kNibblePlus16)};
  }
};

struct WordsQ8_0 : SmallBlock<34, false> {
  static constexpr WordTable kHighHalves = [] {
    WordTable table{};
    for (int idx = 0; idx < 32; ++idx) table.word[idx] = static_cast<uint16_t>(2 * idx + 1);
    return table;
  }();
  /// Integers to float are exact, and so is keeping the upper half of an 8-bit one.
  FOVEAL_SIMD void words(const uint8_t* chunk, int group, Pairs* out) {
    const auto* qs = reinterpret_cast<const __m128i*>(chunk + group * kBytes + 2);
    const __m512 low = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(qs)));
    const __m512 high = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(qs + 1)));
    out[0] = Pairs{_mm512_permutex2var_epi16(_mm512_castps_si512(low), table_vec(kHighHalves),
                                             _mm512_castps_si512(high))};
  }
};

/// e4m3 values are exact in bf16, as integers are; their scale is a float32 and need not be.
struct WordsE4M3 {
  static constexpr int kBytes = 36;
  static constexpr int kGroups = 1;
  static constexpr int kUnit = 1;
  static constexpr bool kMin = false;

  FOVEAL_SIMD void words(const uint8_t* chunk, int group, Pairs* out) {
    Pairs none;
    widen_e4m3(chunk + group * kBytes + 4, 32, out[0], none);
  }
  FOVEAL_SIMD void scales(const uint8_t* chunk, int groups, float* scale, float* /*min*/) {
    const __m512i places =
        _mm512_mullo_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                           _mm512_set1_epi32(kBytes));
    const auto live = static_cast<__mmask16>((1U << groups) - 1U);
    _mm512_storeu_ps(scale, _mm512_mask_i32gather_ps(_mm512_setzero_ps(), live, places, chunk, 1));
  }
  FOVEAL_SIMD F32 scale_at(const float* scale, int group) { return set1(scale[group]); }
};

/// Q4_K and Q5_K: blocks of 8 groups, 6-bit scales and minima times two halves.
template <int kBlockBytes>
struct KBlock {
  static constexpr int kBytes = kBlockBytes;
  static constexpr int kGroups = 8;
  static constexpr int kUnit = 2;
  static constexpr bool kMin = true;

  /// Lanes 0 to 7: the scales; 8 to 15: the minima, negated.
  FOVEAL_SIMD __m512 block_scales(const uint8_t* block) {
    uint32_t raw[4];
    __builtin_memcpy(raw, block, 16);
    const uint32_t six = 0x3f3f3f3fU;
    const uint32_t four = 0x0f0f0f0fU;
    const uint32_t two = 0x30303030U;
    const __m128i bytes = _mm_setr_epi32(
        static_cast<int>(raw[1] & six), static_cast<int>((raw[3] & four) | ((raw[1] >> 2) & two)),
        static_cast<int>(raw[2] & six),
        static_cast<int>(((raw[3] >> 4) & four) | ((raw[2] >> 2) & two)));
    const __m128 halves = _mm_cvtph_ps(_mm_cvtsi32_si128(static_cast<int>(raw[0] ^ 0x80000000U)));
    const __m512i pick = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
    return _mm512_mul_ps(_mm512_permutexvar_ps(pick, _mm512_castps128_ps512(halves)),
                         _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes)));
  }

  FOVEAL_SIMD void scales(const uint8_t* chunk, int groups, float* scale, float* min) {
    const __m512 first = block_scales(chunk);
    const __m512 second = groups > 8 ? block_scales(chunk + kBytes) : _mm512_setzero_ps();
    _mm512_storeu_ps(scale, _mm512_shuffle_f32x4(first, second, 0x44));
    _mm512_storeu_ps(min, _mm512_shuffle_f32x4(first, second, 0xee));
  }
  FOVEAL_SIMD F32 scale_at(const float* scale, int group) { return set1(scale[group]); }
};

struct WordsQ4_K : KBlock<144> {
  FOVEAL_SIMD void words(const uint8_t* chunk, int group, Pairs* out) {
    const __m512i bytes = widen_bytes(chunk + group / 8 * kBytes + 16 + group % 8 * 16);
    out[0] = Pairs{_mm512_permutexvar_epi16(bytes, table_vec(kNibble))};
    out[1] = Pairs{_mm512_permutexvar_epi16(_mm512_srli_epi16(bytes, 4), table_vec(kNibble))};
  }
};

struct WordsQ5_K : KBlock<176> {
  FOVEAL_SIMD void words(const uint8_t* chunk, int group, Pairs* out) {
    const uint8_t* block = chunk + group / 8 * kBytes;
    const __m512i bytes = widen_bytes(block + 48 + group % 8 * 16);
    const __m256i high = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(block + 16));
    const auto bit = static_cast<char>(1U << (group % 8));
    const auto next = static_cast<char>(2U << (group % 8));
    out[0] = Pairs{five_bits(bytes, _mm256_test_epi8_mask(high, _mm256_set1_epi8(bit)), kNibble,
                             kNibblePlus16)};
    out[1] = Pairs{five_bits(_mm512_srli_epi16(bytes, 4),
                             _mm256_test_epi8_mask(high, _mm256_set1_epi8(next)), kNibble,
                             kNibblePlus16)};
  }
};

/// Blocks of 8 groups with a signed scale for every 16 elements.
struct WordsQ6_K {
  static constexpr int kBytes = 210;
  static constexpr int kGroups = 8;
  static constexpr int kUnit = 4;
  static constexpr bool kMin = false;

  FOVEAL_SIMD __m512i look_up(__m512i nibbles, __m512i bits) {
    // 0xca: the low four bits from the nibbles, the rest from above
    const __m512i index = _mm512_ternarylogic_epi32(_mm512_set1_epi16(15), nibbles, bits, 0xca);
    return _mm512_permutex2var_epi16(table_vec(kMinus32), index, table_vec(kZero32));
  }
  FOVEAL_SIMD void words(const uint8_t* chunk, int group, Pairs* out) {
    const uint8_t* block = chunk + group / 8 * kBytes;
    const int half = group % 8 / 4;
    const __m512i first = widen_bytes(block + 64 * half);
    const __m512i second = widen_bytes(block + 64 * half + 32);
    const __m512i high = widen_bytes(block + 128 + 32 * half);
    out[0] = Pairs{look_up(first, _mm512_slli_epi16(high, 4))};
    out[1] = Pairs{look_up(second, _mm512_slli_epi16(high, 2))};
    out[2] = Pairs{look_up(_mm512_srli_epi16(first, 4), high)};
    out[3] = Pairs{look_up(_mm512_srli_epi16(second, 4), _mm512_srli_epi16(high, 2))};
  }

  FOVEAL_SIMD void block_scales(const uint8_t* block, float* scale) {
    uint16_t d;
    __builtin_memcpy(&d, block + 208, 2);
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(block + 192));
    _mm512_storeu_ps(scale, _mm512_mul_ps(_mm512_set1_ps(half_to_float(d)),
                                          _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes))));
  }
  FOVEAL_SIMD void scales(const uint8_t* chunk, int groups, float* scale, float*) {
    block_scales(chunk, scale);
    if (groups > 8) block_scales(chunk + kBytes, scale + 16);
  }
  FOVEAL_SIMD F32 scale_at(const float* scale, int group) {
    const __m512i pick = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
    const __m128 pair =
        _mm_castsi128_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(scale + 2 * group)));
    return {_mm512_permutexvar_ps(pick, _mm512_castps128_ps512(pair))};
  }
};

}  // namespace foveal::kernels::cpu::FOVEAL_ISA_NS

#endif
