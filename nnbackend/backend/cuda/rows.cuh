// Rows: each is the work of a team, which is a thread, a warp or a block. Numbers come in packs of 16 bytes; which ones
// a thread adds up, and in which order, depends on nothing but the length of the rows and the size of the team.
#pragma once
#include "narrow.cuh"
#include "reduce.cuh"
typedef long long i64;

// What sums are made in.
template <class T> struct Sums {
  typedef T type;
};
template <> struct Sums<half> {
  typedef float type;
};
template <class T> using sums = typename Sums<T>::type;

template <class T> struct alignas(16) Pack {
  static constexpr int size = 16 / sizeof(T);
  T x[size];
};

// The numbers at p, p + stride, ..., of which `left` are there; in one read if `whole`: then all are, side by side.
template <class T> __device__ inline Pack<T> load(const T* p, i64 stride, i64 left, bool whole) {
  Pack<T> pack;
  if (whole) return *(const Pack<T>*)p;
#pragma unroll
  for (int k = 0; k < Pack<T>::size; ++k) pack.x[k] = k < left ? p[k * stride] : T(0);
  return pack;
}

template <class T> __device__ inline void store(T* p, const Pack<T>& pack, i64 stride, i64 left, bool whole) {
  if (whole) {
    *(Pack<T>*)p = pack;
    return;
  }
#pragma unroll
  for (int k = 0; k < Pack<T>::size; ++k)
    if (k < left) p[k * stride] = pack.x[k];
}

struct Team {
  int lanes, lane;  // how many threads, and which one this is
  i64 index;        // which team
  __device__ Team(int lanes)
      : lanes(lanes), lane(threadIdx.x % lanes), index((blockIdx.x * (i64)blockDim.x + threadIdx.x) / lanes) {}

  template <class How, class T> __device__ T over(T v) const {
    return lanes == 1 ? v : lanes == 32 ? over_warp<How>(v) : over_block<How>(v);
  }
};

// A row of n numbers, `stride` apart.
template <class T> struct Row {
  const Team& team;
  i64 n, stride;
  bool whole;

  // f(place, how many are left) for each pack of this thread's.
  template <class F> __device__ void packs(F f) const {
    for (i64 j = team.lane * (i64)Pack<T>::size; j < n; j += team.lanes * (i64)Pack<T>::size) f(j, n - j);
  }
  __device__ Pack<T> get(const T* p, i64 j) const { return load(p + j * stride, stride, n - j, whole); }
  __device__ void put(T* p, i64 j, const Pack<T>& pack) const { store(p + j * stride, pack, stride, n - j, whole); }

  // The sum of f(number) for all of them.
  template <class F> __device__ sums<T> sum(const T* p, F f) const {
    sums<T> total = 0;
    packs([&](i64 j, i64 left) {
      Pack<T> x = get(p, j);
#pragma unroll
      for (int k = 0; k < Pack<T>::size; ++k)
        if (k < left) total += f((sums<T>)x.x[k]);
    });
    return team.over<Sum>(total);
  }
};
