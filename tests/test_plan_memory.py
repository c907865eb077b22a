"""Random programs, planned and replayed, give what eager execution gives, to the last bit."""

import math
import tracemalloc

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import nnbackend as nb
from nnbackend.backend import namespace
from nnbackend.cells import Buffer
from nnbackend.program import compiled, entry, interpret
from nnbackend.program.graph import Node, is_view
from nnbackend.program.replay_numpy import blocks, schedule

SHAPES = [(4, 6), (), (1,), (6,), (6, 4), (1, 6), (4, 1), (2, 3, 4), (12, 2), (24,)]
DTYPES = ["float64", "float32", "int64", "int32", "bool"]
PRIME = 61


@pytest.fixture(params=[1, 2, 3])
def threads(request, monkeypatch):
    """Blocks of a few rows, on so many threads."""
    monkeypatch.setattr(schedule, "SMALL", 40)
    monkeypatch.setattr(blocks, "BYTES", 64)
    monkeypatch.setattr(blocks, "ALONE", 0)
    for module in (compiled, entry):
        monkeypatch.setattr(module, "num_threads", lambda: request.param)
    return request.param


def fits(*arrays):
    try:
        return np.broadcast_shapes(*(x.shape for x in arrays))
    except ValueError:
        return None


class Machine:
    """Reads a recipe of small numbers as a program. What it does depends on shapes and dtypes only.

    If `exact`, floats stay whole and small, so that sums are the same in any order.
    """

    def __init__(self, pool, writable, number, exact):
        self.xp, self.pool, self.writable, self.n, self.exact = namespace(pool[0]), pool, writable, number, exact
        self.top = 200

    def add(self, x, writable=True):
        if math.prod(x.shape):
            self.pool.append(x)
            self.writable.append(writable and x.ndim > 0)

    def pick(self, i):
        i = len(self.pool) - 1 - i % len(self.pool)
        return i, self.pool[i]

    def partner(self, i, fit):
        return next((x for x in (self.pick(i + k)[1] for k in range(len(self.pool))) if fit(x)), None)

    def bounded(self, x, growth):
        self.top *= growth
        if not self.exact or x.dtype == bool or self.top <= 1 << 10:
            return x
        self.top = 200
        return x % PRIME

    def free(self, x):
        """Whether anything may be done to it."""
        return self.exact or "float" not in str(x.dtype)

    # -- views
    def slice(self, i, j, k):
        i, x = self.pick(i)
        if x.ndim:
            keys = [slice(1, None), slice(None, -1), slice(None, None, 2), slice(None, None, -1), slice(1, 3), 0, -1]
            keys += [slice(2, None, -1)]
            self.add(x[(slice(None),) * (j % x.ndim) + (keys[k % len(keys)],)], self.writable[i])

    def corner(self, i, j, k):
        i, x = self.pick(i)
        if x.ndim > 1:
            self.add(
                [lambda: x[1:, ..., ::2], lambda: x[None, ..., -1], lambda: x[:, None, ::-1]][k % 3](), self.writable[i]
            )

    def reshape(self, i, j, k):
        i, x = self.pick(i)
        n = math.prod(x.shape)
        shapes = [s for s in [*SHAPES, (n,), (2, n // 2), (n, 1), (1, n)] if math.prod(s) == n]
        self.add(self.xp.reshape(x, shapes[j % len(shapes)]), self.writable[i])

    def transpose(self, i, j, k):
        i, x = self.pick(i)
        if x.ndim > 1:
            reverse = tuple(range(x.ndim))[::-1]
            ways = [self.xp.matrix_transpose, lambda x: self.xp.permute_dims(x, reverse)]
            self.add([*ways, lambda x: self.xp.moveaxis(x, 0, -1)][j % 3](x), self.writable[i])

    def flip(self, i, j, k):
        i, x = self.pick(i)
        if x.ndim:
            self.add(self.xp.flip(x, axis=[None, 0, -1][j % 3]), self.writable[i])

    def axes(self, i, j, k):
        i, x = self.pick(i)
        if x.ndim < 3 and k % 2:
            self.add(self.xp.expand_dims(x, axis=j % (x.ndim + 1)), self.writable[i])
        elif 1 in x.shape:
            self.add(self.xp.squeeze(x, axis=x.shape.index(1)), self.writable[i])

    def broadcast(self, i, j, k):
        x = self.pick(i)[1]
        shapes = [s for s in SHAPES if len(s) >= x.ndim and fits(x, np.empty(s)) == s]
        if shapes:
            self.add(self.xp.broadcast_to(x, shapes[j % len(shapes)]), False)

    # -- element by element
    def binary(self, i, j, k):
        xp, x = self.xp, self.pick(i)[1]
        y = self.partner(j, lambda y: fits(x, y) is not None)
        fns = [lambda a, b: a + b, lambda a, b: a * b, xp.maximum, xp.minimum]
        fns += [lambda a, b: a ^ b] if x.dtype == y.dtype == bool else [lambda a, b: a - b]
        self.add(self.bounded(fns[k % 5](x, y), 10**9 if k % 5 == 1 else 2))

    def compare(self, i, j, k):
        x = self.pick(i)[1]
        y = self.partner(j, lambda y: fits(x, y) is not None)
        self.add([x < y, x == y, x >= y][k % 3])

    def number(self, i, j, k):
        x, n = self.pick(i)[1], [1, 2, -1, 0, 1.0, 3.0, self.n, self.n + 1, self.n * 2][j % 9]
        x = self.xp.astype(x, self.xp.float64) if x.dtype == bool else x
        fns = [lambda: x + n, lambda: n - x, lambda: x * n, lambda: n * x, lambda: self.xp.where(x > n, x, n)]
        self.add(self.bounded(fns[k % 5](), 20))

    def unary(self, i, j, k):
        xp, x = self.xp, self.pick(i)[1]
        fns = [lambda x: -x, xp.abs, lambda x: x * x, xp.sign, lambda x: +x]
        if not self.free(x):
            fns += [xp.tanh, lambda x: xp.exp(-xp.abs(x)), lambda x: 1 / (1 + x * x), lambda x: xp.abs(x) ** 0.5]
        self.add(
            xp.logical_not(x) if x.dtype == bool else self.bounded(fns[j % len(fns)](x), 10**9 if j % 5 == 2 else 1)
        )

    def where(self, i, j, k):
        x = self.pick(i)[1]
        y = self.partner(j, lambda y: fits(x, y) is not None)
        c = self.partner(k, lambda c: c.dtype == bool and fits(c, x, y) is not None)
        self.add(self.xp.where(x > 0 if c is None else c, x, y))

    def cast(self, i, j, k):
        i, x = self.pick(i)
        dtype = getattr(self.xp, DTYPES[j % 5])
        if self.free(x):
            y = self.xp.astype(x, dtype, copy=bool(k % 2))
            self.add(y, bool(k % 2) or self.writable[i] or x.dtype != dtype)

    # -- reductions, products, others
    def reduce(self, i, j, k):
        x = self.pick(i)[1]
        names = ["max", "min", "any", "all", *["sum", "sum", "sum", "mean", "sum"] * self.free(x)]
        name, axes = names[j % len(names)], [None, *range(-x.ndim, x.ndim), *([(0, 1), (1, 0), (0, -1)] * (x.ndim > 1))]
        name = "sum" if name == "mean" and x.dtype == bool else name
        y = getattr(self.xp, name)(x, axis=axes[k % len(axes)], keepdims=bool(k // 7 % 2))
        self.add(self.bounded(self.xp.round(y) if name == "mean" else y, 10**9 if name == "sum" else 1))

    def products(self, i, j, k):
        x = self.pick(i)[1]
        y = self.partner(j, lambda y: y.shape == x.shape)
        if self.exact and x.ndim:
            self.add(self.bounded(self.xp.sum(x * y, axis=[None, 0][k % 2]), 10**9))

    def matmul(self, i, j, k):
        x = self.pick(i)[1]
        if self.exact and x.ndim == 2:
            y = self.partner(j, lambda y: y.ndim == 2 and y.shape[1] == x.shape[1])
            self.add(self.bounded(x @ self.xp.matrix_transpose(y), 10**9))

    def concat(self, i, j, k):
        parts = [x for x in (self.pick(m)[1] for m in (i, j, i + 1)) if x.dtype == self.pick(i)[1].dtype]
        if k % 2:
            self.add(self.xp.concat(parts, axis=None))
        elif parts[0].ndim:
            self.add(
                self.xp.concat([x for x in parts if x.shape[1:] == parts[0].shape[1:] and x.ndim == parts[0].ndim])
            )

    def other(self, i, j, k):
        xp, x = self.xp, self.pick(i)[1]
        x = xp.asarray(x[None] if not x.ndim else x)
        fns = [lambda: xp.roll(x, 1), lambda: xp.sort(x), lambda: xp.take(x, xp.asarray([0, x.shape[0] - 1]), axis=0)]
        fns += [lambda: x[xp.asarray([0, 0])], lambda: xp.ones(x.shape, dtype=x.dtype), lambda: xp.zeros_like(x)]
        fns += [lambda: xp.asarray(x, copy=True), lambda: xp.unstack(xp.maximum(x, x))[-1]]
        self.add(fns[j % len(fns)](), j % len(fns) < 7)

    # -- writes
    def write(self, i, j, k):
        i = next((i for i in (self.pick(i + m)[0] for m in range(len(self.pool))) if self.writable[i]), None)
        if i is not None:
            x = self.pool[i]
            floating = "float" in str(x.dtype)
            y = self.partner(
                j, lambda y: fits(x, y) == x.shape and (x.dtype == y.dtype or (floating and y.dtype != bool))
            )
            ways = [k % (10 if x.ndim else 5), 0, 1] if x.dtype != bool else [0, 5, 7] if x.ndim else [0]
            self._write(x, 1 if y is None else y, ways[k % len(ways)])

    def _write(self, x, y, how):
        n = self.n if "float" in str(x.dtype) else 2
        if how in (0, 8):
            x[...] = n if how else y
        elif how in (1, 2):
            x += y if how == 1 else -y
        elif how in (3, 4):
            x += n if how == 4 else x
        elif how == 5:
            x[0] = y[-1] if getattr(y, "shape", None) == x.shape else 1
        elif how == 6:
            x[1:] = x[:-1]
        elif how == 7:
            x[::-1] = x
        else:
            x -= self.xp.flip(x)
        if self.exact and how not in (0, 5, 6, 7, 8):
            x %= PRIME


ADDRESS = st.integers(0, 39)
OPS = [name for name in vars(Machine) if name not in ("add", "pick", "partner", "bounded", "free") and name[0] != "_"]
RECIPE = st.lists(
    st.tuples(st.sampled_from([*OPS, "binary", "number", "reduce", "write"]), *[ADDRESS] * 3), max_size=16
)
KINDS = st.tuples(st.sampled_from(SHAPES), st.sampled_from(DTYPES))


def drawn(rng, kinds):
    whole = [(rng.integers(-3, 4, shape), dtype) for shape, dtype in kinds]
    return [np.asarray(x % 2 == 0 if dtype == "bool" else x.astype(dtype)) for x, dtype in whole]


def run_both(recipe, inputs, states, ends, exact, **settings):
    """Five calls, of which three are replays: outputs and states are equal to the bit."""
    rng = np.random.default_rng(0)
    start = drawn(rng, states)

    def made():
        buffers = [Buffer(a, f"s{i}") for i, a in enumerate(start)]

        def step(xs, n):
            machine = Machine([*xs, *(b.data for b in buffers)], [False] * len(xs) + [True] * len(buffers), n, exact)
            for name, *address in recipe:
                getattr(machine, name)(*address)
            return [machine.pick(i)[1] for i in ends], n

        return step, buffers

    (eager, theirs), (step, mine) = made(), made()
    fast = nb.compile(step, **settings)
    for turn in range(5):
        xs = drawn(rng, inputs)
        want = [np.array(x) for x in eager([x.copy() for x in xs], float(turn))[0]]
        got, n = fast([x.copy() for x in xs], float(turn))
        assert n == turn
        for a, b in [*zip(got, want, strict=True), *((p.array, q.array) for p, q in zip(mine, theirs, strict=True))]:
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            np.testing.assert_array_equal(a, b)
    assert fast.recordings == 2
    return fast._latest.replay


def check_arena(memory, program):
    """Counted anew: no two buffers that are needed at one time overlap."""
    needed = {}
    for n, root in memory.root.items():
        if isinstance(root, Node) and root in memory.offset:
            times = [memory.step[n], *(memory.step[r] for r in memory.order if n in r.inputs)]
            times += [len(memory.step)] if n in program.results() else []
            needed.setdefault(root, set()).update(times)
    spans = [(memory.offset[r], math.prod(r.shape) * r.dtype.itemsize, min(t), max(t)) for r, t in needed.items()]
    for i, (a, na, first, last) in enumerate(spans):
        assert a + na <= memory.size
        for b, nb_, f, t in spans[:i]:
            assert a + na <= b or b + nb_ <= a or last < f or t < first


@hypothesis.settings(max_examples=80, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(
    RECIPE, st.lists(KINDS, min_size=1, max_size=2), st.lists(KINDS, max_size=3),
    st.lists(ADDRESS, min_size=1, max_size=3), st.booleans(), st.booleans(),
)  # fmt: skip
def test_any_program_replays_as_it_runs_eagerly(threads, recipe, inputs, states, ends, exact, reuse):
    with np.errstate(all="ignore"):
        replay = run_both(recipe, inputs, states, ends, exact, reuse_outputs=reuse)
    check_arena(replay.memory, replay.program)
    for n in replay.program.nodes:  # views have no memory of their own unless they had to be copied
        assert not (is_view(n) and n in replay.memory.offset)


FOUND = {  # programs that were replayed wrongly once
    "a set on a view of a temporary": (
        [("number", 1, 4, 2), ("corner", 0, 0, 0), ("write", 0, 0, 6), ("flip", 0, 0, 0)],
        [((4, 6), "float64")], [], [0]),
    "contents that are the old ones of another": ([("write", 1, 0, 1), ("write", 0, 1, 1)], [((4,), "float64")],
        [((6,), "float64"), ((6,), "float64")], [0, 1]),
    "a state that is flipped into itself": ([("write", 0, 0, 9)], [((1,), "float64")], [((24,), "float64")], [0]),
    "a block with nothing but places": ([("number", 0, 0, 0)], [((24,), "float64")], [], [0]),
    "inputs and numbers returned as they are": ([], [((), "float64"), ((6,), "int32")], [((6,), "bool")], [0, 1, 2]),
    "a cast of floats": ([("cast", 0, 1, 1), ("cast", 0, 2, 1)], [((24,), "float64")], [], [0, 1, 2]),
    "two states joined": ([("concat", 0, 1, 1)], [((1,), "float64")], [((6,), "float64"), ((6,), "float64")], [0]),
}  # fmt: skip


@pytest.mark.parametrize("name", FOUND)
def test_a_program_that_was_wrong_once_is_right(threads, name):
    run_both(*FOUND[name], exact=True)


def test_parts_are_views_that_keep_what_they_show():
    """The memory of what was taken apart was used again while its parts were still read."""
    rng = np.random.default_rng(0)
    x, y, w, v = (nb.tensor(rng.standard_normal(s)) for s in ((6, 4), (10, 4), (4, 4), (4, 8)))

    def step(x, y, w, v):
        q = nb.unstack(nb.reshape(x @ w, (1, 6, 4)))[0]
        k, u = nb.unstack(nb.moveaxis(nb.reshape(y @ v, (10, 2, 4)), 1, 0))
        return q @ k.T @ u

    fast = nb.compile(step)
    for _ in range(4):
        np.testing.assert_array_equal(fast(x, y, w, v).numpy(), step(x, y, w, v).numpy())


def test_running_one_operation_after_the_other_lets_go_of_what_nobody_needs():
    """As on a GPU, whose memory is dear."""
    x = nb.ones((1 << 17,))

    def step(x):
        for _ in range(30):
            x = nb.tanh(x) + 0.5
        return nb.sum(x)

    replayed = nb.compile(step)
    want = [replayed(x) for _ in range(3)][-1]
    tracemalloc.start()
    try:
        got = interpret.run(replayed.program, [x.data])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert float(got[0]) == float(want)
    assert peak < 5 * x.data.nbytes
