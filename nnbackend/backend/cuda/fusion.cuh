// What the kernels are made of that backend/fusion writes: elements side by side, functions that CUDA does not have, and
// ends of reductions. Sums and products are rounded one by one (`__fadd_rn`), so that the compiler never makes one
// operation of two: the bits are those of CuPy's kernels, each of which does a single one.
#pragma once
#include "narrow.cuh"
#include "philox.cuh"

// -- N elements that a thread moves together, up to 16 bytes at a time ------------------------------------------------
template <int N, class T> struct alignas(N * sizeof(T) < 16 ? N * sizeof(T) : 16) Pack {
  T x[N];
  __device__ T& operator[](int j) { return x[j]; }
};

// N elements at `p`, of which only the first `left` are there; the others are 0.
template <int N, class T> __device__ inline Pack<N, T> load(const T* p, i64 left) {
  if (left >= N) return *(const Pack<N, T>*)p;
  Pack<N, T> v = {};
#pragma unroll
  for (int j = 0; j < N; ++j)
    if (j < left) v[j] = p[j];
  return v;
}

// The same, with other elements between them.
template <int N, class T> __device__ inline Pack<N, T> load(const T* p, i64 left, i64 stride) {
  Pack<N, T> v = {};
#pragma unroll
  for (int j = 0; j < N; ++j)
    if (j < left) v[j] = p[j * stride];
  return v;
}

template <int N, class T> __device__ inline void store_apart(T* p, Pack<N, T> v, i64 left) {
#pragma unroll
  for (int j = 0; j < N; ++j)
    if (j < left) p[j] = v[j];
}
template <int N, class T> __device__ inline void store(T* p, Pack<N, T> v, i64 left) {
  if (left >= N)
    *(Pack<N, T>*)p = v;
  else
    store_apart(p, v, left);
}

// The N random numbers from number `i` of an address on; `i` is a multiple of N.
__device__ inline void random(double& v, const Block& b, int j) { v = uniform64(b.word[j]); }
__device__ inline void random(float& v, const Block& b, int j) { v = uniform32(half_word(b, j)); }
__device__ inline void random(half& v, const Block& b, int j) { v.bits = uniform16(half_word(b, j)); }
template <int N, class T> __device__ inline Pack<N, T> uniform(const Address& at, u64 i) {
  const int each = sizeof(T) == 8 ? 4 : 8, some = N < each ? N : each;  // numbers that a block makes, and is asked for
  Pack<N, T> v;
#pragma unroll
  for (int first = 0; first < N; first += some) {
    Block b = philox(at, (i + first) / each);
#pragma unroll
    for (int j = 0; j < some; ++j) random(v[first + j], b, (i + first) % each + j);
  }
  return v;
}

// -- arithmetic -------------------------------------------------------------------------------------------------------
// Half-precision numbers are floats in registers, rounded after each operation.
__device__ inline float round16(float v) { return half(v); }
__device__ inline float round16(double v) {
#ifdef __CUDA_ARCH__
  half h;
  asm("cvt.rn.f16.f64 %0, %1;" : "=h"(h.bits) : "d"(v));
  return h;
#else
  return (float)(_Float16)v;
#endif
}

__device__ inline float add(float a, float b) { return __fadd_rn(a, b); }
__device__ inline double add(double a, double b) { return __dadd_rn(a, b); }
__device__ inline float subtract(float a, float b) { return __fsub_rn(a, b); }
__device__ inline double subtract(double a, double b) { return __dsub_rn(a, b); }
__device__ inline float multiply(float a, float b) { return __fmul_rn(a, b); }
__device__ inline double multiply(double a, double b) { return __dmul_rn(a, b); }
template <class T> __device__ inline T add(T a, T b) { return a + b; }
template <class T> __device__ inline T multiply(T a, T b) { return a * b; }

// NaN if either is.
template <class T> __device__ inline T maximum(T a, T b) { return a > b ? a : b; }
template <class T> __device__ inline T minimum(T a, T b) { return a < b ? a : b; }
__device__ inline float nan_or(float a, float b, float v) { return a != a || b != b ? __int_as_float(0x7fffffff) : v; }
__device__ inline double nan_or(double a, double b, double v) {
  return a != a || b != b ? (double)__int_as_float(0x7fffffff) : v;
}
template <> __device__ inline float maximum(float a, float b) { return nan_or(a, b, fmaxf(a, b)); }
template <> __device__ inline float minimum(float a, float b) { return nan_or(a, b, fminf(a, b)); }
template <> __device__ inline double maximum(double a, double b) { return nan_or(a, b, fmax(a, b)); }
template <> __device__ inline double minimum(double a, double b) { return nan_or(a, b, fmin(a, b)); }

