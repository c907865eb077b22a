"""What programs hold is on the device when they are replayed: they run inside a capture, which allows no upload."""

import numpy as np
import pytest

import nnbackend as nb
from nnbackend import functional as F
from nnbackend.backend import KERNELS, cuda_status, library_backend, to_host
from nnbackend.backend.capture import Private, captured
from nnbackend.program import interpret
from nnbackend.program.record import Recording
from nnbackend.program.simplify import simplified

pytestmark = pytest.mark.skipif(not (cuda_status().usable and KERNELS), reason="needs CUDA, and its kernels")


def random(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype("float32")


def gradient(f):
    """With its value, by the first argument."""
    return lambda *args: nb.value_and_grad(lambda *args: nb.sum(f(*args)))(*args)


X = random(2, 3, 7, 9)
STEPS = {
    "max_pool with indices": (lambda x: F.max_pool2d(x, 3, 2, 1, return_indices=True), X),
    "avg_pool with counts": (gradient(lambda x: F.avg_pool2d(x, 3, 2, 1, True, count_include_pad=False)), X),
    "adaptive_max_pool": (gradient(lambda x: F.adaptive_max_pool2d(x, (2, 4))), X),
    "adaptive_avg_pool": (gradient(lambda x: F.adaptive_avg_pool2d(x, (2, 4))), X),
    "interpolate": (gradient(lambda x: F.interpolate(x, size=(5, 11), mode="bilinear")), X),
    "quantile_loss": (gradient(lambda x, y: F.quantile_loss(x, y, (0.1, 0.5))), random(4, 2), random(4)),
    "lengths": (
        lambda x, h, w, u: F.rnn_tanh(x, h, w, u, lengths=[5, 3], reverse=True),
        *(random(*shape) for shape in [(5, 2, 3), (2, 4), (4, 3), (4, 4)]),
    ),
    "concat": (lambda x: nb.concat([x * i for i in range(12)], axis=1), X),
    "stack": (lambda x: nb.stack([x * i for i in range(12)], axis=-1), X),
    "conv": (gradient(lambda x, w: F.conv2d(x, w, padding=1) ** 2), X, random(4, 3, 3, 3)),
    "depthwise": (gradient(lambda x, w: F.conv2d(x, w, padding=1, groups=3) ** 2), X, random(3, 1, 3, 3)),
}


@pytest.mark.parametrize("name", STEPS)
def test_a_program_uploads_nothing(name):
    step, *arrays = STEPS[name]
    place = nb.device("cuda")
    with place.stream():
        args = [nb.tensor(x, device=place) for x in arrays]
        with nb.no_grad():
            recording = Recording(step, tuple(args), {})
        assert recording.broken is None
        program, inputs = simplified(recording.program), [x.data for x in args]
        want = [to_host(y) for y in interpret.run(program, inputs)]
        graph, results = captured(lambda: interpret.run(program, inputs), Private())
        for _ in range(2):
            graph.launch()
            for y, w in zip(results, want, strict=True):
                np.testing.assert_array_equal(to_host(y), w)


KINDS = ("float32", "float64", "float16", "int8", "bool", "complex64", "complex128")


@pytest.mark.parametrize("dtype", KINDS)
def test_arrays_side_by_side(dtype):
    """As NumPy puts them: of several lengths, none among them, any number, along any axis; views, too."""
    xp, rng = library_backend("cupy").xp, np.random.default_rng(0)
    for count in (1, 2, 8, 9, 17):
        for axis in (-2, 0, 1, 2, None):
            shapes = [[2, 3, 4] for _ in range(count)]
            for i, shape in enumerate(shapes):
                shape[axis or 0] = 2 if axis is None else i % 4
            hosts = [rng.integers(0, 2, shape).astype(dtype) for shape in shapes]
            there = [xp.asarray(x) for x in hosts]
            want = np.concatenate(hosts, axis)
            got = xp.concat(there, axis=axis)
            assert got.dtype == dtype
            np.testing.assert_array_equal(to_host(got), want)
            turned = [x.swapaxes(0, 2).copy().swapaxes(0, 2) for x in there]
            np.testing.assert_array_equal(to_host(xp.concat(turned, axis=axis)), want)
        for axis in (-1, 0, 2):
            hosts = [rng.integers(0, 2, (3, 4)).astype(dtype) for _ in range(count)]
            got = xp.stack([xp.asarray(x) for x in hosts], axis=axis)
            np.testing.assert_array_equal(to_host(got), np.stack(hosts, axis))


def test_arrays_that_do_not_fit_side_by_side():
    """CuPy's own errors; of several dtypes the common one."""
    xp = library_backend("cupy").xp
    ones, more = xp.ones((2, 3)), xp.ones((3, 2))
    assert xp.concat([ones, xp.ones((2, 3), dtype=xp.float32)] * 5).dtype == xp.float64
    for arrays, axis in [([ones, more], 0), ([ones, more] * 5, 0), ([ones, ones], 2), ([ones, ones[0]], 0)]:
        with pytest.raises(ValueError, match=r"concatenat|axis|same|dimension"):
            xp.concat(arrays, axis=axis)
