// Normalisation (backend/norm.py). What is left of the mean is squared, and sums that several teams share are put
// together in a fixed order.
#include "rows.cuh"

// -- rows: statistics of each, weight and bias (n,) for all of them ---------------------------------------------------

// Without `mean` it counts as 0.
template <class T>
__device__ inline void rows(T* y, sums<T>* mean, sums<T>* var, const T* x, const T* weight, const T* bias, double eps,
                            i64 count, i64 n, i64 lanes, i64 whole) {
  typedef sums<T> S;
  Team team((int)lanes);
  if (team.index >= count) return;
  Row<T> row{team, n, 1, whole != 0};
  x += team.index * n;
  y += team.index * n;
  S m = mean ? row.sum(x, [](S v) { return v; }) / n : 0;
  S v = row.sum(x, [&](S v) { return (v - m) * (v - m); }) / n;
  S r = 1 / sqrt(v + (S)eps);
  if (team.lane == 0) {
    if (mean) mean[team.index] = m;
    var[team.index] = v;
  }
  row.packs([&](i64 j, i64) {
    Pack<T> a = row.get(x, j), w, b;
    if (weight) w = row.get(weight, j);
    if (bias) b = row.get(bias, j);
#pragma unroll
    for (int k = 0; k < Pack<T>::size; ++k)
      a.x[k] = (T)(((S)a.x[k] - m) * r * (weight ? (S)w.x[k] : 1) + (bias ? (S)b.x[k] : 0));
    row.put(y, j, a);
  });
}

// A block's teams take rows in turn; what they add up for weight and bias is kept in `parts` (blocks, 2, n). A thread
// has MOST numbers of a row at most, so that its sums stay in registers.
template <class T>
__device__ inline void rows_back(T* dx, sums<T>* parts, const T* dy, const T* x, const T* weight, const sums<T>* mean,
                                 const sums<T>* var, double eps, i64 count, i64 n, i64 lanes, i64 whole) {
  typedef sums<T> S;
  const int N = Pack<T>::size, MOST = 32, PACKS = MOST / N, THREADS = 256;
  Team team((int)lanes);
  Row<T> row{team, n, 1, whole != 0};
  S dw[PACKS][N], db[PACKS][N];
#pragma unroll
  for (int i = 0; i < PACKS; ++i)
#pragma unroll
    for (int k = 0; k < N; ++k) dw[i][k] = db[i][k] = 0;
  for (i64 at = team.index; at < count; at += gridDim.x * (i64)blockDim.x / team.lanes) {
    const T *xs = x + at * n, *dys = dy + at * n;
    S m = mean ? mean[at] : 0, r = 1 / sqrt(var[at] + (S)eps), s = 0, t = 0;
    row.packs([&](i64 j, i64 left) {
      Pack<T> a = row.get(xs, j), d = row.get(dys, j), w;
      if (weight) w = row.get(weight, j);
#pragma unroll
      for (int k = 0; k < N; ++k) {
        S g = k < left ? (S)d.x[k] * (weight ? (S)w.x[k] : 1) : 0;
        s += g;
        t += g * (((S)a.x[k] - m) * r);
      }
    });
    s = mean ? team.over<Sum>(s) / n : 0;
    t = team.over<Sum>(t) / n;
#pragma unroll
    for (int i = 0; i < PACKS; ++i) {
      i64 j = (i * (i64)team.lanes + team.lane) * N;
      if (j >= n) break;
      Pack<T> a = row.get(xs, j), d = row.get(dys, j), w;
      if (weight) w = row.get(weight, j);
#pragma unroll
      for (int k = 0; k < N; ++k) {
        S h = ((S)a.x[k] - m) * r, g = d.x[k];
        dw[i][k] += g * h;
        db[i][k] += g;
        a.x[k] = (T)(((weight ? g * (S)w.x[k] : g) - h * t - s) * r);
      }
      row.put(dx + at * n, j, a);
    }
  }
  __shared__ S each[2][THREADS * N];
  S* part = parts + blockIdx.x * 2 * n;
  int together = team.lanes * N;  // numbers of a row that a team has at a time
#pragma unroll
  for (int i = 0; i < PACKS; ++i) {
    if (i * (i64)together >= n) break;
    __syncthreads();
#pragma unroll
    for (int k = 0; k < N; ++k) {
      each[0][threadIdx.x * N + k] = dw[i][k];
      each[1][threadIdx.x * N + k] = db[i][k];
    }
    __syncthreads();
    for (int j = threadIdx.x; j < together && i * (i64)together + j < n; j += THREADS) {
      S a = 0, b = 0;
      for (int from = j; from < THREADS * N; from += together) {
        a += each[0][from];
        b += each[1][from];
      }
      part[i * (i64)together + j] = a;
      part[n + i * (i64)together + j] = b;
    }
  }
}

