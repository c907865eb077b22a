"""Programs as text: for people, and as Python that does the same."""

import random

import numpy as np
import pytest
import xor as xor_example
from op_line import Case
from op_run import by_op, cotangent, like, wrapped
from op_table import TABLE
from test_source import agree, here

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn, optim
from nnbackend.backend import PRIMITIVES
from nnbackend.cells import Scalar
from nnbackend.errors import GraphError
from nnbackend.io.helpers import HELPERS
from nnbackend.io.source import to_source
from nnbackend.program.expressions import literal
from nnbackend.program.handles import ALWAYS, OPEN
from nnbackend.program.names import identifier
from nnbackend.program.record import Recording
from nnbackend.program.text import shown

XOR = """\
step(x (4, 2) float64, y (4, 1) float64): 34 operations
state: W1 (4, 2) float64, b1 (4,) float64, W2 (1, 4) float64, b2 (1,) float64
scalar: lr = 0.5

# forward
z1 = x @ W1.T + b1             # (4, 4)
a1 = sigmoid(z1)               # (4, 4)
z2 = a1 @ W2.T + b2            # (4, 1)
a2 = sigmoid(z2)               # (4, 1)
t1 = a2 - y                    # (4, 1)
loss = (t1 * t1).sum() * 0.25
# backward
da2 = t1 * 0.5                 # (4, 1)
dz2 = da2 * ((1.0 - a2) * a2)  # (4, 1)
da1 = dz2 @ W2                 # (4, 4)
dW2 = dz2.T @ a1               # (1, 4)
db2 = dz2.sum(axis=0)          # (1,)
dz1 = da1 * ((1.0 - a1) * a1)  # (4, 4)
dW1 = dz1.T @ x                # (4, 2)
db1 = dz1.sum(axis=0)          # (4,)
# update
W1 -= lr * dW1
b1 -= lr * db1
W2 -= lr * dW2
b2 -= lr * db2
return loss"""


def program(f, *args):
    recording = Recording(f, args, {}, f.__name__)
    assert recording.broken is None
    return recording.program


