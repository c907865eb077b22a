// Keys of 64 bits that sort by row, and within a row by place: both have 32.
#pragma once
typedef unsigned long long u64;
typedef long long i64;

const u64 NO_ROW = 0xffffffffull;

__device__ inline u64 key_of(u64 row, u64 place) { return row << 32 | place; }
__device__ inline i64 row_of(u64 key) { return key >> 32; }
__device__ inline i64 place_of(u64 key) { return key & 0xffffffffull; }

// The first place from `begin` to `end` of sorted keys with one that is not below `key`; `end` if there is none.
__device__ inline i64 below(const u64* keys, i64 begin, i64 end, u64 key) {
  while (begin < end) {
    i64 middle = (begin + end) / 2;
    if (keys[middle] < key)
      begin = middle + 1;
    else
      end = middle;
  }
  return begin;
}
