// What dropout multiplies numbers by. One thread does one block of Philox.
#include "rows.cuh"
#include "uniform.cuh"

// out (n): 0, or `scale` where the number at the address is not below p.
template <class T> __device__ inline void keep(T* out, i64 n, double p, double scale, const Address& at) {
  i64 i = blockIdx.x * (i64)blockDim.x + threadIdx.x, first = i * Uniform<T>::count;
  if (first >= n) return;
  unsigned bits = kept<T>(philox(at, i), (sums<T>)p);
#pragma unroll
  for (int k = 0; k < Uniform<T>::count; k += Pack<T>::size) {
    Pack<T> pack;
#pragma unroll
    for (int j = 0; j < Pack<T>::size; ++j) pack.x[j] = T(bits >> (k + j) & 1 ? (sums<T>)scale : 0);
    i64 left = n - first - k;
    store(out + first + k, pack, 1, left, left >= Pack<T>::size);
  }
}

#define KEEP(T, dtype)                                                                                              \
  extern "C" __global__ void keep_##dtype(T* out, i64 n, double p, double scale, u64 block, u64 site, u64 step,     \
                                          const u64* slot, u64 rank, u64 key0, u64 key1) {                          \
    keep(out, n, p, scale, address(block, site, step, slot, rank, key0, key1));                                     \
  }

KEEP(float, float32)
KEEP(double, float64)
KEEP(half, float16)
