// CUDA on the CPU for tests: its words for C++. How kernels run is in fibers.hpp, which comes after this.
#pragma once
#define _GLIBCXX_INCLUDE_NEXT_C_HEADERS 1  // C's own headers: those of C++ take as long to read as all the rest
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#undef INFINITY  // NVRTC has neither
#undef NAN
#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __noinline__
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __builtin_assume(condition) ((void)0)

// C++ has these for float as well.
#define OF_FLOAT(name) inline float name(float v) { return name##f(v); }
#define OF_FLOATS(name) inline float name(float a, float b) { return name##f(a, b); }
OF_FLOAT(sqrt) OF_FLOAT(cbrt) OF_FLOAT(exp) OF_FLOAT(exp2) OF_FLOAT(expm1) OF_FLOAT(log) OF_FLOAT(log2) OF_FLOAT(log10)
OF_FLOAT(log1p) OF_FLOAT(sin) OF_FLOAT(cos) OF_FLOAT(tan) OF_FLOAT(asin) OF_FLOAT(acos) OF_FLOAT(atan) OF_FLOAT(sinh)
OF_FLOAT(cosh) OF_FLOAT(tanh) OF_FLOAT(asinh) OF_FLOAT(acosh) OF_FLOAT(atanh) OF_FLOAT(erf) OF_FLOAT(erfc)
OF_FLOAT(fabs) OF_FLOAT(floor) OF_FLOAT(ceil) OF_FLOAT(trunc) OF_FLOAT(rint) OF_FLOAT(nearbyint) OF_FLOAT(round)
OF_FLOATS(pow) OF_FLOATS(fmod) OF_FLOATS(hypot) OF_FLOATS(atan2) OF_FLOATS(copysign) OF_FLOATS(nextafter)
OF_FLOATS(fmax) OF_FLOATS(fmin) OF_FLOATS(remainder) OF_FLOATS(fdim)
inline float abs(float v) { return fabsf(v); }
inline double abs(double v) { return fabs(v); }
inline long long abs(long long v) { return v < 0 ? -v : v; }
inline float fma(float a, float b, float c) { return fmaf(a, b, c); }

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};
template <class T> struct alignas(2 * sizeof(T)) vector2 {
  T x, y;
};
template <class T> struct vector3 {
  T x, y, z;
};
template <class T> struct alignas(sizeof(T) > 4 ? 16 : 4 * sizeof(T)) vector4 {
  T x, y, z, w;
};
#define VECTORS(T, name)                                                             \
  using name##2 = vector2<T>;                                                        \
  using name##3 = vector3<T>;                                                        \
  using name##4 = vector4<T>;                                                        \
  inline name##2 make_##name##2(T x, T y) { return {x, y}; }                         \
  inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; }                 \
  inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
VECTORS(signed char, char)
VECTORS(unsigned char, uchar)
VECTORS(short, short)
VECTORS(unsigned short, ushort)
VECTORS(int, int)
VECTORS(unsigned, uint)
VECTORS(long long, longlong)
VECTORS(unsigned long long, ulonglong)
VECTORS(float, float)
VECTORS(double, double)

static dim3 threadIdx, blockIdx, blockDim, gridDim;
constexpr int warpSize = 32;

inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>((1ull * a * b) >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return static_cast<unsigned long long>((static_cast<unsigned __int128>(a) * b) >> 64);
}
template <class To, class From> inline To bits(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}
inline int __float_as_int(float v) { return bits<int>(v); }
inline unsigned __float_as_uint(float v) { return bits<unsigned>(v); }
inline float __int_as_float(int v) { return bits<float>(v); }
inline float __uint_as_float(unsigned v) { return bits<float>(v); }
inline long long __double_as_longlong(double v) { return bits<long long>(v); }
inline double __longlong_as_double(long long v) { return bits<double>(v); }
inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __popcll(unsigned long long v) { return __builtin_popcountll(v); }
inline int __clz(int v) { return v ? __builtin_clz(v) : 32; }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline float rsqrtf(float v) { return 1 / sqrtf(v); }
inline double rsqrt(double v) { return 1 / sqrt(v); }
inline float __saturatef(float v) { return v > 0 ? fminf(v, 1) : 0; }
inline float __expf(float v) { return expf(v); }
inline float __exp10f(float v) { return exp10f(v); }
inline float __logf(float v) { return logf(v); }
inline float __log2f(float v) { return log2f(v); }
inline float __sinf(float v) { return sinf(v); }
inline float __cosf(float v) { return cosf(v); }
inline float __powf(float a, float b) { return powf(a, b); }
inline float __fdividef(float a, float b) { return a / b; }
#define ROUNDED(T, f)                                        \
  inline T __##f##mul_rn(T a, T b) { return a * b; }         \
  inline T __##f##add_rn(T a, T b) { return a + b; }         \
  inline T __##f##sub_rn(T a, T b) { return a - b; }         \
  inline T __##f##div_rn(T a, T b) { return a / b; }         \
  inline T __##f##rcp_rn(T v) { return 1 / v; }
ROUNDED(float, f)
ROUNDED(double, d)
inline float __fsqrt_rn(float v) { return sqrtf(v); }
inline double __dsqrt_rn(double v) { return sqrt(v); }
inline float __frsqrt_rn(float v) { return static_cast<float>(1 / sqrt(static_cast<double>(v))); }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
inline float __double2float_rn(double v) { return static_cast<float>(v); }
inline int __float2int_rn(float v) { return static_cast<int>(nearbyintf(v)); }
inline int __float2int_rz(float v) { return static_cast<int>(v); }
inline float __int2float_rn(int v) { return static_cast<float>(v); }
inline void __threadfence() {}
inline void __threadfence_block() {}
template <class T> inline T __ldg(const T* at) { return *at; }
template <class T> inline T __ldcs(const T* at) { return *at; }
template <class T> inline T __ldcg(const T* at) { return *at; }
template <class T> inline void __stcs(T* at, T value) { *at = value; }
template <class T> inline void __stcg(T* at, T value) { *at = value; }
template <class T> inline T atomicAdd(T* at, T value) {
  T before = *at;
  *at += value;
  return before;
}
template <class T> inline T atomicMax(T* at, T value) {
  T before = *at;
  *at = value > before ? value : before;
  return before;
}
template <class A, class B> inline auto max(A a, B b) { return b > a ? b : a; }
template <class A, class B> inline auto min(A a, B b) { return b < a ? b : a; }

// 16-bit floats: the bits in, the bits out.
struct __half {
  _Float16 v;
};
inline __half __float2half_rn(float v) { return {static_cast<_Float16>(v)}; }
inline __half __float2half(float v) { return __float2half_rn(v); }
inline float __half2float(__half v) { return static_cast<float>(v.v); }
inline unsigned short __half_as_ushort(__half v) { return bits<unsigned short>(v); }
inline __half __ushort_as_half(unsigned short v) { return bits<__half>(v); }
