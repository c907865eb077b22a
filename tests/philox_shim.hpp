// CUDA's words for C++: kernels whose threads do not talk to each other, run one thread after another.
#define __global__
#define __device__
struct Index {
  unsigned x;
};
static Index blockIdx, blockDim, threadIdx;

// Blocks `first` to `first + count - 1` of a launch of a kernel of random.cu,
// with the step a[2] as it is if n is odd, and else partly from memory.
extern "C" void launch(void (*kernel)(void*, long long, unsigned long long, unsigned long long, unsigned long long,
                                      const unsigned long long*, unsigned long long, unsigned long long,
                                      unsigned long long),
                       unsigned first, unsigned count, unsigned threads, void* out, long long n,
                       const unsigned long long* a) {
  const unsigned long long slot = a[2] - 5;
  blockDim.x = threads;
  for (blockIdx.x = first; blockIdx.x < first + count; ++blockIdx.x)
    for (threadIdx.x = 0; threadIdx.x < threads; ++threadIdx.x)
      if (n % 2)
        kernel(out, n, a[0], a[1], a[2], nullptr, a[3], a[4], a[5]);
      else
        kernel(out, n, a[0], a[1], 5, &slot, a[3], a[4], a[5]);
}