// -- channels: x (samples, channels, field), weight and bias (channels,) ----------------------------------------------

// Where the threads of a block stand. A team has some of the numbers of one channel: those of `chunk` samples, if there
// are as many. Where the field is 1 the channels lie side by side, and a warp takes those of 32 channels at a time.
template <class T> struct Channels {
  typedef sums<T> S;
  i64 samples, channels, field, chunk, lanes;
  bool whole;
  bool beside;  // teams of a thread from each warp, for one channel each
  i64 piece, channel, first;
  int own, step;  // this thread's first number, and how far it is to the next
  int together;   // numbers that are read at a time
  unsigned count;

  __device__ Channels(i64 samples, i64 channels, i64 field, i64 chunk, i64 lanes, i64 whole)
      : samples(samples), channels(channels), field(field), chunk(chunk), lanes(lanes), whole(whole != 0) {
    beside = field == 1;
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    if (beside) {
      i64 tiles = (channels + 31) / 32;
      piece = blockIdx.x / tiles;
      channel = blockIdx.x % tiles * 32 + lane;
      own = warp;
      step = blockDim.x / 32;
    } else {
      Team team((int)lanes);
      piece = team.index / channels;
      channel = team.index % channels;
      own = team.lane;
      step = team.lanes;
    }
    first = piece * chunk;
    together = field % Pack<T>::size ? 1 : Pack<T>::size;
    count = there() ? numbers(piece) : 0;
  }

  // Whether there is such a piece; teams without one take part in what all must.
  __device__ bool there() const { return channel < channels && first < samples; }
  __device__ unsigned numbers(i64 piece) const { return (unsigned)(min(chunk, samples - piece * chunk) * field); }
  __device__ bool leads() const { return there() && own == 0; }

  __device__ S sum(S v) const {
    if (!beside) return lanes == 32 ? warp_sum(v) : block_sum(v);
    __shared__ S each[32][32];
    __syncthreads();
    each[threadIdx.x / 32][threadIdx.x % 32] = v;
    __syncthreads();
    v = 0;
    for (int i = 0; i < step; ++i) v += each[i][threadIdx.x % 32];
    return v;
  }

  // f(place, how many numbers) for the packs of this thread's.
  template <class F> __device__ void packs(F f) const {
    unsigned packs = count / together, side = (unsigned)field / together;
    for (unsigned e = own; e < packs; e += step)
      f(((first + e / side) * channels + channel) * field + e % side * together, together);
  }
  template <class F> __device__ S sum_of(const T* x, F f) const {
    S total = 0;
    packs([&](i64 at, int n) {
      Pack<T> a = load(x + at, 1, n, whole);
#pragma unroll
      for (int k = 0; k < Pack<T>::size; ++k)
        if (k < n) total += f((S)a.x[k]);
    });
    return sum(total);
  }

  // Statistics are those of a channel in all samples, or of `each` channels in one. The sum over their parts, which are
  // (pieces, 2, channels): f(the first, the second, how many numbers they stand for, whose channel).
  template <class F> __device__ S over_parts(const S* parts, i64 each, F f) const {
    S total = 0;
    if (there()) {
      i64 n = each ? each : (samples + chunk - 1) / chunk, base = each ? channel / each * each : 0;
      for (i64 k = own; k < n; k += step) {
        i64 p = each ? piece : k, c = each ? base + k : channel;
        total += f(parts[2 * p * channels + c], parts[(2 * p + 1) * channels + c], (S)numbers(p), c);
      }
    }
    return sum(total);
  }
  // Which statistic is this channel's, and whether this thread is the one to write what all that know it know.
  __device__ bool decides(i64 each) const { return leads() && (each ? channel % each : piece) == 0; }
  __device__ i64 statistic(i64 each) const { return each ? piece * (channels / each) + channel / each : channel; }
  __device__ S size(i64 each) const { return each ? (S)(each * field) : (S)(samples * field); }
};

