"""Initialisers: PyTorch's settings and shapes, exact properties, distributions, one seed one draw on every device."""

import math
import pickle

import numpy as np
import pytest
from frozen import PLACES

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn
from nnbackend.errors import InplaceError, ShapeError

init = nn.init
close, equal = np.testing.assert_allclose, np.testing.assert_array_equal
GAINS = {  # torch.nn.init.calculate_gain
    "linear": 1.0, "conv1d": 1.0, "conv2d": 1.0, "conv3d": 1.0, "conv_transpose1d": 1.0, "conv_transpose2d": 1.0,
    "conv_transpose3d": 1.0, "sigmoid": 1.0, "tanh": 1.6666666666666667, "relu": 1.4142135623730951,
    "leaky_relu": 1.4141428569978354, "selu": 0.75,
}  # fmt: skip
BOUNDS = {  # the bounds that torch draws between: xavier 2.0; kaiming; kaiming 0.5, fan_out; kaiming 0, fan_out, tanh
    (6, 4): (1.5491933384829666, 1.2247448713915892, 0.894427190999916, 1.1785113019775793),
    (6, 4, 3, 5): (0.4, 0.31622776601683794, 0.2309401076758503, 0.30429030972509225),
    (8, 2, 3): (0.8944271909999157, 1.0, 0.447213595499958, 0.5892556509887896),
}
EVERY = {  # the settings each in-place spelling is tried with, and a shape
    "zeros": ((), (3, 4)), "ones": ((), (3, 4)), "eye": ((), (3, 4)), "constant": ((0.5,), (3, 4)),
    "uniform": ((-1.0, 2.0), (3, 4)), "normal": ((1.0, 2.0), (3, 4)), "trunc_normal": ((0.0, 1.0, -1.0, 0.5), (3, 4)),
    "xavier_uniform": ((2.0,), (3, 4)), "xavier_normal": ((), (3, 4)), "kaiming_uniform": ((0.1, "fan_out"), (3, 4)),
    "kaiming_normal": ((0.0, "fan_in", "relu"), (3, 4)), "lecun_uniform": ((), (3, 4)), "lecun_normal": ((), (3, 4)),
    "orthogonal": ((2.0,), (3, 4)), "sparse": ((0.5, 0.1), (4, 3)), "dirac": ((2,), (4, 2, 3)),
}  # fmt: skip


def made(name, settings):
    """The initialiser of that name."""
    factory = getattr(init, name)
    return factory if name in ("zeros", "ones", "eye") else factory(*settings)


def rng(seed=0):
    return np.random.default_rng(seed)


class Highest:
    """A generator that draws the upper bound."""

    def uniform(self, a, b, shape):
        assert a == -b
        return np.full(shape, b)


def test_gains_are_those_of_torch():
    assert {name: init.calculate_gain(name) for name in GAINS} == GAINS
    assert init.calculate_gain("leaky_relu", 0.2) == 1.3867504905630728
    assert init.calculate_gain("leaky_relu", 1) == 1.0
    with pytest.raises(ValueError, match=r"expected one of conv1d, .* got 'gelu'"):
        init.calculate_gain("gelu")
    for bad in (True, "0.1"):
        with pytest.raises(ValueError, match="slope of leaky_relu"):
            init.calculate_gain("leaky_relu", bad)


@pytest.mark.parametrize("shape", BOUNDS)
def test_fans_are_those_of_torch(shape):
    draws = (
        init.xavier_uniform(2.0),
        init.kaiming_uniform(),
        init.kaiming_uniform(0.5, "fan_out"),
        init.kaiming_uniform(mode="fan_out", nonlinearity="tanh"),
    )
    for draw, bound in zip(draws, BOUNDS[shape], strict=True):
        close(draw(Highest(), shape), np.full(shape, bound), rtol=1e-15)


@pytest.mark.parametrize("name", EVERY)
def test_every_initialiser(name):
    """Float64 of the shape asked for, the same from the same seed, and it can be pickled."""
    settings, shape = EVERY[name]
    draw = made(name, settings)
    values = draw(rng(), shape)
    assert (values.shape, values.dtype) == (shape, "float64")
    equal(draw(rng(), shape), values)
    equal(pickle.loads(pickle.dumps(draw))(rng(), shape), values)
    assert values.any() == (name != "zeros")


