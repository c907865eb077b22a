// Arrays side by side: up to eight of them, whose rows become parts of the rows of the result.
#include "windows.cuh"

template <class T> struct Part {
  const T* x;
  i64 width;  // of its rows
};

// A thread copies one of n numbers into out (rows, pitch), from column `first` on. `width` is that of all parts.
template <class T>
__device__ inline void join(T* out, i64 n, i64 width, i64 pitch, i64 first, const Part<T> (&parts)[8]) {
  i64 i = THREAD;
  if (i >= n) return;
  i64 row = divided(i, width), column = i - row * width, to = row * pitch + first + column;
#pragma unroll
  for (int p = 0; p < 8; ++p) {
    if (0 <= column && column < parts[p].width) out[to] = parts[p].x[row * parts[p].width + column];
    column -= parts[p].width;
  }
}

#define PART(T, i) const T *x##i, i64 width##i
#define JOIN(T, name)                                                                                                \
  extern "C" __global__ void name(T* out, i64 n, i64 width, i64 pitch, i64 first, PART(T, 0), PART(T, 1), PART(T, 2), \
                                  PART(T, 3), PART(T, 4), PART(T, 5), PART(T, 6), PART(T, 7)) {                      \
    const Part<T> parts[8] = {{x0, width0}, {x1, width1}, {x2, width2}, {x3, width3},                                \
                              {x4, width4}, {x5, width5}, {x6, width6}, {x7, width7}};                               \
    join(out, n, width, pitch, first, parts);                                                                        \
  }

JOIN(unsigned char, join_1)
JOIN(unsigned short, join_2)
JOIN(unsigned, join_4)
JOIN(unsigned long long, join_8)
