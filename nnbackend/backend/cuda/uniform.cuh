// The random numbers of `uniform_like` in each dtype, and which of them dropout keeps.
#pragma once
#include "narrow.cuh"
#include "philox.cuh"

// The numbers that a block of Philox makes.
template <class T> struct Uniform;
template <> struct Uniform<float> {
  static const int count = 8;
  static __device__ float at(const Block& b, int j) { return uniform32(half_word(b, j)); }
};
template <> struct Uniform<half> {
  static const int count = 8;
  static __device__ float at(const Block& b, int j) { return (float)(half_word(b, j) >> 21) * (1.0f / 2048.0f); }
};
template <> struct Uniform<double> {
  static const int count = 4;
  static __device__ double at(const Block& b, int j) { return uniform64(b.word[j]); }
};

// Bit j says whether number j of a block is kept: that is when it is not below p, which is rounded to the dtype.
template <class T, class F> __device__ inline unsigned kept(const Block& b, F p) {
  unsigned bits = 0;
#pragma unroll
  for (int j = 0; j < Uniform<T>::count; ++j) bits |= (unsigned)(Uniform<T>::at(b, j) >= p) << j;
  return bits;
}