@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize("name", EVERY)
def test_every_spelling_of_torch(name, place):
    """The values of `net.init(seed)`, wherever the parameter lives; its own dtype, and fresh."""
    settings, shape = EVERY[name]
    for dtype in ("float64", "float32"):
        net = nn.Module()
        net.w = p = nn.Parameter(nb.full(shape, 7.0, dtype=dtype, device=place))
        fill = getattr(init, f"{name}_")
        assert fill.__name__ == f"{name}_"
        assert fill(p, *settings, generator=3) is p
        assert (str(p.dtype), p.device, p.requires_grad, p.fresh) == (dtype, nb.device(place), True, True)
        values = nb.asarray(p.to("cpu")).numpy().copy()
        on_host = nn.Parameter(nb.zeros(shape, dtype=dtype))
        on_host.name = "w"
        equal(getattr(init, f"{name}_")(on_host, *settings, generator=3).numpy(), values)
        net.init(3)
        equal(p.to("cpu").numpy(), values)
        fill(p, *settings)  # from fresh entropy
        assert (p.to("cpu").numpy() == values).all() == (name in ("zeros", "ones", "eye", "constant", "dirac"))


def test_nothing_changes_when_a_draw_fails():
    p = nn.Parameter(nb.tensor([1.0, 2.0]), initialiser=init.ones)
    with pytest.raises(ShapeError, match=r"at least 2 axes, got shape \(2,\)"):
        init.xavier_uniform_(p)
    with pytest.raises(ValueError, match="got 'fan'"):
        init.kaiming_uniform_(p, mode="fan")
    with pytest.raises(TypeError):
        init.normal_(p, deviation=2.0)
    equal(p.numpy(), [1.0, 2.0])
    assert p.initialiser is init.ones
    with pytest.raises(TypeError, match=r"normal_: expected a Parameter, got Tensor\. Use nn\.Parameter"):
        init.normal_(nb.zeros(2))


def test_a_draw_is_a_change_in_place():
    p = nn.Parameter(nb.tensor([1.0, 2.0]))
    y = (p * p).sum()
    init.ones_(p)
    with pytest.raises(InplaceError):
        y.backward()


def test_two_parameters_with_one_seed_differ():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    for layer in net:
        init.normal_(layer.weight, generator=0)
    assert (net[0].weight.numpy() != net[1].weight.numpy()).all()


# -- distributions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("draw", "function"),
    [
        (init.kaiming_normal(), F.relu),
        (init.kaiming_uniform(nonlinearity="relu"), F.relu),
        (init.kaiming_normal(0.3), lambda x: F.leaky_relu(x, 0.3)),
        (init.lecun_normal(), F.selu),
        (init.lecun_uniform(), lambda x: x),
        (init.xavier_normal(), lambda x: x),
    ],
)
def test_activations_keep_their_size_through_20_layers(draw, function):
    g = rng(1)
    x, sizes = nb.tensor(g.standard_normal((64, 512))), []
    for _ in range(20):
        x = x @ nb.tensor(draw(g, (512, 512)).T)
        sizes.append((x * x).mean().item())
        x = function(x)
    assert 1 / 3 < sizes[-1] / sizes[0] < 3  # a gain off by a tenth would make it 6.7 times as large


def test_fan_out_keeps_the_size_of_gradients():
    g = rng(2)
    x = nb.tensor(g.standard_normal((64, 300)), requires_grad=True)
    y = x
    for n, m in ((300, 500), (500, 700), (700, 300)) * 3:
        y = F.relu(y @ nb.tensor(init.kaiming_normal(mode="fan_out")(g, (m, n)).T))
    y.backward(nb.tensor(g.standard_normal(y.shape)))
    assert 0.6 < (x.grad * x.grad).mean().item() < 1.6


def test_trunc_normal():
    inf = math.inf
    for mean, std, a, b, expected, variance in [  # the last two are of scipy.stats.truncnorm
        (0.0, 1.0, -2.0, 2.0, 0.0, 0.7737413035499232),
        (0.0, 0.02, -2.0, 2.0, 0.0, 0.0004),
        (1.0, 2.0, -inf, 1.5, -0.29167874203363464, 1.6857266563615898),
        (0.0, 1.0, 3.0, 4.0, 3.2604542855900243, 0.04927779377738217),
        (0.0, 1.0, 10.0, inf, 10.098093233962564, 0.009445377825130441),
        (5.0, 0.5, -1.0, 1.0, 0.9393159438819101, 0.003581220860696843),
    ]:
        x = init.trunc_normal(mean, std, a, b)(rng(), (200, 500))
        assert a <= x.min()
        assert x.max() <= b
        close(x.mean(), expected, atol=4 * math.sqrt(variance / x.size))
        close(x.var(), variance, rtol=0.03)
    equal(init.trunc_normal(0.0, 1.0, 3.0, 3.0)(rng(), (2,)), [3.0, 3.0])
    far = init.trunc_normal(0.0, 1.0, 1e200, inf)(rng(), (2,))
    equal(far, [1e200, 1e200])
    assert init.trunc_normal()(rng(), ()).shape == ()
    assert init.trunc_normal()(rng(), (0, 3)).shape == (0, 3)
    for bad in ({"std": 0.0}, {"a": 1.0, "b": 0.0}, {"mean": 0.0, "a": math.nan}):
        with pytest.raises(ValueError, match="expected std > 0 and a <= b"):
            init.trunc_normal(**bad)


