// Windows that slide along up to three axes, as backend/conv.py counts them; axes that are not there have one element.
#pragma once
#include "narrow.cuh"

typedef long long i64;

template <class T> struct Wide { typedef float type; };  // what sums are added up in
template <> struct Wide<double> { typedef double type; };

struct Axis {
  int size, kernel, places, stride, before, dilation;

  // Where element `k` of the window at `place` falls, or -1 if that is outside.
  __device__ int element(int place, int k) const {
    int at = place * stride - before + k * dilation;
    return at < size ? at : -1;
  }
  // The place of the window whose element `k` falls at `at`, or -1.
  __device__ int place(int at, int k) const {
    int first = at + before - k * dilation;
    if (first < 0) return -1;
    int place = stride == 1 ? first : first / stride;
    return place * stride == first && place < places ? place : -1;
  }
};

// What is divided has mostly 32 bits, and is then divided ten times as fast.
__device__ inline i64 divided(i64 a, i64 b) { return (a | b) >> 32 ? a / b : (i64)((unsigned)a / (unsigned)b); }

// An index of an array (outer, a, b, c), taken apart.
struct At {
  i64 outer;
  int a, b, c;
  __device__ At(i64 i, int sizes_a, int sizes_b, int sizes_c) {
    i64 rest = divided(i, sizes_c);
    c = (int)(i - rest * sizes_c);
    i = divided(rest, sizes_b);
    b = (int)(rest - i * sizes_b);
    outer = divided(i, sizes_a);
    a = (int)(i - outer * sizes_a);
  }
};

struct Windows {
  Axis a, b, c;

  __device__ int kernel() const { return a.kernel * b.kernel * c.kernel; }
  __device__ i64 size() const { return (i64)a.size * b.size * c.size; }
  __device__ i64 places() const { return (i64)a.places * b.places * c.places; }
  __device__ At element(i64 i) const { return At(i, a.size, b.size, c.size); }
  __device__ At place(i64 i) const { return At(i, a.places, b.places, c.places); }
  __device__ i64 inside(int i, int j, int k) const {
    return i < 0 || j < 0 || k < 0 ? -1 : ((i64)i * b.size + j) * c.size + k;
  }

  // f(k, element) for each element k of the window at a place; the element is -1 where that is outside.
  template <class F> __device__ void elements(const At& at, F f) const {
    int n = 0;
    for (int i = 0; i < a.kernel; ++i)
      for (int j = 0; j < b.kernel; ++j)
        for (int k = 0; k < c.kernel; ++k)
          f(n++, inside(a.element(at.a, i), b.element(at.b, j), c.element(at.c, k)));
  }

  // f(k, place) for each window that has an element, as its element k.
  template <class F> __device__ void around(const At& at, F f) const {
    for (int i = 0; i < a.kernel; ++i) {
      int pa = a.place(at.a, i);
      if (pa < 0) continue;
      for (int j = 0; j < b.kernel; ++j) {
        int pb = b.place(at.b, j);
        if (pb < 0) continue;
        for (int k = 0; k < c.kernel; ++k) {
          int pc = c.place(at.c, k);
          if (pc >= 0) f((i * b.kernel + j) * c.kernel + k, ((i64)pa * b.places + pb) * c.places + pc);
        }
      }
    }
  }
};

#define AXIS(i) int size##i, int kernel##i, int places##i, int stride##i, int before##i, int dilation##i
#define AXES AXIS(0), AXIS(1), AXIS(2)
#define SET(i) {size##i, kernel##i, places##i, stride##i, before##i, dilation##i}
#define WINDOWS Windows{SET(0), SET(1), SET(2)}

#define FLOATS(KERNEL) KERNEL(float, float32) KERNEL(double, float64) KERNEL(half, float16)
#define THREAD (blockIdx.x * (i64)blockDim.x + threadIdx.x)
