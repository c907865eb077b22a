// Dropout of the rows that teams work on.
#pragma once
#include "rows.cuh"
#include "uniform.cuh"

template <class F> struct Kept {
  bool on;     // whether there is dropout
  F p, scale;  // p and 1 / (1 - p), rounded to the dtype
};

// Call f(c, m) for the columns c of a row of n numbers, which is the work of a team of whole warps: m is what dropout
// multiplies the number by. The first is number `first` at the address. A lane makes one block for each chunk of the
// warp; then each tells the others, so that neighbours are the work of neighbouring lanes.
template <class T, class F, class Do>
__device__ inline void each_kept(int n, const Team& team, const Kept<F>& dropout, const Address& at, i64 first, Do f) {
  const int N = Uniform<T>::count;
  int lane = team.lane % 32, before = dropout.on ? first % N : 0;  // numbers of the first block that are another row's
  for (int chunk = (team.lane - lane) * N - before; chunk < n; chunk += team.lanes * N) {
    int own = chunk + lane * N;
    unsigned bits = dropout.on && own < n ? kept<T>(philox(at, (first + own) / N), dropout.p) : 0;
#pragma unroll
    for (int j = 0; j < N; ++j) {
      int c = chunk + j * 32 + lane;
      F m = 1;
      if (dropout.on) m = __shfl_sync(~0u, bits, (j * 32 + lane) / N) >> lane % N & 1 ? dropout.scale : F(0);
      if (c >= 0 && c < n) f(c, m);
    }
  }
}
