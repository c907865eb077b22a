// The two factors of a matrix product, float32, rounded to 16 bits for tensor cores. A factor is read as rows of `columns`
// numbers, `pitch` apart, and written without gaps. A thread takes eight numbers of one row, and a block only one factor.
#include "narrow.cuh"
#include "reduce.cuh"

typedef long long i64;

struct Factor {
  const float* from;
  i64 rows, columns, pitch;
  __device__ i64 packs() const { return (columns + 7) / 8; }  // of a row
};

// Call `each(numbers, count, where)` for eight numbers, or what is left of the row, and the place of the first of them.
template <class Each> __device__ inline void pack(const Factor& x, i64 i, Each each) {
  i64 row = i / x.packs(), column = i % x.packs() * 8;
  if (row >= x.rows) return;
  const float* from = x.from + row * x.pitch + column;
  i64 left = x.columns - column;
  alignas(16) float v[8];
  if (left >= 8 && (size_t)from % 16 == 0) {
    *(float4*)v = ((const float4*)from)[0];
    *(float4*)(v + 4) = ((const float4*)from)[1];
  } else {
#pragma unroll
    for (int j = 0; j < 8; ++j) v[j] = j < left ? from[j] : 0.0f;
  }
  each(v, left < 8 ? (int)left : 8, row * x.columns + column);
}

// `scale` is a power of two, and 1 for bfloat16, which has the range of float32.
template <class T> __device__ inline void rounded(T* to, const Factor& x, i64 i, float scale) {
  pack(x, i, [&](const float* v, int count, i64 where) {
    struct alignas(16) {
      T x[8];
    } y;
#pragma unroll
    for (int j = 0; j < 8; ++j) y.x[j] = T(v[j] * scale);
    if (count == 8 && (size_t)(to + where) % 16 == 0) {
      *(decltype(y)*)(to + where) = y;
    } else {
#pragma unroll
      for (int j = 0; j < 8; ++j)
        if (j < count) to[where + j] = y.x[j];
    }
  });
}

// The power of two, as its exponent, that brings numbers up to the largest of `tops` (found) below 2^15; not beyond 63,
// so that products of two such powers are float32, too.
__device__ inline int shift(const float* tops, int found) {
  float top = 0.0f;
  for (int i = threadIdx.x; i < found; i += blockDim.x) top = maximum(top, tops[i]);
  int e = 141 - (int)(__float_as_uint(block_max(top)) >> 23);  // 127 + 14 less the biased exponent
  return e > 63 ? 63 : e < -63 ? -63 : e;
}

__device__ inline float power(int e) { return __uint_as_float((unsigned)(127 + e) << 23); }

#define FACTORS                                                                                                \
  const float *a, i64 a_rows, i64 a_columns, i64 a_pitch, const float *b, i64 b_rows, i64 b_columns, i64 b_pitch
#define THE(x) Factor{x, x##_rows, x##_columns, x##_pitch}

extern "C" __global__ void narrow_bfloat16(bfloat* a_to, bfloat* b_to, i64 a_blocks, FACTORS) {
  i64 block = blockIdx.x;
  if (block < a_blocks)
    rounded(a_to, THE(a), block * blockDim.x + threadIdx.x, 1.0f);
  else
    rounded(b_to, THE(b), (block - a_blocks) * blockDim.x + threadIdx.x, 1.0f);
}

// tops (2, blocks): the largest finite magnitude that each block finds in a, and in b.
extern "C" __global__ void largest(float* tops, FACTORS) {
  Factor x = blockIdx.y ? THE(b) : THE(a);
  i64 packs = x.rows * x.packs();
  float top = 0.0f;
  for (i64 i = blockIdx.x * (i64)blockDim.x + threadIdx.x; i < packs; i += gridDim.x * (i64)blockDim.x)
    pack(x, i, [&](const float* v, int, i64) {
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        float size = fabsf(v[j]);
        if (size > top && size <= 3.402823466e38f) top = size;
      }
    });
  top = block_max(top);
  if (threadIdx.x == 0) tops[blockIdx.y * gridDim.x + blockIdx.x] = top;
}

// Each factor times a power of two of its own. back: by what the product is multiplied, which undoes both; and 0.
extern "C" __global__ void narrow_float16(half* a_to, half* b_to, float* back, const float* tops, int found,
                                          i64 a_blocks, FACTORS) {
  i64 block = blockIdx.x;
  if (block >= a_blocks) {
    rounded(b_to, THE(b), (block - a_blocks) * blockDim.x + threadIdx.x, power(shift(tops + found, found)));
    return;
  }
  int up = shift(tops, found);
  rounded(a_to, THE(a), block * blockDim.x + threadIdx.x, power(up));
  if (block) return;
  up += shift(tops + found, found);
  if (threadIdx.x == 0) {
    back[0] = power(-up);
    back[1] = 0.0f;
  }
}
