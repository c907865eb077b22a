"""Mixed precision: what is rounded to 16 bits, how, and that nets train with it as they do without."""

import math
import pickle

import numpy as np
import pytest
from precision_case import bfloat_bits, put, random, rounded, scale

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn, optim
from nnbackend.backend import KERNELS, PRIMITIVES, cuda_status, to_host
from nnbackend.backend.narrow import Narrowing
from nnbackend.testing import no_synchronization

pytestmark = pytest.mark.skipif(not cuda_status().usable, reason="needs CUDA")
with_kernels = pytest.mark.skipif(not KERNELS, reason="without kernels nothing is rounded")
NARROW = ("bfloat16", "float16")
each_precision = pytest.mark.parametrize("precision", NARROW)


def close_products(got, a, b, precision, share=2e-6):
    """As sums in float32 of exact products of the rounded factors; tensor cores cut off where others round."""
    a, b = (rounded(x, precision) for x in (a, b))
    np.testing.assert_array_less(np.abs(got - a @ b), share * (np.abs(a) @ np.abs(b)) + 1e-38)


# -- the factors ----------------------------------------------------------------------------------------------------


def views(x):
    """Of an array (6, 5, 3, 4, 7): all ways in which factors lie in memory."""
    yield from (
        x,
        x[0, 0, 0],
        x[0, 0, 0].T,
        x[:, :, 1].transpose(0, 2, 1, 3),
        x.transpose(4, 3, 2, 1, 0),
        x[1, 2, :, 1:],
    )
    yield from (x[:, 2, 1, 0], x[..., :3], x[0, 0, 0, :, 2:3], x[0, 0, 0, 1:2].T, x[0, 0, 0, :, ::2], x[0, 0, 0, ::-1])
    yield from (x[:1], x[2:4, :, :, 1, 1:6].mT)


def check_factor(x, factor, laid_out, precision):
    host = to_host(x)
    if precision == "bfloat16":
        want = bfloat_bits(host)
    else:
        want = (host * np.float64(scale(host))).astype(np.float16).view(np.uint16)
    got = to_host(laid_out)
    np.testing.assert_array_equal(got.view(np.uint16), want)
    assert factor.size <= host.size
    if min(x.shape) > 1 and min(x.strides) > 0 and min(x.strides[-2:]) == 4:
        order, same = (sorted(range(x.ndim), key=lambda i: y.strides[i]) for y in (x, laid_out))
        assert order == same


@each_precision
def test_factors_lie_in_memory_as_they_did(precision):
    (base, other), cupy = put(random(6, 5, 3, 4, 7), random(9, 4)), pytest.importorskip("cupy")
    stacks = [cupy.broadcast_to(base[0, 0, 0], (3, 4, 7)), cupy.broadcast_to(base[0, 0, 0, :1], (4, 7))]
    for x in (*views(base), *stacks):
        for pair in ((x, other), (other.T, x)):
            narrow = Narrowing(*pair, precision)
            factors = narrow(*pair)
            for one in zip(pair, factors[:2], narrow.laid_out(factors), strict=True):
                check_factor(*one, precision)
            if precision == "float16":
                assert to_host(factors.back).tolist() == [1 / scale(to_host(pair[0])) / scale(to_host(pair[1])), 0.0]


@each_precision
def test_every_kind_of_number_is_rounded_to_nearest_even(precision):
    """All exponents, ties, subnormal numbers, NaN and infinities; a quarter of a million numbers, for many blocks."""
    bits = np.random.default_rng(0).integers(0, 2**32, 1 << 18, np.uint32)
    bits[::3] &= 0xFFFF8000  # ties of bfloat16
    bits[1::3] &= 0xFFFFF000  # ties of float16
    bits[: 1 << 16] = np.arange(1 << 16) << 16
    x = bits.view(np.float32)
    mild = np.clip(x, -1e20, 1e20) if precision == "float16" else x
    for host in (x.reshape(1024, -1), mild.reshape(2, -1), np.where(np.abs(x) < 1e-3, x, 0).reshape(1, -1)):
        (y,) = put(host)
        narrow = Narrowing(y, y, precision)
        with np.errstate(over="ignore", invalid="ignore"):
            for factor in narrow(y, y)[:2]:
                got = to_host(factor)
                if precision == "bfloat16":
                    subnormal = np.abs(host.ravel()) < 1.2e-38  # which some GPU code takes for 0
                    np.testing.assert_array_equal(got[~subnormal], bfloat_bits(host).ravel()[~subnormal])
                else:
                    np.testing.assert_array_equal(got, (host * np.float64(scale(host))).astype(np.float16).ravel())


