#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include <cstdint>

#include "foveal/kernels_rocket.h"

// Bounds of pages of keys, in the manner of attention/rocket/page_bounds.h.

namespace foveal::kernels::cuda {

/// The nearest bf16 that is not below `x` (`up` 1) or not above it (`up` 0).
__device__ inline uint16_t outward_bf16(float x, uint32_t up) {
  const uint32_t bits = __float_as_uint(x);
  const uint32_t inexact = (bits & 0xffff) != 0 ? 1 : 0;
  return static_cast<uint16_t>((bits >> 16) + (inexact & (bits >> 31 ^ up)));
}

/// The same for e5m2. Past its largest finite value, 57344, it is infinite or that value.
__device__ inline uint8_t outward_e5m2(float x, uint32_t up) {
  const uint32_t bits = __float_as_uint(x);
  const uint32_t negative = bits >> 31;
  const uint32_t magnitude = bits & 0x7fffffff;
  uint32_t code = 0;
  uint32_t inexact = 0;
  if (magnitude < 0x38800000) {  // below 2^-14 in steps of 2^-16
    const float steps = fabsf(x) * 0x1p16F;
    code = static_cast<uint32_t>(steps);
    inexact = static_cast<float>(code) != steps ? 1 : 0;
  } else {  // the upper bits, with the exponents' biases 112 apart
    code = (magnitude >> 21) - (112 << 2);
    inexact = (magnitude & 0x1fffff) != 0 ? 1 : 0;
  }
  if (code > 0x7b) {
    const bool infinite = magnitude >= 0x7f800000;
    code = infinite ? 0x7c : 0x7b;
    inexact = infinite ? 0 : 1;
  }
  return static_cast<uint8_t>(negative << 7 | (code + (inexact & (negative ^ up))));
}

__device__ inline float read_key(const char* at, int32_t dtype) {
  if (dtype == FOVEAL_E4M3) {
    return __half2float(__nv_cvt_fp8_to_halfraw(*reinterpret_cast<const uint8_t*>(at), __NV_E4M3));
  }
  const uint16_t bits = *reinterpret_cast<const uint16_t*>(at);
  if (dtype == FOVEAL_F16) return __half2float(__ushort_as_half(bits));
  return __uint_as_float(static_cast<uint32_t>(bits) << 16);
}

/// Four values of a key from a lane's own place in the row.
__device__ inline float4 read_four(const char* at, int32_t dtype) {
  if (dtype == FOVEAL_E4M3) {
    const uint32_t word = *reinterpret_cast<const uint32_t*>(at);
    const float2 low = __half22float2(__half2(
        __nv_cvt_fp8x2_to_halfraw2(static_cast<__nv_fp8x2_storage_t>(word & 0xffff), __NV_E4M3)));
    const float2 high = __half22float2(__half2(
        __nv_cvt_fp8x2_to_halfraw2(static_cast<__nv_fp8x2_storage_t>(word >> 16), __NV_E4M3)));
    return {low.x, low.y, high.x, high.y};
  }
  const uint2 words = *reinterpret_cast<const uint2*>(at);
  if (dtype == FOVEAL_F16) {
    const float2 low = __half22float2(*reinterpret_cast<const __half2*>(&words.x));
    const float2 high = __half22float2(*reinterpret_cast<const __half2*>(&words.y));
    return {low.x, low.y, high.x, high.y};
  }
  return {__uint_as_float(words.x << 16), __uint_as_float(words.x & 0xffff0000U),
          __uint_as_float(words.y << 16), __uint_as_float(words.y & 0xffff0000U)};
}

/// What is kept of four channels of a page.
struct FourRanges {
  float4 least;
  float4 most;
};

/// use(key) of `tokens` keys in turn, of which kAtOnce are asked for at once.
template <int kAtOnce, class Use>
__device__ inline void for_each_key(const char* at, int64_t token_bytes, int32_t dtype,
                                    int32_t tokens, Use use) {
  if constexpr (kAtOnce == 1) {
#pragma unroll 4
    for (int32_t token = 0; token < tokens; ++token) {
      use(read_four(at + token * token_bytes, dtype));
    }
  } else {
#pragma unroll 1
    for (int32_t first = 0; first < tokens; first += kAtOnce) {
      float4 keys[kAtOnce];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        keys[i] = read_four(at + min(first + i, tokens - 1) * token_bytes, dtype);
      }
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        if (first + i < tokens) use(keys[i]);
      }
    }
  }
}

