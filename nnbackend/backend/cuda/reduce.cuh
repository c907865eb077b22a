// Sums and maxima over a warp, and over a block: one-dimensional, of a multiple of 32 threads, at most 1024. All of
// its threads must call, as often as they like, and all get the result. The order of a sum depends on the block alone.
#pragma once

template <class T> __device__ T infinity();
template <> __device__ inline float infinity<float>() { return __int_as_float(0x7f800000); }
template <> __device__ inline double infinity<double>() { return __longlong_as_double(0x7ff0000000000000ll); }
template <class T> __device__ inline T lowest() { return -infinity<T>(); }

// The larger one, and NaN if either is NaN, as NumPy's maximum.
template <class T> __device__ inline T maximum(T a, T b) { return a > b || a != a ? a : b; }

struct Sum {
  template <class T> static __device__ T none() { return 0; }
  template <class T> static __device__ T of(T a, T b) { return a + b; }
};

struct Max {
  template <class T> static __device__ T none() { return lowest<T>(); }
  template <class T> static __device__ T of(T a, T b) { return maximum(a, b); }
};

template <class How, class T> __device__ inline T over_warp(T v) {
#pragma unroll
  for (int apart = 16; apart; apart /= 2) v = How::of(v, __shfl_xor_sync(~0u, v, apart));
  return v;
}

template <class How, class T> __device__ inline T over_block(T v) {
  __shared__ T part[32];
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  v = over_warp<How>(v);
  __syncthreads();  // the call before has been read
  if (lane == 0) part[warp] = v;
  __syncthreads();
  return over_warp<How>(lane < warps ? part[lane] : How::template none<T>());
}

template <class T> __device__ inline T warp_sum(T v) { return over_warp<Sum>(v); }
template <class T> __device__ inline T warp_max(T v) { return over_warp<Max>(v); }
template <class T> __device__ inline T block_sum(T v) { return over_block<Sum>(v); }
template <class T> __device__ inline T block_max(T v) { return over_block<Max>(v); }
