"""Kernels on the stand-in for CuPy: threads that wait for each other, shared memory, and what a GPU refuses."""

import numpy as np
import pytest
from standin_case import the_standin  # noqa: F401 - a fixture

from nnbackend.backend.kernels import source

REDUCTIONS = (
    source("reduce.cuh")
    + """
#define OF_BLOCKS(T, name)                                                                  \\
  extern "C" __global__ void name(T* out, const T* x) {                                     \\
    T v = x[blockIdx.x * blockDim.x + threadIdx.x];                                         \\
    T all[] = {block_sum(v), block_max(v), block_sum(-v), warp_sum(v), warp_max(v)};        \\
    for (int i = 0; i < 5; ++i) out[(blockIdx.x * blockDim.x + threadIdx.x) * 5 + i] = all[i]; \\
  }
OF_BLOCKS(float, of_float)
OF_BLOCKS(double, of_double)
"""
)
WORDS = """
extern "C" __global__ void race(int* out) {
  __shared__ int a[64];
  a[threadIdx.x] = threadIdx.x;
  out[threadIdx.x] = a[63 - threadIdx.x];
}
extern "C" __global__ void no_race(int* out) {
  __shared__ int a[64], b[2];  // __shared__ in a comment;
  a[threadIdx.x] = threadIdx.x;
  __syncthreads();
  out[threadIdx.x] = a[63 - threadIdx.x];
}
extern "C" __global__ void warp_race(int* out, int careful) {
  __shared__ int a[64];
  a[threadIdx.x] = threadIdx.x;
  if (careful) __syncwarp();
  out[threadIdx.x] = a[threadIdx.x ^ 1];
}
extern "C" __global__ void barriers(int* out) {
  if (threadIdx.x < 40) __syncthreads();
  else
    __syncthreads();
}
extern "C" __global__ void half_a_warp(int* out) {
  if (threadIdx.x < 10) out[threadIdx.x] = __shfl_xor_sync(~0u, 1, 1);
  else __syncthreads();
}
extern "C" __global__ void early(int* out) {
  if (threadIdx.x >= 50) return;
  __syncthreads();
  out[threadIdx.x] = __popc(__ballot_sync(~0u, threadIdx.x % 2));
}
extern "C" __global__ void behind(int* out) {
  extern __shared__ __align__(16) int s[];
  s[threadIdx.x] = 1;
}
extern "C" __global__ void shuffles(long long* out) {
  long long v = threadIdx.x + (1ll << 40);
  int lane = threadIdx.x % 32;
  out[threadIdx.x] = __shfl_down_sync(~0u, v, 4);
  out[64 + threadIdx.x] = __shfl_sync(~0u, lane, 3, 16);
  out[128 + threadIdx.x] = __shfl_up_sync(~0u, (unsigned)lane, 1);
  out[192 + threadIdx.x] = lane < 8 ? (int)__shfl_xor_sync(0xffu, (float)lane, 2) : -1;
  out[256 + threadIdx.x] = (long long)__shfl_xor_sync(~0u, (double)lane, 16);
  out[320 + threadIdx.x] = __any_sync(~0u, lane == 5) + 2 * __all_sync(~0u, lane >= 0) + 4 * __any_sync(~0u, lane > 31);
}
extern "C" __global__ void four(float4* x) {
  float4 v = x[1];
  v.w = __half2float(__ushort_as_half(__half_as_ushort(__float2half_rn(1.0f / 3))));
  x[0] = v;
}
"""
FUNCTIONS = """
#define ONE(T, name, f) \\
  extern "C" __global__ void name(T* out, const T* x, const T* y) { int i = threadIdx.x; out[i] = f; }
#define BOTH(name, of, s) ONE(float, name##_float32, of##f s) ONE(double, name##_float64, of s)
BOTH(exp, exp, (x[i]))
BOTH(log1p, log1p, (x[i]))
BOTH(tanh, tanh, (x[i]))
BOTH(sin, sin, (x[i]))
BOTH(arctan, atan, (x[i]))
BOTH(power, pow, (x[i], y[i]))
BOTH(hypot, hypot, (x[i], y[i]))
BOTH(erf, erf, (x[i]))
"""


@pytest.fixture(scope="module")
def words(cp):
    return cp.RawModule(code=WORDS)


def in_both_orders(cp, work):
    results = []
    for order in ("ascending", "descending"):
        with cp._raw.order(order):
            results.append(work().get())
    return results


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("threads", [32, 96, 1024])
def test_reductions_of_a_block(cp, dtype, threads):
    kernel = cp.RawModule(code=REDUCTIONS).get_function({"float32": "of_float", "float64": "of_double"}[dtype])
    x = np.random.default_rng(0).standard_normal((2, threads)).astype(dtype)
    x[1, 17] = np.nan

    def work():
        out = cp.empty((2, threads, 5), dtype)
        kernel((2,), (threads,), (out, cp.asarray(x)))
        return out

    got, backwards = in_both_orders(cp, work)
    np.testing.assert_array_equal(got, backwards)
    warps = x.reshape(2, -1, 32)
    sums, maxima = warps.sum(2).repeat(32, 1), warps.max(2).repeat(32, 1)
    block = [np.broadcast_to(each, x.shape) for each in (x.sum(1)[:, None], x.max(1)[:, None], -x.sum(1)[:, None])]
    want = np.stack([*block, sums, maxima], 2)
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-5 if dtype == "float32" else 1e-13)
    np.testing.assert_array_equal(got[0, :, 1], x[0].max())


