"""The CUDA kernel of random numbers, compiled for the CPU: NumPy's numbers, bit for bit. And what NVRTC says of it."""

import ctypes
import itertools
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from nvrtc_case import compiled

from nnbackend.backend import NUMPY, kernels
from nnbackend.backend.kernels import source
from nnbackend.random import generator, integers_like

TOP = 2**64 - 1
KERNELS = {  # kernel: dtype, numbers that one thread makes
    "words": (np.uint64, 4),
    "uniform_float64": (np.float64, 4),
    "uniform_float32": (np.float32, 8),
    "uniform_float16": (np.float16, 8),
}
CUDA = Path(kernels.__file__).with_name("cuda")
GUARD = 16  # elements behind the array that must stay as they are


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    folder = tmp_path_factory.mktemp("philox")
    shim = Path(__file__).with_name("philox_shim.hpp").read_text()
    (folder / "random.cpp").write_text(shim + source("random.cu"))
    command = [compiler, "-std=c++17", "-O2", "-shared", "-fPIC", "-o", "random.so", "random.cpp"]
    subprocess.run(command, cwd=folder, check=True)
    return ctypes.CDLL(str(folder / "random.so"))


@pytest.fixture(scope="module")
def launch(library):
    """Run a kernel: the first `n` numbers at a counter, and nothing behind them written."""
    start = library.launch

    def run(kernel, counter, key, n, threads=4):
        dtype, together = KERNELS[kernel]
        out = np.empty(n + GUARD, dtype)
        out.view(np.uint8)[:] = 0xAB
        a = (ctypes.c_uint64 * 6)(*(counter >> 64 * i & TOP for i in range(4)), key & TOP, key >> 64)
        size, blocks = ctypes.c_int64(n), -(-n // (together * threads))
        start(getattr(library, kernel), 0, blocks, threads, out.ctypes.data_as(ctypes.c_void_p), size, a)
        assert np.all(out[n:].view(np.uint8) == 0xAB)
        return out[:n]

    return run


def numpy_at(counter, key):
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def references(counter, key, n):
    """What NumPy draws: by name, how it follows from the numbers of which kernel, and the numbers wanted."""
    singles, whole = numpy_at(counter, key).random(n, np.float32), numpy_at(counter, key).integers(0, 256, n)
    yield "words", lambda x: x, np.random.Philox(key=key, counter=counter).random_raw(n)
    yield "uniform_float64", lambda x: x, numpy_at(counter, key).random(n)
    yield "uniform_float32", lambda x: x, singles
    yield "uniform_float16", lambda x: x, (np.floor(singles * 2048.0) / 2048.0).astype(np.float16)
    yield "uniform_float32", lambda x: x < 0.3, singles < 0.3
    yield "uniform_float64", lambda x: x < 0.7, numpy_at(counter, key).random(n) < 0.7
    yield "words", lambda x: (x.view(np.uint32) >> 24)[: len(x)], whole


def test_the_kernel_draws_what_numpy_draws(launch):
    """20,300 comparisons: carries and wraps of the counter, lengths that end within a block, every form."""
    rng = np.random.default_rng(0)

    def anything(bits):
        return int.from_bytes(rng.bytes(bits // 8), "little")

    edges = [0, 1, 2**64 - 3, 2**64 - 2, 2**64 - 1, 2**128 - 2, 2**192 - 2, 2**256 - 2, 2**256 - 1]
    counters = [*edges, *(anything(256) for _ in range(20))]
    keys = [0, 1, 2**64 - 1, 2**128 - 1, *(anything(128) for _ in range(6))]
    compared = 0
    for counter, key in itertools.product(counters, keys):
        forms = list(references(counter, key, 1000))
        for n in (1, 2, 3, 4, 5, 7, 8, 9, 33, 1000):
            drawn = {kernel: launch(kernel, counter, key, n) for kernel in KERNELS}
            for kernel, form, want in forms:
                got = form(drawn[kernel])
                assert got.tobytes() == want[: len(got)].astype(got.dtype).tobytes(), (kernel, counter, key, n)
                compared += 1
    assert compared == 20_300


@pytest.mark.parametrize("kernel", KERNELS)
def test_sizes_have_64_bits(kernel, library):
    """The last of more than 2**32 threads: the array is there only for them, and begins far before its memory."""
    dtype, together = KERNELS[kernel]
    threads, n, kept = 256, 2**36 + 5, 3 * 256 * together
    blocks = -(-n // (threads * together))
    first = blocks - 2
    begin = first * threads * together  # the number where these blocks start
    out = np.zeros(kept, dtype)
    base = ctypes.c_void_p(out.ctypes.data - begin * out.itemsize)
    a = (ctypes.c_uint64 * 6)(2**64 - 9, 1, 2, 3, 4, 5)
    library.launch(getattr(library, kernel), first, 2, threads, base, ctypes.c_int64(n), a)
    counter = sum(a[i] << 64 * i for i in range(4)) + begin // together
    draw = {name: want for name, _, want in list(references(counter, 4 | 5 << 64, n - begin))[:4]}
    np.testing.assert_array_equal(out[: n - begin], draw[kernel])
    assert not out[n - begin :].any()


@pytest.mark.parametrize("high", [1, 2, 10, 1000, 50257, 2**31 + 1, 3 * 2**30, 2**32 - 1, 2**32, 2**32 + 1, 2**63])
def test_whole_numbers_from_the_kernel(high, launch, monkeypatch):
    """As on CUDA: the kernel's words, and the rest in array operations."""

    def words(x, key, site, step, rank=0):
        return launch("words", site << 64 | step << 128 | rank << 192, key, x.size).reshape(x.shape)

    monkeypatch.setattr(NUMPY, "overrides", {"words_like": words})
    for key, (site, step, rank) in itertools.product((0, 2**128 - 1), ((0, 0, 0), (TOP, 3, 2), (5, TOP, TOP))):
        want = generator(key, site, step, rank).integers(0, high, (9, 37))
        np.testing.assert_array_equal(integers_like(np.empty((9, 37)), high, key, site, step, rank), want)


def test_the_text_has_one_copy_of_what_it_includes():
    text = source("random.cu")
    assert '#include "' not in text
    assert text.count("struct Address {") == 1


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
@pytest.mark.parametrize("name", sorted(path.name for path in CUDA.glob("*.cu")))
def test_nvrtc_compiles_all_kernels_without_spills(name, architecture):
    text = compiled(source(name), architecture)
    assert set(re.findall(r"(\d+) bytes spill", text)) == {"0"}
    if name == "random.cu":
        assert set(re.findall(r"entry function '(\w+)'", text)) == set(KERNELS)
        assert max(map(int, re.findall(r"Used (\d+) registers", text))) <= 40