# -- products -------------------------------------------------------------------------------------------------------


def product(precision, a, b, of="product"):
    with nb.device("cuda", precision=precision).stream():
        return to_host(PRIMITIVES[of](*put(a, b)))


@with_kernels
@each_precision
def test_products_are_those_of_rounded_factors(precision):
    a, b = random(33, 70), random(70, 19, seed=1)
    got = product(precision, a, b)
    assert got.dtype == np.float32
    close_products(got, a, b, precision)
    assert np.max(np.abs(got - a @ b)) > 1e-3  # it is no full product
    place = nb.device("cuda", precision=precision)
    (x,) = put(random(6, 5, 3, 4, 7))
    with place.stream():
        for left, right in (
            (x[0, 0], x[1, 1].mT),  # stacks
            (x[:, :, 1].transpose(0, 2, 1, 3), x[:, :, 0].transpose(0, 2, 3, 1)),  # heads of attention
            (x[0, 0, 0, :, 1:5], x[0, 0, 1, :, 2:6].T),  # parts of rows
            (x[0, 0, :1], x[0, 1].mT),  # broadcast
            (x[0, 0, 0], x[0, 0, 0].T),
        ):
            close_products(to_host(PRIMITIVES["product"](left, right)), to_host(left), to_host(right), precision)
        w, bias = put(random(19, 70, seed=2), random(19, seed=3))
        got = to_host(PRIMITIVES["affine"](place.put(a), w, bias)) - to_host(bias)
        close_products(got, a, to_host(w).T, precision, 4e-6)


@with_kernels
@pytest.mark.parametrize("exponent", range(-44, 39, 4))
def test_float16_covers_what_float32_does(exponent):
    """Factors of every size: as exact as anywhere from 1e-19 to 6e23; below, fewer digits, and at last nothing."""
    size = np.float32(10.0) ** np.float32(exponent)
    a, b = random(5, 40) * size, random(40, 3, seed=1)
    with np.errstate(over="ignore", under="ignore"):
        got, want = product("float16", a, b), a.astype(np.float64) @ b.astype(np.float64)
    if exponent > 23:
        assert not np.isfinite(got).all()
        return
    close_products(got, a, b, "float16")
    if exponent >= -19:
        np.testing.assert_array_less(np.abs(got - want), 1e-3 * (np.abs(a) @ np.abs(b)).astype(np.float64))
    if exponent < -28:
        np.testing.assert_array_equal(got, 0.0)


@with_kernels
@each_precision
def test_nan_infinities_and_zeros_stay_what_they_are(precision):
    a, b = random(4, 6), random(6, 3, seed=1)
    np.testing.assert_array_equal(product(precision, np.zeros_like(a), b), 0.0)
    np.testing.assert_array_equal(product(precision, np.zeros_like(a), np.zeros_like(b)), 0.0)
    a[1, 2], a[2, 3], a[3, 0] = np.nan, np.inf, -np.inf
    got = product(precision, a, b)
    assert np.isnan(got[1]).all()
    np.testing.assert_array_equal(got[2:], np.inf * np.sign(np.stack([b[3], -b[0]])))
    close_products(got[:1], np.where(np.isfinite(a), a, 0)[:1], b, precision)  # the others are as exact as before


@with_kernels
def test_one_large_number_leaves_28_octaves_to_the_others():
    a, b = np.ones((2, 8), np.float32), np.ones((8, 1), np.float32)
    a[0, 0], a[1] = 2.0**20, 2.0**-8 * (1 + 2.0**-10)
    np.testing.assert_array_equal(product("float16", a, b)[1], 2.0**-5 * (1 + 2.0**-10))


def test_other_numbers_and_other_products_are_not_rounded():
    """float64, float16 and whole numbers; `linalg`, and what optimizers multiply for themselves."""
    square = random(8, 8) + 4 * np.eye(8, dtype=np.float32)

    def done(precision):
        found = []
        place = nb.device("cuda", precision=precision)
        with place.stream():
            for dtype in ("float64", "float16", "int64"):
                a = nb.tensor((square * 3).astype(dtype), device=place)
                found.append((a @ a).numpy())
            a = nb.tensor(square, device=place)
            found += [
                nb.linalg.inv(a).numpy(),
                nb.linalg.solve(a, a[:, :3]).numpy(),
                nb.linalg.cholesky(a @ a.mT).numpy(),
            ]
            w = nn.Parameter(a)
            w.grad = nb.tensor(random(8, 8, seed=1), device=place)
            optim.Muon([w]).step()
            found.append(w.numpy())
        return found

    plain = done("ieee")
    for precision in NARROW:
        for i, (got, want) in enumerate(zip(done(precision), plain, strict=True)):
            if i != 5:  # there the factor itself is a product
                np.testing.assert_array_equal(got, want)


