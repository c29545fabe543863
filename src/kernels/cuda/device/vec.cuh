#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include <cstdint>

// Eight values at a time: 16 bytes of a 2-byte type, two times 16 of float32.

namespace foveal::kernels::cuda {

struct Vec8 {
  float v[8];
};

__device__ __forceinline__ float2 unpack2(uint32_t bits, __nv_bfloat16) {
  return {__uint_as_float(bits << 16), __uint_as_float(bits & 0xffff0000U)};
}
__device__ __forceinline__ float2 unpack2(uint32_t bits, __half) {
  return __half22float2(*reinterpret_cast<const __half2*>(&bits));
}
__device__ __forceinline__ uint32_t pack2(float a, float b, __nv_bfloat16) {
  const __nv_bfloat162 packed = __floats2bfloat162_rn(a, b);
  return *reinterpret_cast<const uint32_t*>(&packed);
}
__device__ __forceinline__ uint32_t pack2(float a, float b, __half) {
  const __half2 packed = __floats2half2_rn(a, b);
  return *reinterpret_cast<const uint32_t*>(&packed);
}

template <class T>
__device__ __forceinline__ Vec8 unpack8(const uint4& bits) {
  Vec8 out;
  const uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 pair = unpack2(words[i], T());
    out.v[2 * i] = pair.x;
    out.v[2 * i + 1] = pair.y;
  }
  return out;
}

template <class T>
__device__ __forceinline__ uint4 pack8(const Vec8& x) {
  return {pack2(x.v[0], x.v[1], T()), pack2(x.v[2], x.v[3], T()), pack2(x.v[4], x.v[5], T()),
          pack2(x.v[6], x.v[7], T())};
}

/// `at` counts elements and is a multiple of 8.
template <class T>
__device__ __forceinline__ Vec8 load8(const T* p, int64_t at) {
  if constexpr (sizeof(T) == 4) {
    const float4 a = *reinterpret_cast<const float4*>(p + at);
    const float4 b = *reinterpret_cast<const float4*>(p + at + 4);
    return {{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}};
  } else {
    return unpack8<T>(*reinterpret_cast<const uint4*>(p + at));
  }
}

template <class T>
__device__ __forceinline__ void store8(T* p, int64_t at, const Vec8& x) {
  if constexpr (sizeof(T) == 4) {
    *reinterpret_cast<float4*>(p + at) = {x.v[0], x.v[1], x.v[2], x.v[3]};
    *reinterpret_cast<float4*>(p + at + 4) = {x.v[4], x.v[5], x.v[6], x.v[7]};
  } else {
    *reinterpret_cast<uint4*>(p + at) = pack8<T>(x);
  }
}

/// x / scale, rounded to e4m3 and held within its range. `y` is 8-byte aligned.
__device__ __forceinline__ void store_e4m3(uint8_t* y, const Vec8& x, float scale) {
  uint32_t words[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const auto pair = [&](int j) {
      return static_cast<uint32_t>(__nv_cvt_float2_to_fp8x2(
          {x.v[4 * i + j] / scale, x.v[4 * i + j + 1] / scale}, __NV_SATFINITE, __NV_E4M3));
    };
    words[i] = pair(0) | pair(2) << 16;
  }
  *reinterpret_cast<uint2*>(y) = {words[0], words[1]};
}

}  // namespace foveal::kernels::cuda
