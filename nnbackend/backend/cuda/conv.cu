// Convolutions: windows as columns of a matrix and back, and kernels of one channel each. Every sum has a fixed order.
#include "windows.cuh"
#include "reduce.cuh"

// x (n, channels, *size) -> columns (n / side, channels, kernel, side, places), where `side` samples stand side by side.
// A thread makes the elements of one window in one channel: n of them in all.
template <class T>
__device__ inline void unfold(T* columns, const T* x, i64 n, i64 channels, i64 side, const Windows& w) {
  i64 i = THREAD;
  if (i >= n) return;
  At at = w.place(i);
  i64 row = divided(at.outer, side), sample = at.outer - row * side, block = divided(row, channels);
  i64 places = w.places(), first = i - at.outer * places;  // of the window in its channel
  x += ((block * side + sample) * channels + row - block * channels) * w.size();
  columns += (row * w.kernel() * side + sample) * places + first;
  w.elements(at, [&](int k, i64 element) { columns[k * side * places] = element < 0 ? T(0) : x[element]; });
}

// The way back, as sums over the windows that have an element. A thread makes one of the n elements of x.
template <class T>
__device__ inline void fold(T* x, const T* columns, i64 n, i64 channels, i64 side, const Windows& w) {
  i64 i = THREAD;
  if (i >= n) return;
  At at = w.element(i);
  i64 of = divided(at.outer, channels), block = divided(of, side), places = w.places();
  i64 row = block * channels + at.outer - of * channels;
  columns += (row * w.kernel() * side + of - block * side) * places;
  typename Wide<T>::type sum = 0;
  w.around(at, [&](int k, i64 place) { sum += columns[k * side * places + place]; });
  x[i] = sum;
}

// x (samples, channels, *size), weight (channels, kernel) -> y (samples, channels, *places): n elements, one a thread.
template <class T>
__device__ inline void depthwise(T* y, const T* x, const T* weight, i64 n, i64 channels, const Windows& w) {
  i64 i = THREAD;
  if (i >= n) return;
  At at = w.place(i);
  weight += (at.outer - divided(at.outer, channels) * channels) * w.kernel();
  x += at.outer * w.size();
  typename Wide<T>::type sum = 0, factor;
  w.elements(at, [&](int k, i64 element) {
    if (element >= 0) factor = weight[k], sum += factor * x[element];
  });
  y[i] = sum;
}

template <class T>
__device__ inline void depthwise_back(T* x, const T* y, const T* weight, i64 n, i64 channels, const Windows& w) {
  i64 i = THREAD;
  if (i >= n) return;
  At at = w.element(i);
  weight += (at.outer - divided(at.outer, channels) * channels) * w.kernel();
  y += at.outer * w.places();
  typename Wide<T>::type sum = 0, factor;
  w.around(at, [&](int k, i64 place) { factor = weight[k], sum += factor * y[place]; });
  x[i] = sum;
}

// A block makes element `blockIdx.x` of the weights' gradient.
template <class T>
__device__ inline void depthwise_weight(T* weight, const T* y, const T* x, i64 samples, i64 channels,
                                        const Windows& w) {
  i64 channel = blockIdx.x / w.kernel(), places = w.places();
  At k(blockIdx.x % w.kernel(), w.a.kernel, w.b.kernel, w.c.kernel);
  typename Wide<T>::type sum = 0, factor;
  for (i64 i = threadIdx.x; i < samples * places; i += blockDim.x) {
    At at = w.place(i);
    i64 element = w.inside(w.a.element(at.a, k.a), w.b.element(at.b, k.b), w.c.element(at.c, k.c));
    i64 row = at.outer * channels + channel;
    if (element >= 0) factor = y[row * places + i - at.outer * places], sum += factor * x[row * w.size() + element];
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) weight[blockIdx.x] = sum;
}

#define KERNELS(T, name)                                                                                             \
  extern "C" __global__ void unfold_##name(T* columns, const T* x, i64 n, i64 channels, i64 side, AXES) {            \
    unfold(columns, x, n, channels, side, WINDOWS);                                                                  \
  }                                                                                                                  \
  extern "C" __global__ void fold_##name(T* x, const T* columns, i64 n, i64 channels, i64 side, AXES) {              \
    fold(x, columns, n, channels, side, WINDOWS);                                                                    \
  }                                                                                                                  \
  extern "C" __global__ void depthwise_##name(T* y, const T* x, const T* weight, i64 n, i64 channels, AXES) {        \
    depthwise(y, x, weight, n, channels, WINDOWS);                                                                   \
  }                                                                                                                  \
  extern "C" __global__ void depthwise_back_##name(T* x, const T* y, const T* weight, i64 n, i64 channels, AXES) {   \
    depthwise_back(x, y, weight, n, channels, WINDOWS);                                                              \
  }                                                                                                                  \
  extern "C" __global__ void depthwise_weight_##name(T* weight, const T* y, const T* x, i64 samples, i64 channels,   \
                                                     AXES) {                                                         \
    depthwise_weight(weight, y, x, samples, channels, WINDOWS);                                                      \
  }

FLOATS(KERNELS)
