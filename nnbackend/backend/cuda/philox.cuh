// Philox 4x64-10 (Salmon et al., 2011), counted as numpy.random.Philox counts: the same words at the same address.
typedef unsigned long long u64;
typedef unsigned int u32;
typedef long long i64;

struct Address {
  u64 counter[4];  // block, site, step, rank: one number of 256 bits, the lowest word first
  u64 key[2];
};

// `slot` is 0, or says where in memory there is a number to add to the step.
__device__ inline Address address(u64 block, u64 site, u64 step, const u64* slot, u64 rank, u64 key0, u64 key1) {
  return Address{{block, site, slot ? step + *slot : step, rank}, {key0, key1}};
}

struct Block {
  u64 word[4];
};

__device__ inline u64 high_word(u64 a, u64 b) {
#ifdef __CUDA_ARCH__
  return __umul64hi(a, b);
#else
  return (u64)((unsigned __int128)a * b >> 64);
#endif
}

// The block `i` blocks after the address. The counter goes up before a block is made, and carries from word to word.
__device__ inline Block philox(const Address& at, u64 i) {
  u64 c0 = at.counter[0] + i, c1 = at.counter[1], c2 = at.counter[2], c3 = at.counter[3];
  u64 carry = c0 < i;
  c0 += 1;
  carry += c0 == 0;
  c1 += carry;
  carry = c1 < carry;
  c2 += carry;
  carry = c2 < carry;
  c3 += carry;
  u64 k0 = at.key[0], k1 = at.key[1];
  for (int round = 0; round < 10; ++round) {
    u64 high0 = high_word(0xD2E7470EE14C6C93ull, c0), low0 = 0xD2E7470EE14C6C93ull * c0;
    u64 high1 = high_word(0xCA5A826395121157ull, c2), low1 = 0xCA5A826395121157ull * c2;
    c0 = high1 ^ c1 ^ k0;
    c1 = low1;
    c2 = high0 ^ c3 ^ k1;
    c3 = low0;
    k0 += 0x9E3779B97F4A7C15ull;
    k1 += 0xBB67AE8584CAA73Bull;
  }
  return Block{{c0, c1, c2, c3}};
}

// Half `j` of a block, 0 to 7: NumPy hands out the low half of a word first.
__device__ inline u32 half_word(const Block& b, int j) { return (u32)(b.word[j / 2] >> 32 * (j % 2)); }

__device__ inline double uniform64(u64 word) { return (double)(word >> 11) * (1.0 / 9007199254740992.0); }
__device__ inline float uniform32(u32 half) { return (float)(half >> 8) * (1.0f / 16777216.0f); }

// The bits of a half-precision number: the first 11 bits of `uniform32`, cut off because rounding would make some 1.
__device__ inline unsigned short uniform16(u32 half) {
  union {
    float value;
    u32 bits;
  } u = {(float)(half >> 21) * (1.0f / 2048.0f)};
  return u.bits ? (unsigned short)((u.bits >> 13) - (112u << 10)) : 0;  // exponents count from 15, in float from 127
}