#define FIELD i64 samples, i64 channels, i64 field, i64 chunk, i64 lanes, i64 whole
#define BEGIN                                                          \
  typedef sums<T> S;                                                   \
  Channels<T> at(samples, channels, field, chunk, lanes, whole);

// The mean of each piece, and the sum of the squares of what is left: parts (pieces, 2, channels).
template <class T> __device__ inline void moments(sums<T>* parts, const T* x, FIELD) {
  BEGIN
  S m = at.sum_of(x, [](S v) { return v; }) / at.count;
  S squares = at.sum_of(x, [&](S v) { return (v - m) * (v - m); });
  if (!at.leads()) return;
  parts[2 * at.piece * channels + at.channel] = m;
  parts[(2 * at.piece + 1) * channels + at.channel] = squares;
}

template <class T>
__device__ inline void channels_by(T* y, sums<T>* mean, sums<T>* var, const sums<T>* parts, const T* x, const T* weight,
                                   const T* bias, double eps, i64 each, FIELD) {
  BEGIN
  S n = at.size(each);
  S m = at.over_parts(parts, each, [](S mean, S, S n, i64) { return n * mean; }) / n;
  S v = at.over_parts(parts, each, [&](S mean, S squares, S n, i64) {
    return squares + n * ((mean - m) * (mean - m));
  }) / n;
  if (!at.there()) return;
  if (at.decides(each)) {
    mean[at.statistic(each)] = m;
    var[at.statistic(each)] = v;
  }
  S scale = 1 / sqrt(v + (S)eps) * (weight ? (S)weight[at.channel] : 1), shift = bias ? (S)bias[at.channel] : 0;
  at.packs([&](i64 i, int n) {
    Pack<T> a = load(x + i, 1, n, at.whole);
#pragma unroll
    for (int k = 0; k < Pack<T>::size; ++k) a.x[k] = (T)(((S)a.x[k] - m) * scale + shift);
    store(y + i, a, 1, n, at.whole);
  });
}

// Each piece's share of the gradients of weight and bias: parts (pieces, 2, channels).
template <class T>
__device__ inline void moments_back(sums<T>* parts, const T* dy, const T* x, const sums<T>* mean, const sums<T>* var,
                                    double eps, i64 each, FIELD) {
  BEGIN
  S m = 0, r = 0, s = 0, t = 0;
  if (at.there()) {
    m = mean[at.statistic(each)];
    r = 1 / sqrt(var[at.statistic(each)] + (S)eps);
  }
  at.packs([&](i64 i, int n) {
    Pack<T> d = load(dy + i, 1, n, at.whole), a = load(x + i, 1, n, at.whole);
#pragma unroll
    for (int k = 0; k < Pack<T>::size; ++k)
      if (k < n) {
        s += (S)d.x[k];
        t += (S)d.x[k] * ((S)a.x[k] - m);
      }
  });
  s = at.sum(s);
  t = at.sum(t) * r;
  if (!at.leads()) return;
  parts[2 * at.piece * channels + at.channel] = t;
  parts[(2 * at.piece + 1) * channels + at.channel] = s;
}