def training(net, optimizer):
    def step(x, y):
        loss = F.mse_loss(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step


def test_xor():
    net = xor_example.network()
    X, y = map(nb.tensor, nb.data.xor())
    step = training(net, optim.SGD(net.parameters(), lr=0.5))
    step(X, y)
    assert shown(program(step, X, y)) == XOR


def lines(f, *args):
    return shown(program(f, *args)).splitlines()[2:]


A = np.arange(6.0).reshape(2, 3)


@pytest.mark.parametrize(
    ("f", "text"),
    [
        (lambda x, y: (x + y) * x, "(x + y) * x"),
        (lambda x, y: x + y * x, "x + y * x"),
        (lambda x, y: x - (y - x), "x - (y - x)"),
        (lambda x, y: x - y - x, "x - y - x"),
        (lambda x, y: x / (y * y), "x / (y * y)"),
        (lambda x, y: -(x**2) + y, "-x**2 + y"),
        (lambda x, y: (-x) ** 2 * y, "(-x)**2 * y"),
        (lambda x, y: (x**y) ** 2.0, "(x**y)**2.0"),
        (lambda x, y: x ** (y**2.0), "x**y**2.0"),
        (lambda x, y: x * -2.0 + y, "x * -2.0 + y"),
        (lambda x, y: (-2.0) ** x + y, "(-2.0)**x + y"),
        (lambda x, y: (x < y) == (y < x), "(x < y) == (y < x)"),
        (lambda x, y: (x < y) & ~(y < x), "(x < y) & ~(y < x)"),
        (lambda x, y: (x @ y.T).T * 2.5, "(x @ y.T).T * 2.5"),
        (lambda x, y: nb.sum(x * y, axis=1, keepdims=True), "(x * y).sum(axis=1, keepdims=True)"),
        (lambda x, y: nb.concat([x, y], axis=None), "np.concat([x, y], axis=None)"),
        (lambda x, y: x[1:, None, ..., ::-1], "x[1:, None, ..., ::-1]"),
        (lambda x, y: nb.astype(x * y, "float32"), "(x * y).astype(np.float32)"),
        (lambda x, y: nb.where(x < y, 0.5, x), "np.where(x < y, 0.5, x)"),
        (lambda x, y: nb.permute_dims(x + y, (1, 0)), "np.permute_dims(x + y, (1, 0))"),
    ],
)
def test_parentheses_are_those_that_are_needed(f, text):
    first = lines(f, nb.tensor(A), nb.tensor(A + 1.0))[0].partition("  # ")[0].rstrip()
    assert first == f"result = {text}"


def test_layers_are_headings_where_there_are_many():
    net = nn.MLP([2, 3, 3, 3, 3, 1], "tanh")
    with nb.no_grad():
        text = shown(program(net.forward, nb.tensor([[1.0, 2.0]])))
    assert "\n# forward: 0\nz1 = x @ W1.T + b1" in text
    assert "\n# forward: 8\nz5 = a4 @ W5.T + b5" in text


def test_any_program_is_shown():
    class Odd:
        shape = ()

    def f(x):
        y = nb.positive(x)
        y[0, ...] = 1.0
        parts = nb.unstack(y * 2.0, axis=0)
        return parts[0] + parts[1], nb.gather(x, nb.asarray([0, 1])), nb.sum(x, axis=()), Odd

    some = program(lambda x: F.gelu(nb.sort(x)), nb.tensor(A))
    some.nodes[-1].op = "something_new"
    assert "something_new" in shown(some)
    assert "t1[0, ...] = 1.0" in shown(program(f, nb.tensor(A)))
    assert shown(program(lambda: None)) == "<lambda>(): 0 operations\n"


def test_long_lines_are_folded_and_stay_python():
    def f(*xs):
        return nb.concat([x * 2.0 for x in xs] + list(xs), axis=None)

    text = shown(program(f, *[nb.tensor(A)] * 9))
    assert max(map(len, text.splitlines()[2:])) < 100
    compile("def f():\n    " + "\n    ".join(text.splitlines()[2:]), "listing", "exec")


@pytest.mark.parametrize(
    ("given", "text"), [("0.weight", "_0_weight"), ("blocks.1.x-y", "blocks_1_x_y"), ("größe", "gr__e"), ("", "value")]
)
def test_identifiers(given, text):
    assert identifier(given) == text
    assert text.isidentifier()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"), (-1, "-1"), (float("-inf"), "-np.inf"), (float("nan"), "np.nan"), (None, "None"), (..., "..."),
        (True, "True"), (np.float32, "np.float32"), (np.dtype("int8"), "np.int8"), (slice(1), "slice(None, 1, None)"),
    ],
)  # fmt: skip
def test_literals(value, text):
    assert literal(value)[0] == text


# -- every op ---------------------------------------------------------------------------------------------------------


def depends_on_values(case, args):
    """Whether the shape of a result does: nothing that could be recorded."""
    kinds = [str(x.dtype)[:3] for x in args[1:] if isinstance(x, nb.Tensor)]
    return {"getitem": "boo", "setitem": "boo", "repeat": "int"}.get(case.name) in kinds


@by_op((case,) for case in TABLE)
def test_every_op_and_its_way_back(case: Case) -> None:
    """Value and gradients from the script equal those of eager execution, to the last bit."""
    args = wrapped(case.draw())
    tensors = [x.detach() for x in args if isinstance(x, nb.Tensor)]
    wanted = [i for i, x in enumerate(args) if isinstance(x, nb.Tensor) and x.requires_grad]
    differentiable = case.op(*args).requires_grad

    def step(dy, *given):
        rest = iter(given)
        full = [next(rest) if isinstance(x, nb.Tensor) else x for x in args]

        def value(*some):
            return nb.sum(case.op(*[some[wanted.index(i)] if i in wanted else x for i, x in enumerate(full)]) * dy)

        with nb.no_grad():
            y = case.op(*full)
        if not differentiable:
            return (y,)
        slopes = nb.grad(value, argnums=tuple(range(len(wanted))))(*[full[i] for i in wanted])
        return y, *[g.detach() for g in slopes]

    example = (like(case.op(*args), cotangent(case)), *tensors)
    if depends_on_values(case, args):
        with pytest.raises(GraphError, match="whose result has a shape that depends on values"):
            to_source(step, example)
        return
    text = to_source(step, example)
    got = here(text)["step"](*[x.numpy() for x in example])
    for g, want in zip(got, step(*example), strict=True):
        assert (np.shape(g), np.asarray(g).dtype) == (want.shape, want.dtype)
        if case.name.startswith("conv"):  # as a sum over the places of the kernel, not as the library's one product
            np.testing.assert_allclose(g, want.numpy(), rtol=1e-12, atol=1e-12)
        else:
            np.testing.assert_array_equal(g, want.numpy())