template <class T> __device__ inline T sign(T v) { return (v > 0) - (v < 0); }
template <> __device__ inline float sign(float v) { return v < 0 || v > 0 ? copysign(1.0f, v) : v - v; }
template <> __device__ inline double sign(double v) { return v < 0 || v > 0 ? copysign(1.0, v) : v - v; }

template <class T> __device__ inline T floor_divide(T a, T b) {
  if (b == 0) return 0;
  T q = a / b;
  return q - ((a < 0) != (b < 0) && q * b != a);
}
template <> __device__ inline float floor_divide(float a, float b) { return floor(a / b); }
template <> __device__ inline double floor_divide(double a, double b) { return floor(a / b); }
template <class T> __device__ inline T remainder_of(T a, T b) { return b == 0 ? 0 : a - floor_divide(a, b) * b; }
template <> __device__ inline float remainder_of(float a, float b) { return fmaf(-floor(a / b), b, a); }
template <> __device__ inline double remainder_of(double a, double b) { return fma(-floor(a / b), b, a); }

template <class T> __device__ inline T power(T a, T b) {
  if (b < 0) return a == 1 ? 1 : a == (T)-1 ? (b & 1 ? -1 : 1) : 0;
  T y = 1;
  for (; b > 0; b >>= 1, a *= a)
    if (b & 1) y *= a;
  return y;
}

const double LOG2 = 0x1.62e42fefa39efp-1;
template <class T> __device__ inline T logaddexp(T a, T b) {
  return a == b ? (T)__dadd_rn(a, LOG2) : add(fmax(a, b), log1p(exp(-fabs(subtract(a, b)))));
}

// -- reductions -------------------------------------------------------------------------------------------------------
template <class T> __device__ inline T lowest() { return (T)-1 < (T)0 ? (T)(1ull << (8 * sizeof(T) - 1)) : (T)0; }
template <class T> __device__ inline T highest() { return (T)~lowest<T>(); }
template <> __device__ inline bool highest() { return true; }
template <> __device__ inline float lowest() { return __int_as_float(0xff800000); }
template <> __device__ inline float highest() { return __int_as_float(0x7f800000); }
template <> __device__ inline double lowest() { return __longlong_as_double(0xfff0000000000000ll); }
template <> __device__ inline double highest() { return __longlong_as_double(0x7ff0000000000000ll); }

struct Sum {
  template <class T> static __device__ T none() { return 0; }
  template <class T> static __device__ T of(T a, T b) { return add(a, b); }
};
struct Prod {
  template <class T> static __device__ T none() { return 1; }
  template <class T> static __device__ T of(T a, T b) { return multiply(a, b); }
};
struct Max {
  template <class T> static __device__ T none() { return lowest<T>(); }
  template <class T> static __device__ T of(T a, T b) { return maximum(a, b); }
};
struct Min {
  template <class T> static __device__ T none() { return highest<T>(); }
  template <class T> static __device__ T of(T a, T b) { return minimum(a, b); }
};

template <class How, int N, class T> __device__ inline Pack<N, T> none() {
  Pack<N, T> v;
#pragma unroll
  for (int j = 0; j < N; ++j) v[j] = How::template none<T>();
  return v;
}

template <class How, int N, class T> __device__ inline Pack<1, T> folded(Pack<N, T> v) {
#pragma unroll
  for (int apart = N / 2; apart; apart /= 2)
#pragma unroll
    for (int j = 0; j < apart; ++j) v[j] = How::of(v[j], v[j + apart]);
  return {v[0]};
}

// Lane 0 of each slot gets the reduction over its lanes, whose number is a power of two. All threads of a block call.
template <class How, int N, class T>
__device__ inline Pack<N, T> across(Pack<N, T> v, Pack<N, T>* shared, int lane, int lanes, int slot, int slots) {
  for (int apart = lanes / 2; apart; apart /= 2) {
    __syncthreads();  // what was there has been read
    shared[lane * slots + slot] = v;
    __syncthreads();
    if (lane < apart) {
      Pack<N, T> other = shared[(lane + apart) * slots + slot];
#pragma unroll
      for (int j = 0; j < N; ++j) v[j] = How::of(v[j], other[j]);
    }
  }
  return v;
}
