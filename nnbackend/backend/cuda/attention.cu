// Attention between its products: softmax of the scores, and its way back. A row of scores is the work of a team, a
// warp or a block, and turns into weights where it lies.
#include "dropout.cuh"

enum Look { ALL, CAUSAL, WHERE, ADDED };  // which keys a query looks at: all, those up to it, or as a mask says

// Scores (heads, rows, keys) of the queries `first` to `first + rows - 1`, out of so many. The mask, of booleans or
// numbers to add, has a stride for queries, for keys, and for heads two, the second of them for `inner` heads. Dropout
// draws for blocks of `span` queries, for all heads one after the other, and `rank` counts on; 0 if there is none.
struct Scores {
  int lanes;  // in a team
  i64 heads, rows;
  int keys;
  i64 first, queries;
  double scale;
  int look;
  const void* mask;
  i64 inner, per_outer, per_inner, per_row;
  int per_key;
  i64 span;
  double p, kept;  // kept numbers are multiplied by `kept`
  u64 block, site, step;
  const u64* slot;
  u64 rank, key0, key1;
};
#define SCORES                                                                                                      \
  int lanes, i64 heads, i64 rows, int keys, i64 first, i64 queries, double scale, int look, const void *mask,       \
      i64 inner, i64 per_outer, i64 per_inner, i64 per_row, int per_key, i64 span, double p, double kept, u64 block, \
      u64 site, u64 step, const u64 *slot, u64 rank, u64 key0, u64 key1
#define THESE                                                                                                       \
  Scores {                                                                                                          \
    lanes, heads, rows, keys, first, queries, scale, look, mask, inner, per_outer, per_inner, per_row, per_key,     \
        span, p, kept, block, site, step, slot, rank, key0, key1                                                    \
  }

// A row of them.
template <class T> struct ScoreRow {
  typedef sums<T> F;
  const Scores& all;
  const Team& team;
  i64 head, query;
  int seen;  // keys at the most
  T* s;
  const char* mask;  // its row of the mask
  __device__ ScoreRow(T* scores, const Scores& all, const Team& team)
      : all(all), team(team), head(team.index / all.rows), s(scores + team.index * all.keys) {
    i64 row = team.index % all.rows;
    query = all.first + row;
    seen = all.look == CAUSAL && query < all.keys ? query + 1 : all.keys;
    i64 before = head / all.inner * all.per_outer + head % all.inner * all.per_inner + row * all.per_row;
    mask = (const char*)all.mask + before * (i64)(all.look == ADDED ? sizeof(T) : 1);
  }

  // The score of key c, -inf where the query may not look.
  __device__ F operator[](int c) const {
    if (c >= seen || (all.look == WHERE && !mask[c * (i64)all.per_key])) return lowest<F>();
    F x = (F)s[c] * (F)all.scale;
    return all.look == ADDED ? x + (F)((const T*)mask)[c * (i64)all.per_key] : x;
  }

  // Call f(c, what dropout multiplies the weight by) for all keys c.
  template <class Do> __device__ void each(Do f) const {
    Kept<F> dropout{all.span > 0, (F)all.p, (F)all.kept};
    i64 in_block = all.span ? query % all.span : 0, left = all.queries - (query - in_block);
    i64 begin = (head * (left < all.span ? left : all.span) + in_block) * all.keys;
    u64 rank = all.rank + (all.span ? query / all.span : 0);
    Address at = address(all.block, all.site, all.step, all.slot, rank, all.key0, all.key1);
    each_kept<T>(all.keys, team, dropout, at, begin, f);
  }
};

// Scores turn into weights, and logs (heads, queries) get the logarithms of the sums of their exponentials.
template <class T> __device__ inline void weigh(T* scores, sums<T>* logs, const Scores& all) {
  typedef sums<T> F;
  Team team(all.lanes);
  if (team.index >= all.heads * all.rows) return;
  ScoreRow<T> row(scores, all, team);
  F top = lowest<F>(), total = 0;
  for (int c = team.lane; c < row.seen; c += team.lanes) top = maximum(top, row[c]);
  top = team.over<Max>(top);
  if (top == lowest<F>()) top = 0;  // there is no key to look at
  for (int c = team.lane; c < row.seen; c += team.lanes) total += exp(row[c] - top);
  total = team.over<Sum>(total);
  if (total == 0) total = 1;
  row.each([&](int c, F kept) { row.s[c] = T(exp(row[c] - top) * kept / total); });
  if (team.lane == 0) logs[row.head * all.queries + row.query] = log(total) + top;
}

// Scores turn into weights, and d, of the same shape, from the gradient of these into `slope` times that of the scores.
// y and dy (heads, queries, width) are the means of the values and their gradient.
template <class T>
__device__ inline void weigh_back(T* scores, T* d, const sums<T>* logs, const T* y, const T* dy, i64 width,
                                  double slope, const Scores& all) {
  typedef sums<T> F;
  Team team(all.lanes);
  if (team.index >= all.heads * all.rows) return;
  ScoreRow<T> row(scores, all, team);
  i64 place = row.head * all.queries + row.query;
  F mean = 0, log = logs[place];
  for (i64 c = team.lane; c < width; c += team.lanes) mean += (F)y[place * width + c] * (F)dy[place * width + c];
  mean = team.over<Sum>(mean);
  d += team.index * all.keys;
  row.each([&](int c, F kept) {
    F w = exp(row[c] - log);
    d[c] = T(w * ((F)d[c] * kept - mean) * (F)slope);
    row.s[c] = T(w * kept);
  });
}

// Four blocks of 256 threads at a time on a multiprocessor.
#define KERNEL extern "C" __global__ __launch_bounds__(256, 4) void
#define WEIGH(T, dtype)                                                                                              \
  KERNEL weigh_##dtype(T* scores, sums<T>* logs, SCORES) { weigh(scores, logs, THESE); }                             \
  KERNEL weigh_back_##dtype(T* scores, T* d, const sums<T>* logs, const T* y, const T* dy, i64 width, double slope,  \
                            SCORES) {                                                                                \
    weigh_back(scores, d, logs, y, dy, width, slope, THESE);                                                         \
  }

WEIGH(float, float32)
WEIGH(double, float64)
WEIGH(half, float16)