@pytest.mark.parametrize(("name", "given", "same"), [("race", (), False), ("no_race", (), True)])
def test_races_show_in_one_of_the_orders(cp, words, name, given, same):
    def work():
        out = cp.zeros(64, "int32")
        words.get_function(name)((1,), (64,), (out, *given))
        return out

    up, down = in_both_orders(cp, work)
    assert np.array_equal(up, down) == same
    if same:
        np.testing.assert_array_equal(up, np.arange(64)[::-1])
    else:
        assert (up == -1).any()  # shared memory begins as NaN, or -1


@pytest.mark.parametrize("careful", [False, True])
def test_races_in_a_warp(cp, words, careful):
    def work():
        out = cp.zeros(64, "int32")
        words.get_function("warp_race")((1,), (64,), (out, np.int32(careful)))
        return out

    up, down = in_both_orders(cp, work)
    assert np.array_equal(up, down) == careful
    assert np.array_equal(up, np.arange(64) ^ 1) == careful


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("barriers", r"thread 0 waits at __syncthreads .* for thread 40, which is elsewhere: __syncthreads"),
        ("half_a_warp", r"thread 0 waits at __shfl_xor_sync .* for thread 10, which is elsewhere: __syncthreads"),
        ("behind", r"block \(0, 0, 0\) writes behind its 252 bytes of dynamic shared memory"),
    ],
)
def test_what_would_hang_or_spoil_is_an_error(cp, words, name, said):
    out = cp.zeros(64, "int32")
    for _ in range(2):
        with pytest.raises(cp._raw.KernelError, match=said):
            words.get_function(name)((1,), (64,), (out,), shared_mem=252)
    words.get_function("early")((2,), (64,), (out,))  # and kernels run as before
    assert out.tolist() == [16] * 32 + [9] * 18 + [0] * 14


def test_shuffles(cp, words):
    out = cp.empty((6, 64), "int64")
    words.get_function("shuffles")((1,), (64,), (out,))
    down, source_, up, xor, far, votes = out.get()
    thread, lane = np.arange(64), np.arange(64) % 32
    np.testing.assert_array_equal(down - 2**40, np.where(lane < 28, thread + 4, thread))
    np.testing.assert_array_equal(source_, lane // 16 * 16 + 3)
    np.testing.assert_array_equal(up, np.maximum(lane - 1, 0))
    np.testing.assert_array_equal(xor, np.where(lane < 8, lane ^ 2, -1))
    np.testing.assert_array_equal(far, lane ^ 16)
    assert (votes == 3).all()


def test_addresses_are_multiples(cp, words):
    x = cp.arange(12, dtype="float32")
    words.get_function("four")((1,), (1,), (x,))
    assert x.tolist()[:4] == [4, 5, 6, float(np.float16(1 / 3))]
    with pytest.raises(cp._raw.KernelError, match="misaligned address"):
        words.get_function("four")((1,), (1,), (x[1:],))


def test_much_shared_memory_is_asked_for_first(cp, words):
    kernel, out = words.get_function("behind"), cp.zeros(64, "int32")
    with pytest.raises(RuntimeError, match="CUDA_ERROR_INVALID_VALUE"):
        kernel((1,), (64,), (out,), shared_mem=(48 << 10) + 4)
    with pytest.raises(RuntimeError, match="CUDA_ERROR_INVALID_VALUE"):
        kernel.max_dynamic_shared_size_bytes = 1 << 20
    kernel.max_dynamic_shared_size_bytes = 64 << 10
    kernel((1,), (64,), (out,), shared_mem=64 << 10)
    with pytest.raises(TypeError, match="expected tuple"):
        kernel([1], (64,), (out,))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ufuncs_and_kernels_have_the_same_bits(cp, dtype):
    from cupyx.scipy import special

    module, rng = cp.RawModule(code=FUNCTIONS), np.random.default_rng(0)
    x, y = (cp.asarray(rng.uniform(0.01, 4, 500).astype(dtype)) for _ in range(2))
    for name in ("exp", "log1p", "tanh", "sin", "arctan", "power", "hypot", "erf"):
        out, function = cp.empty_like(x), getattr(special if name == "erf" else cp, name)
        module.get_function(f"{name}_{dtype}")((1,), (500,), (out, x, y))
        got = function(x, y) if name in ("power", "hypot") else function(x)
        np.testing.assert_array_equal(got.get(), out.get(), strict=True, err_msg=name)
        if name != "erf":
            plain = getattr(np, name)(*((x.get(), y.get()) if name in ("power", "hypot") else (x.get(),)))
            np.testing.assert_allclose(got.get(), plain, rtol=1e-6 if dtype == "float32" else 1e-14)
    half = x.astype("float16")
    np.testing.assert_array_equal(cp.exp(half).get(), cp.exp(half.astype("float32")).astype("float16").get())
