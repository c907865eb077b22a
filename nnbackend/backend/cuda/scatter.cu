// Sums of rows that share an index, in an order that depends on the index alone: no atomics.
#include "keys.cuh"
#include "narrow.cuh"

// out (rows, width): each row is the sum of the rows of dy (n, width) whose sorted keys (n) begin with it. Lanes
// add every `lanes`-th of them, and these sums are added in pairs. A block has columns * lanes threads for each row it
// does. These are all rows one after the other, or else (by_row = 0, for tables of many rows) those of the keys that
// are the first of their row; then the other rows of `out` must be 0.
template <class T, class Total>
__device__ inline void add_rows(T* out, const T* dy, const u64* keys, i64 n, i64 rows, i64 width, int columns,
                                int lanes, int by_row) {
  __shared__ Total sums[256];
  int t = threadIdx.x, team = columns * lanes, lane = t % team / columns;
  i64 parts = (width + columns - 1) / columns;
  i64 which = blockIdx.x * (i64)(blockDim.x / team) + t / team, row = which / parts, begin = row;
  i64 column = which % parts * columns + t % columns;
  bool mine = column < width && row < (by_row ? rows : n);
  if (mine && by_row) {
    begin = below(keys, 0, n, key_of(row, 0));
  } else if (mine) {
    row = row_of(keys[begin]);
    mine = row < rows && (begin == 0 || row_of(keys[begin - 1]) != row);
  }
  Total sum = 0;
  if (mine) {
    i64 end = below(keys, begin, n, key_of(row + 1, 0));
#pragma unroll 4
    for (i64 i = begin + lane; i < end; i += lanes) sum += (Total)dy[place_of(keys[i]) * width + column];
  }
  sums[t] = sum;
  for (int half = lanes / 2; half; half /= 2) {
    __syncthreads();
    if (lane < half) sums[t] += sums[t + half * columns];
  }
  if (mine && lane == 0) out[row * width + column] = sums[t];
}

#define ADD_ROWS(T, Total, dtype)                                                                                     \
  extern "C" __global__ void add_rows_##dtype(T* out, const T* dy, const u64* keys, i64 n, i64 rows, i64 width,       \
                                              int columns, int lanes, int by_row) {                                   \
    add_rows<T, Total>(out, dy, keys, n, rows, width, columns, lanes, by_row);                                        \
  }

ADD_ROWS(float, float, float32)
ADD_ROWS(double, double, float64)
ADD_ROWS(half, float, float16)
ADD_ROWS(i64, i64, int64)
