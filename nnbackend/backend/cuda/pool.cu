// Pooling along one axis, as in backend/pool.py: arrays are (outer, n, inner), their windows (outer, places, inner).
// A thread makes one element of the result, out of what it needs in the order of the window: no atomics.
#include "windows.cuh"
#include "reduce.cuh"

struct Line {
  i64 outer, inner;
  int at;
  __device__ Line(i64 i, i64 length, i64 across) {
    i64 rest = divided(i, across);
    inner = i - rest * across;
    outer = divided(rest, length);
    at = (int)(rest - outer * length);
  }
};

template <class T> __device__ inline void largest(T* y, const T* x, i64 n, i64 inner, const Axis& a) {
  i64 i = THREAD;
  if (i >= n) return;
  Line line(i, a.places, inner);
  x += line.outer * a.size * inner + line.inner;
  typename Wide<T>::type best = lowest<typename Wide<T>::type>(), value;
  for (int k = 0; k < a.kernel; ++k) {
    int at = a.element(line.at, k);
    if (at >= 0) value = x[at * inner], best = value > best || value != value ? value : best;
  }
  y[i] = best;
}

// Whether x[at], element k of the window at `first`, is the one that the gradient of its largest element y goes to: the
// first of equal ones. Where none is equal, for there is a NaN, that is element `last`.
template <class T>
__device__ inline bool chosen(const T* x, T y, int at, int k, int last, i64 inner, const Axis& a) {
  typename Wide<T>::type top = y, value = x[at * inner];
  if (value != top && k != last) return false;
  for (int before = at - k * a.dilation; before < at; before += a.dilation)
    if (before >= 0 && (value = x[before * inner], value == top)) return false;
  return true;
}

template <class T>
__device__ inline void largest_back(T* dx, const T* dy, const T* x, const T* y, i64 n, i64 inner, int last,
                                    const Axis& a) {
  i64 i = THREAD;
  if (i >= n) return;
  Line line(i, a.size, inner);
  x += line.outer * a.size * inner + line.inner;
  i64 windows = line.outer * a.places * inner + line.inner;
  typename Wide<T>::type sum = 0;
  for (int k = 0; k < a.kernel; ++k) {
    int place = a.place(line.at, k);
    if (place >= 0 && chosen(x, y[windows + place * inner], line.at, k, last, inner, a))
      sum += dy[windows + place * inner];
  }
  dx[i] = sum;
}

template <class T> __device__ inline void sums(T* y, const T* x, i64 n, i64 inner, const Axis& a) {
  i64 i = THREAD;
  if (i >= n) return;
  Line line(i, a.places, inner);
  x += line.outer * a.size * inner + line.inner;
  typename Wide<T>::type sum = 0;
  for (int k = 0; k < a.kernel; ++k) {
    int at = a.element(line.at, k);
    if (at >= 0) sum += x[at * inner];
  }
  y[i] = sum;
}

template <class T> __device__ inline void sums_back(T* dx, const T* dy, i64 n, i64 inner, const Axis& a) {
  i64 i = THREAD;
  if (i >= n) return;
  Line line(i, a.size, inner);
  dy += line.outer * a.places * inner + line.inner;
  typename Wide<T>::type sum = 0;
  for (int k = 0; k < a.kernel; ++k) {
    int place = a.place(line.at, k);
    if (place >= 0) sum += dy[place * inner];
  }
  dx[i] = sum;
}

#define ALONG Axis SET(0)
#define KERNELS(T, name)                                                                                            \
  extern "C" __global__ void largest_##name(T* y, const T* x, i64 n, i64 inner, AXIS(0)) {                          \
    largest(y, x, n, inner, ALONG);                                                                                 \
  }                                                                                                                 \
  extern "C" __global__ void largest_back_##name(T* dx, const T* dy, const T* x, const T* y, i64 n, i64 inner,      \
                                                 int last, AXIS(0)) {                                               \
    largest_back(dx, dy, x, y, n, inner, last, ALONG);                                                              \
  }                                                                                                                 \
  extern "C" __global__ void sums_##name(T* y, const T* x, i64 n, i64 inner, AXIS(0)) {                             \
    sums(y, x, n, inner, ALONG);                                                                                    \
  }                                                                                                                 \
  extern "C" __global__ void sums_back_##name(T* dx, const T* dy, i64 n, i64 inner, AXIS(0)) {                      \
    sums_back(dx, dy, n, inner, ALONG);                                                                             \
  }

FLOATS(KERNELS)