# -- exact properties -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 5), (7, 3), (3, 7), (4, 2, 3, 3), (30, 2, 3), (1, 4)])
def test_orthogonal(shape):
    q = init.orthogonal(3.0)(rng(), shape).reshape(shape[0], -1)
    short = q if q.shape[0] <= q.shape[1] else q.T
    close(short @ short.T, 9.0 * np.eye(len(short)), atol=1e-13)


def test_orthogonal_matrices_are_equally_likely():
    """Without the signs of R the diagonal would be negative almost always."""
    q = np.stack([init.orthogonal()(rng(seed), (3, 3)) for seed in range(400)])
    close(q.mean(axis=0), np.zeros((3, 3)), atol=4 / math.sqrt(3 * 400))
    assert init.orthogonal()(rng(), (0, 3)).shape == (0, 3)


def test_sparse():
    w = init.sparse(0.33, std=2.0)(rng(), (100, 40))
    equal((w == 0.0).sum(axis=0), np.full(40, 33))
    assert len({tuple(column == 0.0) for column in w.T}) == 40
    close(w[w != 0.0].std(), 2.0, rtol=0.05)
    equal((init.sparse(0.5)(rng(), (3, 2)) == 0.0).sum(axis=0), [2, 2])  # rounded up, as in torch
    equal(init.sparse(1.0)(rng(), (3, 2)), np.zeros((3, 2)))
    for bad in (-0.1, 1.5):
        with pytest.raises(ValueError, match="from 0 to 1"):
            init.sparse(bad)


def test_eye_passes_on_what_a_linear_layer_gets():
    layer = nn.Linear(4, 3, bias=False)
    init.eye_(layer.weight)
    x = nb.tensor(rng().standard_normal((2, 4)).astype("float32"))
    equal(layer(x).numpy(), x[:, :3].numpy())


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2])
def test_dirac_passes_on_what_a_convolution_gets(dims, groups):
    layer = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1](4, 6, 3, padding=1, groups=groups, bias=False)
    init.dirac_(layer.weight, groups)
    x = rng().standard_normal((2, 4, *(5, 4, 3)[:dims])).astype("float32")
    y, per = layer(nb.tensor(x)).numpy(), 6 // groups
    for group in range(groups):
        own = x[:, group * 4 // groups : (group + 1) * 4 // groups]
        kept = min(per, own.shape[1])
        equal(y[:, group * per : group * per + kept], own[:, :kept])
        assert not y[:, group * per + kept : (group + 1) * per].any()
    even = init.dirac(2)(rng(), (6, 2, 3, 4))
    equal(np.argwhere(even), [[0, 0, 1, 2], [1, 1, 1, 2], [3, 0, 1, 2], [4, 1, 1, 2]])  # of torch


def test_shapes_that_do_not_fit():
    for name in ("xavier_normal", "kaiming_uniform", "lecun_normal", "orthogonal"):
        for shape in ((3,), ()):
            with pytest.raises(ShapeError, match="at least 2 axes"):
                getattr(init, name)()(rng(), shape)
    for draw in (init.eye, init.sparse(0.5)):
        for shape in ((3,), (2, 3, 4)):
            with pytest.raises(ShapeError, match="expected a matrix"):
                draw(rng(), shape)
    for groups, shape in ((1, (2, 3)), (1, (1,) * 6), (2, (3, 1, 1))):
        with pytest.raises(ShapeError, match="3 to 5 axes"):
            init.dirac(groups)(rng(), shape)
    with pytest.raises(ValueError, match="number of groups"):
        init.dirac(0)
    for draw in (init.kaiming_normal(), init.xavier_uniform(), init.lecun_uniform()):
        assert draw(rng(), (0, 0)).shape == (0, 0)
