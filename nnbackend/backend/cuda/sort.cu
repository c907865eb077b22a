// A stable sort of row numbers, by keys that are all different: the row, and below it where it stood. Tiles are sorted
// in shared memory, then runs merged: each key finds its place by counting the smaller ones in the other runs.
#include "keys.cuh"

// keys (n): those of index (n), sorted within each tile, of which each block has one: a power of 2 up to 2048. Negative
// rows count from the end, and those out of range come last.
extern "C" __global__ void sort_tiles(u64* keys, const i64* index, i64 n, i64 rows, int tile) {
  __shared__ u64 key[2048];
  i64 first = blockIdx.x * (i64)tile;
  for (int i = threadIdx.x; i < tile; i += blockDim.x) {
    i64 row = first + i < n ? index[first + i] : rows;
    if (row < 0) row += rows;
    key[i] = row < 0 || row >= rows ? key_of(NO_ROW, first + i) : key_of(row, first + i);
  }
  for (int size = 2; size <= tile; size *= 2)  // bitonic (Batcher, "Sorting networks and their applications", 1968)
    for (int apart = size / 2; apart; apart /= 2) {
      __syncthreads();
      for (int t = threadIdx.x; t < tile / 2; t += blockDim.x) {
        int i = 2 * t - (t & apart - 1), j = i + apart;
        u64 a = key[i], b = key[j];
        if (a > b == !(i & size)) {
          key[i] = b;
          key[j] = a;
        }
      }
    }
  __syncthreads();
  for (int i = threadIdx.x; i < tile; i += blockDim.x)
    if (first + i < n) keys[first + i] = key[i];
}

// merged (n): groups of 8 sorted runs of `keys` (n), in order.
extern "C" __global__ void merge_runs(u64* merged, const u64* keys, i64 n, i64 run) {
  i64 i = blockIdx.x * (i64)blockDim.x + threadIdx.x;
  if (i >= n) return;
  i64 group = i - i % (8 * run), end = group + 8 * run < n ? group + 8 * run : n, place = group + i % run;
  for (i64 begin = group; begin < end; begin += run)
    if (begin != i - i % run) place += below(keys, begin, begin + run < n ? begin + run : n, keys[i]) - begin;
  merged[place] = keys[i];
}
