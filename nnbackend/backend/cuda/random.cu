// Random numbers at an address, as nnbackend/random.py defines them. One thread makes one block of Philox.
#include "philox.cuh"

// Store the N numbers that block `i` makes, 16 bytes at a time where all of them have a place among the n of `out`.
template <int N, class T, class Number>
__device__ inline void draw(T* out, i64 n, const Address& at, Number number) {
  const int together = 16 / sizeof(T);
  struct alignas(16) Pack {
    T x[together];
  };
  i64 i = blockIdx.x * (i64)blockDim.x + threadIdx.x;
  if (i * N >= n) return;
  Block b = philox(at, i);
  out += i * N;
  if (n - i * N >= N) {
#pragma unroll
    for (int p = 0; p < N / together; ++p) {
      Pack pack;
#pragma unroll
      for (int j = 0; j < together; ++j) pack.x[j] = number(b, p * together + j);
      ((Pack*)out)[p] = pack;
    }
  } else {
#pragma unroll
    for (int j = 0; j < N; ++j)
      if (i * N + j < n) out[j] = number(b, j);
  }
}

#define ADDRESS u64 block, u64 site, u64 step, const u64* slot, u64 rank, u64 key0, u64 key1
#define AT address(block, site, step, slot, rank, key0, key1)

extern "C" __global__ void words(u64* out, i64 n, ADDRESS) {
  draw<4>(out, n, AT, [](const Block& b, int j) { return b.word[j]; });
}

extern "C" __global__ void uniform_float64(double* out, i64 n, ADDRESS) {
  draw<4>(out, n, AT, [](const Block& b, int j) { return uniform64(b.word[j]); });
}

extern "C" __global__ void uniform_float32(float* out, i64 n, ADDRESS) {
  draw<8>(out, n, AT, [](const Block& b, int j) { return uniform32(half_word(b, j)); });
}

extern "C" __global__ void uniform_float16(unsigned short* out, i64 n, ADDRESS) {
  draw<8>(out, n, AT, [](const Block& b, int j) { return uniform16(half_word(b, j)); });
}
