// 16-bit floats: `half` (IEEE) and `bfloat`. They are kept as bits and worked with in float; rounding is to nearest even.
#pragma once

struct half {
  unsigned short bits;
  half() = default;
  __device__ half(float v) {
#ifdef __CUDA_ARCH__
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(v));
#else
    bits = __half_as_ushort(__float2half_rn(v));
#endif
  }
  __device__ operator float() const {
#ifdef __CUDA_ARCH__
    float v;
    asm("cvt.f32.f16 %0, %1;" : "=f"(v) : "h"(bits));
    return v;
#else
    return __half2float(__ushort_as_half(bits));
#endif
  }
};

struct bfloat {
  unsigned short bits;
  bfloat() = default;
  __device__ bfloat(float v) {
    unsigned u = __float_as_uint(v);
    bool nan = (u & 0x7fffffffu) > 0x7f800000u;
    bits = nan ? (u >> 16) | 0x40 : (u + 0x7fff + ((u >> 16) & 1)) >> 16;
  }
  __device__ operator float() const { return __uint_as_float((unsigned)bits << 16); }
};