# -- training -------------------------------------------------------------------------------------------------------

DIGITS = nb.data.digits()
X, LABELS = (DIGITS.X[:320] / 16).astype(np.float32), DIGITS.y[:320]
ROWS = X[:80].reshape(-1, 4, 16)


class Reader(nn.Module):
    """Rows of pixels one after the other."""

    def __init__(self, body, width):
        self.body, self.head = body, nn.Linear(width, 10)

    def forward(self, x):
        y = self.body(x)
        return self.head(nb.mean(y[0] if isinstance(y, tuple) else y, axis=1))


def cnn():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))


NETS = {  # and steps
    "mlp": (lambda: nn.MLP([64, 32, 10]), X, 16),
    "cnn": (cnn, X[:80].reshape(-1, 1, 8, 8), 8),
    "transformer": (lambda: Reader(nn.TransformerEncoderLayer(16, 2, 8, batch_first=True), 16), ROWS, 6),
    "lstm": (lambda: Reader(nn.LSTM(16, 8, batch_first=True), 8), ROWS, 6),
}


def learned(make, x, steps, precision):
    """The loss of all after some steps, each with 40 of the images."""
    place = nb.device("cuda", precision=precision)
    with place.stream():
        net, labels = make().init(0).to(place), nb.tensor(LABELS[: len(x)], device=place)
        x = nb.tensor(x, device=place)
        optimizer = optim.Adam(net.parameters(), lr=0.01)
        for i in range(steps):
            rows = slice(40 * i % len(x), 40 * i % len(x) + 40)
            optimizer.zero_grad()
            F.cross_entropy(net(x[rows]), labels[rows]).backward()
            optimizer.step()
        assert {p.dtype for p in net.parameters()} == {np.dtype(np.float32)}
        return float(F.cross_entropy(net(x), labels))


@pytest.mark.parametrize("name", NETS)
def test_nets_learn_as_much(name):
    plain, start = learned(*NETS[name], "ieee"), learned(*NETS[name][:2], 0, "ieee")
    assert plain < 0.99 * start
    for precision in NARROW:
        loss = learned(*NETS[name], precision)
        assert loss == pytest.approx(plain, rel=0.01)
        assert not KERNELS or loss != plain


def fitted(net, precision, x, epochs):
    place = nb.device("cuda", precision=precision)
    trainer = nb.Trainer(net, "cross_entropy", optim.Adam(lr=0.01), device=place, seed=0)
    return trainer, trainer.fit(x, LABELS[: len(x)], epochs=epochs, batch_size=40, verbose=False)


def slope(net, x, t, size):
    """The gradients of `size` times a loss, over `size`."""
    for p in net.parameters():
        p.grad = None
    (F.mse_loss(net(x), t) * size).backward()
    return [p.grad.numpy().astype(np.float64) / size for p in net.parameters()]


@with_kernels
@each_precision
@pytest.mark.parametrize("size", [1e-4, 1e-8, 1e-12])
def test_small_gradients_are_as_good_as_large_ones(precision, size):
    """Of a loss so small that float16 models lose their gradients."""
    net, x, t = nn.MLP([6, 8, 2], "tanh").init(0), random(10, 6), random(10, 2, seed=1)
    place = nb.device("cuda", precision=precision)
    size = 2.0 ** round(math.log2(size))
    with place.stream():
        net.to(place)
        ours = [nb.tensor(part, device=place) for part in (x, t)]
        for got, want in zip(slope(net, *ours, size), slope(net, *ours, 1.0), strict=True):
            np.testing.assert_array_equal(got, want)
    if size < 1e-6:
        net.to("float16")
        assert not any(np.any(g) for g in slope(net, *(x.astype("float16") for x in ours), np.float32(size).item())[:2])


@each_precision
def test_nothing_waits(precision):
    place = nb.device("cuda", precision=precision)
    with place.stream():
        net, x = cnn().init(0).to(place), nb.tensor(X[:40].reshape(-1, 1, 8, 8), device=place)
        labels, optimizer = nb.tensor(LABELS[:40], device=place), optim.SGD(net.parameters(), lr=0.1)

        def step():
            optimizer.zero_grad()
            F.cross_entropy(net(x), labels).backward()
            optimizer.step()

        step()
        with no_synchronization():
            step()