// `dwb` (2, channels) gets the gradients of weight and bias if there is one statistic for each channel.
template <class T>
__device__ inline void channels_back(T* dx, T* dwb, const sums<T>* parts, const T* dy, const T* x, const T* weight,
                                     const sums<T>* mean, const sums<T>* var, double eps, i64 each, FIELD) {
  BEGIN
  S n = at.size(each);
  auto by = [&](S v, i64 c) { return each && weight ? v * (S)weight[c] : v; };
  S t = at.over_parts(parts, each, [&](S t, S, S, i64 c) { return by(t, c); });
  S s = at.over_parts(parts, each, [&](S, S s, S, i64 c) { return by(s, c); });
  if (!at.there()) return;
  S w = weight ? (S)weight[at.channel] : 1;
  if (!each) {
    if (at.decides(each)) {
      dwb[at.channel] = (T)t;
      dwb[channels + at.channel] = (T)s;
    }
    t *= w;
    s *= w;
  }
  s /= n;
  t /= n;
  S m = mean[at.statistic(each)], r = 1 / sqrt(var[at.statistic(each)] + (S)eps);
  at.packs([&](i64 i, int n) {
    Pack<T> d = load(dy + i, 1, n, at.whole), a = load(x + i, 1, n, at.whole);
#pragma unroll
    for (int k = 0; k < Pack<T>::size; ++k) a.x[k] = (T)(((S)d.x[k] * w - ((S)a.x[k] - m) * r * t - s) * r);
    store(dx + i, a, 1, n, at.whole);
  });
}

// -- what blocks have added up: parts (pieces, n) -> (n,), 32 columns a block -----------------------------------------

template <class T> __device__ inline void sum_parts(T* out, const sums<T>* parts, i64 pieces, i64 n) {
  typedef sums<T> S;
  __shared__ S each[32][32];
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = blockDim.x / 32;
  i64 column = blockIdx.x * 32ll + lane;
  S total = 0;
  if (column < n)
    for (i64 p = warp; p < pieces; p += warps) total += parts[p * n + column];
  each[warp][lane] = total;
  __syncthreads();
  if (warp || column >= n) return;
  for (int i = 1; i < warps; ++i) total += each[i][lane];
  out[column] = (T)total;
}

#define ROWS i64 count, i64 n, i64 lanes, i64 whole
#define GIVEN samples, channels, field, chunk, lanes, whole
#define KERNELS(T, S, name)                                                                                 \
  extern "C" __global__ void rows_##name(T* y, S* mean, S* var, const T* x, const T* weight, const T* bias, \
                                         double eps, ROWS) {                                                \
    rows(y, mean, var, x, weight, bias, eps, count, n, lanes, whole);                                       \
  }                                                                                                         \
  extern "C" __global__ void rows_back_##name(T* dx, S* parts, const T* dy, const T* x, const T* weight,    \
                                              const S* mean, const S* var, double eps, ROWS) {              \
    rows_back(dx, parts, dy, x, weight, mean, var, eps, count, n, lanes, whole);                            \
  }                                                                                                         \
  extern "C" __global__ void moments_##name(S* parts, const T* x, FIELD) {                                  \
    moments(parts, x, GIVEN);                                                                               \
  }                                                                                                         \
  extern "C" __global__ void channels_##name(T* y, S* mean, S* var, const S* parts, const T* x,             \
                                             const T* weight, const T* bias, double eps, i64 each, FIELD) { \
    channels_by(y, mean, var, parts, x, weight, bias, eps, each, GIVEN);                                    \
  }                                                                                                         \
  extern "C" __global__ void moments_back_##name(S* parts, const T* dy, const T* x, const S* mean,          \
                                                 const S* var, double eps, i64 each, FIELD) {               \
    moments_back(parts, dy, x, mean, var, eps, each, GIVEN);                                                \
  }                                                                                                         \
  extern "C" __global__ void channels_back_##name(T* dx, T* dwb, const S* parts, const T* dy, const T* x,   \
                                                  const T* weight, const S* mean, const S* var, double eps, \
                                                  i64 each, FIELD) {                                        \
    channels_back(dx, dwb, parts, dy, x, weight, mean, var, eps, each, GIVEN);                              \
  }                                                                                                         \
  extern "C" __global__ void sum_parts_##name(T* out, const S* parts, i64 pieces, i64 n) {                  \
    sum_parts(out, parts, pieces, n);                                                                       \
  }

KERNELS(float, float, float32)
KERNELS(double, double, float64)
KERNELS(half, float, float16)
