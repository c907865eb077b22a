// Softmax and what is made of it, for x (outer, n, inner) along n; n is a row. Rows side by side have a thread each, so
// that what is read at a time lies together; single ones a warp or a block.
#include "rows.cuh"

template <class T> struct Softmax {
  typedef sums<T> S;
  Team team;
  i64 rows, start;
  Row<T> row;
  S top, total;  // the largest number, and the sum of exp(number - top)

  __device__ Softmax(i64 rows, i64 n, i64 inner, i64 lanes, i64 whole)
      : team((int)lanes), rows(rows), start(team.index / inner * n * inner + team.index % inner),
        row{team, n, inner, whole != 0} {}

  // In one reading: a larger number than all before scales down what has been summed. NaN makes the sum NaN.
  __device__ void look(const T* x) {
    top = -largest();
    total = 0;
    row.packs([&](i64 j, i64 left) {
      Pack<T> v = row.get(x + start, j);
      S larger = top;
#pragma unroll
      for (int k = 0; k < Pack<T>::size; ++k)
        if (k < left && (S)v.x[k] > larger) larger = v.x[k];
      total *= exp(top - larger);
#pragma unroll
      for (int k = 0; k < Pack<T>::size; ++k)
        if (k < left) total += exp((S)v.x[k] - larger);
      top = larger;
    });
    S all = team.over<Max>(top);
    total = team.over<Sum>(total * exp(top - all));
    top = all;
  }

  __device__ void keep(S* statistics) const {
    if (team.lane) return;
    statistics[team.index] = top;
    statistics[rows + team.index] = total;
  }
  __device__ void recall(const S* statistics) {
    top = statistics[team.index];
    total = statistics[rows + team.index];
  }

  // y = f(place, x, also) for each number of the row.
  template <class F> __device__ void map(T* y, const T* x, const T* also, F f) const {
    row.packs([&](i64 j, i64) {
      Pack<T> a = row.get(x + start, j), b = also == x ? a : row.get(also + start, j);
#pragma unroll
      for (int k = 0; k < Pack<T>::size; ++k) a.x[k] = (T)f(j + k, (S)a.x[k], (S)b.x[k]);
      row.put(y + start, j, a);
    });
  }

  static __device__ S largest() { return sizeof(S) == 4 ? (S)3.402823466e38f : (S)1.7976931348623157e308; }
};

#define ROWS i64 rows, i64 n, i64 inner, i64 lanes, i64 whole
#define BEGIN                                       \
  Softmax<T> soft(rows, n, inner, lanes, whole);    \
  typedef sums<T> S;                                \
  if (soft.team.index >= rows) return;

// -1 is the last class, and so on; -1 stands for labels of no class.
__device__ inline i64 class_of(i64 label, i64 n) {
  label += label < 0 ? n : 0;
  return label < n && label >= 0 ? label : -1;
}

// Minus the logarithm of the label's share; NaN for labels of no class.
template <class T>
__device__ inline void softmax_loss(T* loss, sums<T>* statistics, const T* z, const i64* labels, ROWS) {
  BEGIN
  soft.look(z);
  soft.keep(statistics);
  if (soft.team.lane) return;
  i64 label = class_of(labels[soft.team.index], n);
  S own = label < 0 ? infinity<S>() - infinity<S>() : (S)z[soft.start + label * inner];
  loss[soft.team.index] = (T)(log(soft.total) - (own - soft.top));
}

// `step` is 0 where all rows have one dloss.
template <class T>
__device__ inline void softmax_loss_back(T* dz, const T* dloss, i64 step, double scale, const sums<T>* statistics,
                                         const T* z, const i64* labels, ROWS) {
  BEGIN
  soft.recall(statistics);
  i64 label = class_of(labels[soft.team.index], n);
  S by = (S)dloss[soft.team.index * step] * (S)scale, part = 1 / soft.total;
  if (label < 0) by = infinity<S>() - infinity<S>();
  soft.map(dz, z, z, [&](i64 j, S v, S) { return (exp(v - soft.top) * part - (j == label)) * by; });
}

template <class T> __device__ inline void softmax(T* y, const T* x, ROWS) {
  BEGIN
  soft.look(x);
  S part = 1 / soft.total;
  soft.map(y, x, x, [&](i64, S v, S) { return exp(v - soft.top) * part; });
}

template <class T> __device__ inline void softmax_back(T* dx, const T* dy, const T* y, ROWS) {
  BEGIN
  S dot = 0;
  soft.row.packs([&](i64 j, i64 left) {
    Pack<T> a = soft.row.get(dy + soft.start, j), b = soft.row.get(y + soft.start, j);
#pragma unroll
    for (int k = 0; k < Pack<T>::size; ++k)
      if (k < left) dot += (S)a.x[k] * (S)b.x[k];
  });
  dot = soft.team.template over<Sum>(dot);
  soft.map(dx, dy, y, [&](i64, S d, S v) { return (d - dot) * v; });
}

template <class T> __device__ inline void log_softmax(T* y, sums<T>* statistics, const T* x, ROWS) {
  BEGIN
  soft.look(x);
  soft.keep(statistics);
  S logarithm = log(soft.total);
  soft.map(y, x, x, [&](i64, S v, S) { return v - soft.top - logarithm; });
}

template <class T>
__device__ inline void log_softmax_back(T* dx, const T* dy, const sums<T>* statistics, const T* x, ROWS) {
  BEGIN
  soft.recall(statistics);
  S part = soft.row.sum(dy + soft.start, [](S d) { return d; }) / soft.total;
  soft.map(dx, dy, x, [&](i64, S d, S v) { return d - exp(v - soft.top) * part; });
}

#define GIVEN rows, n, inner, lanes, whole
#define KERNELS(T, S, name)                                                                                         \
  extern "C" __global__ void softmax_loss_##name(T* loss, S* statistics, const T* z, const i64* labels, ROWS) {     \
    softmax_loss(loss, statistics, z, labels, GIVEN);                                                               \
  }                                                                                                                 \
  extern "C" __global__ void softmax_loss_back_##name(T* dz, const T* dloss, i64 step, double scale,                \
                                                      const S* statistics, const T* z, const i64* labels, ROWS) {   \
    softmax_loss_back(dz, dloss, step, scale, statistics, z, labels, GIVEN);                                        \
  }                                                                                                                 \
  extern "C" __global__ void softmax_##name(T* y, const T* x, ROWS) { softmax(y, x, GIVEN); }                       \
  extern "C" __global__ void softmax_back_##name(T* dx, const T* dy, const T* y, ROWS) {                            \
    softmax_back(dx, dy, y, GIVEN);                                                                                 \
  }                                                                                                                 \
  extern "C" __global__ void log_softmax_##name(T* y, S* statistics, const T* x, ROWS) {                            \
    log_softmax(y, statistics, x, GIVEN);                                                                           \
  }                                                                                                                 \
  extern "C" __global__ void log_softmax_back_##name(T* dx, const T* dy, const S* statistics, const T* x, ROWS) {   \
    log_softmax_back(dx, dy, statistics, x, GIVEN);                                                                 \
  }

KERNELS(float, float, float32)
KERNELS(double, double, float64)
KERNELS(half, float, float16)
