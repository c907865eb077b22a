"""a x + b y in one call of BLAS: the same numbers as NumPy's, wherever the result goes."""

import numpy as np
import pytest

import nnbackend as nb
from nnbackend import nn, optim
from nnbackend.backend import NUMPY, numpy_blas
from nnbackend.backend.numpy_blas import LONG, axpby

FLOATS = pytest.mark.parametrize("dtype", ["float32", "float64"])


def test_numpys_own_blas_has_it():
    assert numpy_blas._blas(np.dtype("float32")) is not None
    assert numpy_blas._blas(np.dtype("float16")) is None


@FLOATS
@pytest.mark.parametrize("n", [1, LONG - 1, LONG, 3 * LONG + 5])
@pytest.mark.parametrize("where", ["elsewhere", "x", "y", "both"])
@pytest.mark.parametrize("factors", [(0.5, -0.25), (np.asarray(2.0, "float32"), 1.0), (0.0, 1.0), (1.0, 0.0)])
def test_values(dtype, n, where, factors):
    rng = np.random.default_rng(n)
    x, y = rng.standard_normal((2, n)).astype(dtype)
    y = x if where == "both" else y
    (a, b), out = factors, {"x": x, "y": y, "both": x}.get(where, np.full(n, np.nan, dtype))
    want = float(a) * x.astype("float64") + b * y.astype("float64")
    axpby(a, x, b, y, out)
    assert out.dtype == dtype
    np.testing.assert_allclose(out, want, 4 * np.finfo(dtype).eps, 4 * np.finfo(dtype).eps)


@FLOATS
def test_layouts_that_blas_does_not_take(dtype):
    x, y, out = np.random.default_rng(0).standard_normal((3, 256, 100)).astype(dtype)
    for given, place in ((x[:, ::2], out[:, :50]), (x.T, out.T), (x[::-1], out)):
        want = 0.5 * given + 2.0 * given
        axpby(0.5, given, 2.0, given.copy(), place)
        np.testing.assert_allclose(place, want, 1e-6)
    x[0, 0] = np.nan
    axpby(0.0, x, 1.0, y, out)
    assert np.isnan(out[0, 0])


@FLOATS
def test_updates_in_place(dtype):
    x, y = np.random.default_rng(0).standard_normal((2, 2 * LONG)).astype(dtype)
    want = 0.9 * y + 0.1 * x
    NUMPY.blend(y, 0.9, x, 0.1)
    np.testing.assert_allclose(y, want, 1e-6, 1e-7)
    NUMPY.descend(y, 0.5, x[:1])  # one for all
    np.testing.assert_allclose(y, want - 0.5 * x[0], 1e-6, 1e-6)


@FLOATS
def test_many_weights_in_a_recorded_step(dtype):
    def run(compiled):
        rng = np.random.default_rng(3)
        params = [nn.Parameter(rng.standard_normal(s).astype(dtype)) for s in [(100, 120), (2, 30_000)]]
        adam = optim.Adam(params, lr=0.01)

        def step(x, y):
            adam.zero_grad()
            z = 0.5 * params[1] - x * 2.0
            loss = ((params[0] - 0.25 * y) ** 2).sum() + (z + 3.0 * x).sum() * 1e-3
            loss.backward()
            adam.step()
            return loss

        step = nb.compile(step, fallback=False) if compiled else step
        x, y = (nb.tensor(rng.standard_normal(s).astype(dtype)) for s in [(2, 30_000), (100, 120)])
        losses = [step(x, y).item() for _ in range(6)]
        return losses, [p.numpy() for p in params], step

    (eager, weights, _), (losses, replayed, step) = run(False), run(True)
    np.testing.assert_allclose(losses, eager, 1e-5)
    for p, q in zip(weights, replayed, strict=True):
        np.testing.assert_allclose(q, p, 1e-5, 1e-6)
    assert sum(n.op == "axpby" for n in step._latest.replay.program.nodes) >= 3