def test_every_primitive_has_a_text():
    assert PRIMITIVES.keys() - HELPERS <= {"total", "gather", "moved", "product", *OPEN, *ALWAYS}


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_random_numbers(dtype):
    def step(x):
        return nb.random.uniform_like(x.data, 2**100 + 3, 2**63 + 1, 5)

    x = nb.tensor(np.zeros((3, 5), dtype))
    np.testing.assert_array_equal(here(to_source(step, x))["step"](x.numpy()), step(x))


@pytest.mark.parametrize(
    ("draw", "more"), [("words_like", ()), ("integers_like", (2**31 + 1,)), ("integers_like", (2**40,))]
)
def test_random_words_and_whole_numbers(draw, more):
    def step(x):
        return getattr(nb.random, draw)(x, *more, 2**100 + 3, 2**63 + 1, 5)

    x = nb.zeros((3, 5))
    np.testing.assert_array_equal(here(to_source(step, x))["step"](x.numpy()), step(x).numpy())
    compiled = nb.compile(step)
    for _ in range(3):
        np.testing.assert_array_equal(compiled(x).numpy(), step(x).numpy())


# -- what changes in place --------------------------------------------------------------------------------------------


class Cells(nn.Module):
    def __init__(self):
        for name, value in zip("uvw", np.random.default_rng(1).standard_normal((3, 4)), strict=True):
            self.register_buffer(name, nb.tensor(value))
        self.n, self.k = Scalar(1.0, "n"), Scalar(2.0, "k")


def haphazard(seed, cells):
    """A step that reads, writes, swaps and slices buffers and numbers in an order drawn from the seed."""

    def change(draw, pool):
        name = draw.choice("uvw")
        here, there = draw.choice(
            [(slice(0, 2), slice(2, 4)), (slice(0, 3), slice(1, 4)), (slice(None), slice(None, None, -1))]
        )
        match draw.randrange(7):
            case 0:
                getattr(cells, name).assign(draw.choice(pool) * draw.choice([1, 0.5]))
            case 1:
                getattr(cells, name)[here] = cells.n.value
            case 2:
                getattr(cells, name)[here] = draw.choice(pool)[there]
            case 3:
                y = nb.positive(draw.choice(pool))
                y[draw.choice([0, slice(1, 3)])] = 3.0
                pool.append(y)
            case 4:
                cells.n.value, cells.k.value = cells.k.value * 0.5, cells.n.value + 1
            case 5:
                pool.append(nb.flip(draw.choice(pool)))
            case 6:
                pool.append(nb.reshape(nb.reshape(draw.choice(pool), (2, 2)).T, (4,)))

    def step(x, y):
        draw, pool = random.Random(seed), [x, y, cells.u, cells.v, cells.w]
        for _ in range(draw.randint(4, 14)):
            change(draw, pool)
            a, b = draw.choice(pool), draw.choice(pool)
            pool.append(draw.choice([a + b, a - (b - a), -(a**2) * b, a / (1 + b * b), (a < b) * a, a * cells.n.value]))
        return draw.choice(pool[5:]), draw.choice(pool[5:]), cells.u + 0, cells.v + 0, cells.w + 0

    return step


@pytest.mark.parametrize("seed", range(60))
def test_writes_happen_when_nobody_needs_the_old_values(seed):
    rng, cells = np.random.default_rng(seed), Cells()
    with nb.no_grad():
        agree(haphazard(seed, cells), (nb.tensor(rng.standard_normal(4)), nb.tensor(rng.standard_normal(4))))