@pytest.mark.parametrize("rule", ["Adam", "Muon"])
def test_a_recorded_step_follows_the_precision_it_is_called_in(rule):
    """The bits of a plain one; recorded, run, captured and launched in turn with others."""

    def run(prepared):
        net = nn.Sequential(nn.Linear(6, 8, bias=False), nn.Tanh(), nn.Linear(8, 2, bias=False)).init(0).to("cuda")
        x, t = (nb.tensor(part, device="cuda") for part in (random(10, 6), random(10, 2, seed=1)))
        optimizer, found = getattr(optim, rule)(net.parameters(), lr=0.01), []

        @prepared
        def step(x, t):
            optimizer.zero_grad()
            loss = F.mse_loss(net(x), t)
            loss.backward()
            optimizer.step()
            return loss

        for precision in ("ieee", *NARROW, *NARROW, "ieee", *NARROW, *NARROW):
            with nb.device("cuda", precision=precision).stream():
                found.append(step(x, t).numpy().tobytes())
        return found, [p.numpy().tobytes() for p in net.parameters()]

    assert run(nb.compile) == run(lambda step: step)


@each_precision
def test_a_fit_goes_on_exactly_and_in_another_precision(precision, tmp_path):
    make, x = NETS["mlp"][0], X[:120]
    trainer, _ = fitted(make(), precision, x, 1)
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    trainer.fit(x, LABELS[:120], epochs=2, batch_size=40, verbose=False)
    runs = {}
    for other in (precision, "ieee"):
        again = nb.Trainer.resume(tmp_path / "one.ckpt", device=nb.device("cuda", precision=other))
        assert again.device.precision == other
        again.fit(x, LABELS[:120], epochs=2, batch_size=40, verbose=False)
        runs[other] = [p.numpy().tobytes() for p in again.net.parameters()]
    assert runs[precision] == [p.numpy().tobytes() for p in trainer.net.parameters()]
    assert not KERNELS or runs["ieee"] != runs[precision]


# -- devices --------------------------------------------------------------------------------------------------------


@each_precision
def test_it_belongs_to_the_device_asked_for(precision):
    place = nb.device("cuda", precision=precision)
    assert place == nb.device("cuda")
    assert repr(place) == f"device('cuda:0', precision={precision!r})"
    assert pickle.loads(pickle.dumps(place)).precision == precision
    assert nb.device(place).precision == precision
    a = nb.tensor(random(9, 9), device=place)
    plain = (a @ a).numpy()
    with place.stream():
        inside = (a @ a).numpy()
        with nb.device("cuda").stream():
            np.testing.assert_array_equal((a @ a).numpy(), plain)
        np.testing.assert_array_equal((a @ a).numpy(), inside)
    assert not KERNELS or np.any(inside != plain)
    np.testing.assert_array_equal((a @ a).numpy(), plain)


@with_kernels
def test_a_comparison_of_devices_shows_what_it_does():
    net, x, t = nn.MLP([64, 16, 10]).init(0), X[:40], LABELS[:40]
    places = [nb.device("cuda", precision=precision) for precision in ("ieee", "bfloat16")]
    found = nb.compare_devices(net, x, t, "cross_entropy", places)
    assert not found
    assert found.first.path == "0"
    assert found.devices == ("cuda:0", "cuda:0 bfloat16")
    assert nb.compare_devices(net, x, t, "cross_entropy", places[:1] * 2)


def test_on_other_devices_it_has_no_effect():
    a = nb.tensor(random(5, 5))
    place = nb.device("cpu", precision="bfloat16")
    assert repr(place) == "device('cpu', precision='bfloat16')"
    with place.stream():
        np.testing.assert_array_equal((a @ a).numpy(), a.numpy() @ a.numpy())


@with_kernels
def test_estimators_predict_in_the_precision_they_are_fitted_in():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((40, 8)).astype("float32"), rng.standard_normal(40).astype("float32")
    exact = nb.MLPRegressor(hidden=(16,), epochs=1, device="cuda", random_state=0).fit(X, y)
    rounded = nb.MLPRegressor(hidden=(16,), epochs=1, device="cuda", random_state=0).fit(X, y)
    rounded.net_, rounded.device = exact.net_, nb.device("cuda", precision="bfloat16")
    a, b = exact.predict(X), rounded.predict(X)
    assert (a != b).any()
    np.testing.assert_allclose(a, b, rtol=0.05, atol=0.05)
