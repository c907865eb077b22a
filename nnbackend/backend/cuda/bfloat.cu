// float32 as the bits of bfloat16, rounded to nearest even, and back.
#include "narrow.cuh"

extern "C" __global__ void narrow(bfloat* out, const float* x, long long n) {
  long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
  if (i < n) out[i] = x[i];
}

extern "C" __global__ void widen(float* out, const bfloat* x, long long n) {
  long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
  if (i < n) out[i] = x[i];
}