/// Least and largest values.
template <int kAtOnce>
__device__ inline FourRanges key_range(const char* at, int64_t token_bytes, int32_t dtype,
                                       int32_t tokens) {
  FourRanges out{{INFINITY, INFINITY, INFINITY, INFINITY},
                 {-INFINITY, -INFINITY, -INFINITY, -INFINITY}};
  for_each_key<kAtOnce>(at, token_bytes, dtype, tokens, [&](const float4& key) {
    out.least = {fminf(out.least.x, key.x), fminf(out.least.y, key.y), fminf(out.least.z, key.z),
                 fminf(out.least.w, key.w)};
    out.most = {fmaxf(out.most.x, key.x), fmaxf(out.most.y, key.y), fmaxf(out.most.z, key.z),
                fmaxf(out.most.w, key.w)};
  });
  return out;
}

/// Means less and plus half the standard deviation, each operation rounded, as on the CPU.
template <int kAtOnce>
__device__ inline FourRanges key_spread(const char* at, int64_t token_bytes, int32_t dtype,
                                        int32_t tokens) {
  const auto count = static_cast<float>(tokens);
  float4 sum{0, 0, 0, 0};
  for_each_key<kAtOnce>(at, token_bytes, dtype, tokens, [&](const float4& key) {
    sum = {__fadd_rn(sum.x, key.x), __fadd_rn(sum.y, key.y), __fadd_rn(sum.z, key.z),
           __fadd_rn(sum.w, key.w)};
  });
  const float4 mean{__fdiv_rn(sum.x, count), __fdiv_rn(sum.y, count), __fdiv_rn(sum.z, count),
                    __fdiv_rn(sum.w, count)};
  float4 squares{0, 0, 0, 0};
  const auto add = [](float& to, float value, float middle) {
    const float off = __fsub_rn(value, middle);
    to = __fadd_rn(to, __fmul_rn(off, off));
  };
  for_each_key<kAtOnce>(at, token_bytes, dtype, tokens, [&](const float4& key) {
    add(squares.x, key.x, mean.x);
    add(squares.y, key.y, mean.y);
    add(squares.z, key.z, mean.z);
    add(squares.w, key.w, mean.w);
  });
  const auto half = [&](float of) { return __fmul_rn(0.5F, __fsqrt_rn(__fdiv_rn(of, count))); };
  const float4 off{half(squares.x), half(squares.y), half(squares.z), half(squares.w)};
  return {{__fsub_rn(mean.x, off.x), __fsub_rn(mean.y, off.y), __fsub_rn(mean.z, off.z),
           __fsub_rn(mean.w, off.w)},
          {__fadd_rn(mean.x, off.x), __fadd_rn(mean.y, off.y), __fadd_rn(mean.z, off.z),
           __fadd_rn(mean.w, off.w)}};
}

__device__ inline uint32_t outward_e5m2x4(const float4& x, uint32_t up) {
  return outward_e5m2(x.x, up) | outward_e5m2(x.y, up) << 8 | outward_e5m2(x.z, up) << 16 |
         static_cast<uint32_t>(outward_e5m2(x.w, up)) << 24;
}
__device__ inline uint2 outward_bf16x4(const float4& x, uint32_t up) {
  return {outward_bf16(x.x, up) | static_cast<uint32_t>(outward_bf16(x.y, up)) << 16,
          outward_bf16(x.z, up) | static_cast<uint32_t>(outward_bf16(x.w, up)) << 16};
}

/// Bounds of one page from its first `tokens` keys, by a warp, four channels a lane:
/// put(channel, least, most) with words of four stored values (kBoundBytes 1: e5m2, uint32_t; 2:
/// bf16, uint2). One page asks for several keys at once, as what it costs is waiting; many pages
/// side by side have no need to.
template <int kBoundBytes, int kAtOnce, class Put>
__device__ inline void make_bounds(const char* keys, int64_t token_bytes, int32_t dtype,
                                   int32_t kind, int32_t tokens, int32_t head_dim, int lane,
                                   Put put) {
  const int32_t key_bytes = dtype == FOVEAL_E4M3 ? 1 : 2;
#pragma unroll 1
  for (int32_t channel = lane * 4; channel < head_dim; channel += 128) {
    const char* at = keys + channel * key_bytes;
    const FourRanges ranges = kind == FOVEAL_BOUND_MEAN_STD
                                  ? key_spread<kAtOnce>(at, token_bytes, dtype, tokens)
                                  : key_range<kAtOnce>(at, token_bytes, dtype, tokens);
    if constexpr (kBoundBytes == 2) {
      put(channel, outward_bf16x4(ranges.least, 0), outward_bf16x4(ranges.most, 1));
    } else {
      put(channel, outward_e5m2x4(ranges.least, 0), outward_e5m2x4(ranges.most, 1));
    }
  }
}

/// To `to`, [2][head_dim].
template <int kBoundBytes>
__device__ inline void put_bounds(char* to, int32_t head_dim, int32_t channel, auto least,
                                  auto most) {
  using Word = decltype(least);
  *reinterpret_cast<Word*>(to + channel * kBoundBytes) = least;
  *reinterpret_cast<Word*>(to + (head_dim + channel) * kBoundBytes) = most;
}

}  // namespace foveal::kernels::cuda
