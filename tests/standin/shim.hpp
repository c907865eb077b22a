// CUDA on the CPU for tests: the threads of a kernel run one after another, so nothing here may wait for another thread.
#pragma once
#include <math.h>
#include <string.h>

#include <algorithm>
#include <cstddef>
#include <tuple>
#include <utility>
#undef INFINITY  // NVRTC has neither
#undef NAN
#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __noinline__
#define __launch_bounds__(...)

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};
struct uint3 {
  unsigned x, y, z;
};
template <class T> struct vector2 { T x, y; };
template <class T> struct vector4 { T x, y, z, w; };
using float2 = vector2<float>;
using float4 = vector4<float>;
using double2 = vector2<double>;
using int2 = vector2<int>;
using int4 = vector4<int>;
using uint2 = vector2<unsigned>;
using uint4 = vector4<unsigned>;
using longlong2 = vector2<long long>;
using ulonglong2 = vector2<unsigned long long>;
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline double2 make_double2(double x, double y) { return {x, y}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline ulonglong2 make_ulonglong2(unsigned long long x, unsigned long long y) { return {x, y}; }

static uint3 threadIdx, blockIdx;
static dim3 blockDim, gridDim;

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
inline float rsqrtf(float v) { return 1 / sqrtf(v); }
inline double rsqrt(double v) { return 1 / sqrt(v); }
inline float __expf(float v) { return expf(v); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __dadd_rn(double a, double b) { return a + b; }
template <class T> inline T __ldg(const T* at) { return *at; }
template <class T> inline T atomicAdd(T* at, T value) {
  T before = *at;
  *at += value;
  return before;
}
template <class T> inline T atomicMax(T* at, T value) {
  T before = *at;
  *at = std::max(before, value);
  return before;
}
using std::max;
using std::min;

// 16-bit floats: the bits in, the bits out.
struct __half {
  _Float16 v;
};
inline __half __float2half_rn(float v) { return {static_cast<_Float16>(v)}; }
inline __half __float2half(float v) { return __float2half_rn(v); }
inline float __half2float(__half v) { return static_cast<float>(v.v); }

namespace standin {
template <class... A, std::size_t... I>
void launch(void (*kernel)(A...), const unsigned* dims, void** arguments, std::index_sequence<I...>) {
  gridDim = {dims[0], dims[1], dims[2]};
  blockDim = {dims[3], dims[4], dims[5]};
  for (blockIdx.z = 0; blockIdx.z < gridDim.z; ++blockIdx.z)
    for (blockIdx.y = 0; blockIdx.y < gridDim.y; ++blockIdx.y)
      for (blockIdx.x = 0; blockIdx.x < gridDim.x; ++blockIdx.x)
        for (threadIdx.z = 0; threadIdx.z < blockDim.z; ++threadIdx.z)
          for (threadIdx.y = 0; threadIdx.y < blockDim.y; ++threadIdx.y)
            for (threadIdx.x = 0; threadIdx.x < blockDim.x; ++threadIdx.x)
              kernel(*static_cast<std::remove_reference_t<A>*>(arguments[I])...);
}
template <class... A> void launch(void (*kernel)(A...), const unsigned* dims, void** arguments) {
  launch(kernel, dims, arguments, std::index_sequence_for<A...>{});
}
template <class... A> int sizes(void (*)(A...), int* into) {
  int all[] = {static_cast<int>(sizeof(A))..., 0};
  for (std::size_t i = 0; i < sizeof...(A); ++i) into[i] = all[i];
  return sizeof...(A);
}
}  // namespace standin
