// Sums of rows that share an index. One thread makes one number and adds in the order of the rows: no atomics, so that
// the same sums come out every time.

// out (rows, width): row r sums the rows order[starts[r]] ... order[starts[r + 1] - 1] of dy (n, width).
template <class T>
__device__ inline void add_rows(T* out, const T* dy, const long long* order, const long long* starts, long long n,
                                long long width) {
  long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
  if (i >= n) return;
  long long row = i / width, column = i % width;
  T sum = 0;
  for (long long j = starts[row]; j < starts[row + 1]; ++j) sum += dy[order[j] * width + column];
  out[i] = sum;
}

#define ADD_ROWS(T, name)                                                                                      \
  extern "C" __global__ void name(T* out, const T* dy, const long long* order, const long long* starts,        \
                                  long long n, long long width) {                                              \
    add_rows(out, dy, order, starts, n, width);                                                                \
  }

ADD_ROWS(float, add_rows_float32)
ADD_ROWS(double, add_rows_float64)
ADD_ROWS(long long, add_rows_int64)
