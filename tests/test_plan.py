"""The planner's passes one by one, and the programs that a planner gets wrong most easily."""

import numpy as np
import pytest

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn, optim
from nnbackend.backend import namespace
from nnbackend.cells import Buffer
from nnbackend.program import compiled, entry
from nnbackend.program.interpret import run
from nnbackend.program.record import Recording
from nnbackend.program.replay_numpy import Replay, blocks, schedule
from nnbackend.program.replay_numpy.lower import lowered
from nnbackend.program.replay_numpy.schedule import Block, scheduled
from nnbackend.program.simplify import dead, eased, exact, folded, shared, simplified
from nnbackend.tree import leaves

X = np.arange(12.0).reshape(3, 4) - 5


def recorded(step, *args):
    recording = Recording(step, args, {})
    assert recording.broken is None
    return recording.program


def ops(program):
    return [n.op for n in program.nodes if n.op not in ("input", "number")]


def after(rule, step, *args):
    """The ops that are left, with the results as before."""
    program = recorded(step, *args)
    changed = program.copy()
    rule(changed)
    dead(changed)
    for got, want in zip(run(changed, args), run(program, args), strict=True):
        np.testing.assert_array_equal(np.signbit(got), np.signbit(want))
        np.testing.assert_array_equal(got, want)
    return ops(changed)


# -- passes ---------------------------------------------------------------------------------------------------------


def test_dead_drops_what_no_result_needs_and_keeps_inputs():
    program = recorded(lambda x, y: (x + y, x * y)[0], X, X)
    dead(program)
    assert [n.op for n in program.nodes] == ["input", "input", "add"]


def test_folded_computes_constants_of_the_step_itself():
    def step(x):
        xp = namespace(x)
        return x + xp.reshape(xp.arange(4.0) * 2, (1, 4)) + xp.sum(xp.ones((4,)))

    assert after(folded, step, X) == ["const", "add", "const", "add"]


def test_folded_leaves_arrays_from_outside():
    outside = nb.asarray(np.arange(4.0))
    program = recorded(lambda x: outside * 2 + x, X)
    for n in program.nodes:
        if n.op == "const":
            n.kw["live"] = True
    assert ops(simplified(program)) == ["const", "multiply", "add"]


def test_an_array_from_outside_is_looked_at_in_each_replay():
    outside, array = nb.asarray(np.arange(4.0)), np.ones(4)
    step = nb.compile(lambda x: outside * 2 + x * array)
    for _ in range(3):
        step(X)
    outside.data[0] = array[1] = 100.0
    np.testing.assert_array_equal(step(X).data, outside.data * 2 + X * array)
    assert step.recordings == 2


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [(1, 1, True), (1, 1.0, False), (1, True, False), (0.0, -0.0, False), (0.5, 0.5, True), (1.0, True, False)],
)
def test_shared_tells_numbers_by_type_and_sign(a, b, same):
    assert (exact(a) == exact(b)) is same
    assert after(shared, lambda x: (x + a) * 2 + (x + b) * 3, X).count("add") == 3 - same


def test_shared_tells_axes_dtypes_and_keys():
    def step(x):
        xp = namespace(x)
        return xp.sum(x, axis=0), xp.sum(x, axis=-2), xp.sum(x, axis=0), x[1:], x[1:], x[:1], xp.astype(x, xp.float32)

    assert sorted(after(shared, step, X)) == ["astype", "getitem", "getitem", "sum", "sum"]


EASED = {
    "copy": (lambda x, xp: xp.asarray(x, copy=True) + 1, ["add"]),
    "reshape to the same": (lambda x, xp: xp.reshape(x, (3, 4)) + 1, ["add"]),
    "broadcast to the same": (lambda x, xp: xp.broadcast_to(x, (3, 4)) + 1, ["add"]),
    "two transposes": (lambda x, xp: x.mT.mT + 1, ["add"]),
    "reshape of reshape": (lambda x, xp: xp.reshape(xp.reshape(x, (12,)), (4, 3)), ["reshape"]),
    "positive": (lambda x, xp: +x * 2, ["multiply"]),
    "times 1": (lambda x, xp: (x - 0.5) * 1 + 0.0, ["subtract", "add"]),
    "1.0 times": (lambda x, xp: 1.0 * (x - 0.5), ["subtract"]),
    "times a constant 1": (lambda x, xp: (x - 0.5) * xp.asarray(1.0), ["subtract"]),
    "times a wider 1": (
        lambda x, xp: (xp.sum(x, axis=0) - 0.5) * xp.ones((3, 4)),
        ["sum", "subtract", "ones", "multiply"],
    ),
    "a cast mask": (lambda x, xp: x * xp.astype(x > 0, x.dtype), ["greater", "multiply"]),
    "a cast that changes": (lambda x, xp: xp.astype(x, xp.float32) * 1, ["astype"]),
    "int times 1.0": (lambda x, xp: xp.astype(x, xp.int64) * 1.0, ["astype", "multiply"]),
}


@pytest.mark.parametrize("name", EASED)
def test_eased_gives_the_same_with_less(name):
    step, left = EASED[name]
    assert after(eased, lambda x: step(x, namespace(x)), X) == left


def test_eased_drops_what_a_write_covers():
    def step(x):
        t = x * 2
        t[...] = x + 1
        u = x * 3
        u[1:] = x[1:] * 4
        return t, u[1:]

    assert "set" not in after(simplify_all, step, X)


def simplify_all(program):
    short = simplified(program)
    program.nodes, program.inputs, program.outputs = short.nodes, short.inputs, short.outputs


@pytest.mark.parametrize(
    ("step", "left"),
    [
        (lambda x, xp: xp.sum(x * x), ["vdot"]),
        (lambda x, xp: xp.sum(x, axis=0), ["column_sum"]),
        (lambda x, xp: xp.sum(x, axis=0, keepdims=True), ["sum"]),
        (lambda x, xp: xp.mean(x, axis=1), ["const", "row_dot", "reshape", "divide"]),
        (lambda x, xp: x @ x.mT, ["matrix_transpose", "dot"]),
        (lambda x, xp: xp.astype(x, xp.int64) @ xp.astype(x, xp.int64).mT, ["astype", "matrix_transpose", "matmul"]),
        (lambda x, xp: xp.sum(xp.astype(x, xp.int64), axis=0), ["astype", "sum"]),
    ],
)
def test_lowered_says_it_in_faster_calls(step, left):
    program = recorded(lambda x: step(x, namespace(x)), X)
    assert ops(lowered(simplified(program))) == left


# -- order ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(schedule, "SMALL", 40)
    monkeypatch.setattr(blocks, "BYTES", 64)
    monkeypatch.setattr(blocks, "ALONE", 0)


def layers(x, w):
    xp = namespace(x)
    z = xp.maximum(x @ w, 0.0) + 1.0
    shifted = z - xp.max(z, axis=1, keepdims=True)
    e = xp.exp(shifted)
    p = e / xp.sum(e, axis=1, keepdims=True)
    return p * 2 - xp.flip(p), xp.sum(p, axis=0), xp.sum(p * z)


def test_the_schedule_is_an_order_in_which_everything_is_ready(small):
    program = lowered(simplified(recorded(layers, X, np.ones((4, 5)))))
    ready = set()
    order = scheduled(program)
    for work in order:
        for n in work if isinstance(work, Block) else [work]:
            assert ready.issuperset(n.inputs)
            ready.add(n)
    assert ready == set(program.nodes)
    found = [work for work in order if isinstance(work, Block)]
    assert any({"maximum", "add", "max", "subtract", "exp", "row_dot", "divide"} <= {n.op for n in b} for b in found)
    for b in found:
        for n in b:
            assert schedule.ends(n) or n.shape[0] == b.rows
            assert not any(schedule.ends(i) for i in n.inputs if i in b)
            assert n.op != "flip"


def test_a_value_of_one_block_needs_no_memory_between(small):
    replay = Replay(recorded(layers, X, np.ones((4, 5))), 1)
    assert {"subtract", "exp"} <= {n.op for n in replay.memory.scratch}
    assert not any(n in replay.memory.offset for n in replay.memory.scratch)


def test_dead_buffers_are_used_again():
    def step(x):
        for _ in range(10):
            x = namespace(x).roll(x, 1) * 2
        return x

    replay = Replay(recorded(step, np.ones((64, 64))), 1)
    assert replay.memory.size <= 2 * 64 * 64 * 8


# -- traps of the spike ---------------------------------------------------------------------------------------------

TRAPS = {}
rows = np.arange(60.0) / 60


def trap(make):
    TRAPS[make.__name__] = make
    return make


def network(optimizer=optim.SGD, lr=0.5, seed=0):
    net = nn.Sequential(nn.Linear(2, 4), nn.Sigmoid(), nn.Linear(4, 1), nn.Sigmoid()).to("float64").init(seed)
    return net, optimizer(net.parameters(), lr=lr)


def trained(net, opt, x, y):
    opt.zero_grad()
    loss = F.mse_loss(net(x), y)
    loss.backward()
    opt.step()
    return loss


@trap
def a_write_through_one_view_is_seen_through_another(net, opt, b):
    def step(x, y):
        loss = trained(net, opt, x, y)
        w = net[0].weight.data
        w *= 0.99
        return loss, net[0].weight.data * 1.0, net[2].weight.data * 1.0

    return step


@trap
def a_view_from_before_the_update_shows_the_new_values(net, opt, b):
    def step(x, y):
        w = net[0].weight.data
        return trained(net, opt, x, y), w + 0.0

    return step


@trap
def three_steps_in_one(net, opt, b):
    return lambda x, y: [trained(net, opt, x, y) for _ in range(3)]


@trap
def a_moving_average_and_a_slice_of_a_parameter(net, opt, b):
    ema = Buffer(net[0].weight.array)

    def step(x, y):
        loss, e = trained(net, opt, x, y), ema.data
        e *= 0.9
        e += 0.1 * net[0].weight.data
        net[2].bias.data[0] = 0.25
        return loss, ema.data + 0.0

    return step


@trap
def two_nets_of_which_one_is_detached(net, opt, b):
    other, theirs = network(seed=1)

    def step(x, y):
        h = net(x)
        second = F.mse_loss(other(x), h.detach())
        second.backward()
        theirs.step()
        first = F.mse_loss(other(x) - h, y)
        opt.zero_grad()
        first.backward()
        other.zero_grad()
        opt.step()
        return first, second, other[0].weight.data * 1.0

    return step


@trap
def gradients_scaled_by_their_norm(net, opt, b):
    def step(x, y):
        opt.zero_grad()
        loss = F.mse_loss(net(x), y)
        loss.backward()
        norm = sum((nb.sum(p.grad * p.grad) for p in net.parameters()), 0.0)
        for p in net.parameters():
            p.grad = p.grad * (0.01 / nb.sqrt(norm))
        opt.step()
        return loss

    return step


@trap
def halves_that_change_places(net, opt, b):
    def step(x, y):
        loss, d = trained(net, opt, x, y), b.data
        swapped = namespace(d).concat([d[30:], d[:30]])
        d *= 0.0
        d += swapped
        return loss, b.data * 2.0

    return step


@trap
def a_queue(net, opt, b):
    def step(x, y):
        loss, d = trained(net, opt, x, y), b.data
        d[1:] = d[:-1] + 0.0
        d[0] = loss.data
        return loss, b.data + 0.0

    return step


@trap
def flipped_reads_among_writes_in_place(net, opt, b):
    def step(x, y):
        loss, d = trained(net, opt, x, y), b.data
        xp = namespace(d)
        r = xp.flip(d) * 0.5
        d *= 0.5
        d += r
        d -= (xp.flip(d) + d * 0.1) * 0.01
        return loss, b.data * 2.0

    return step


@trap
def a_temporary_that_is_also_read_flipped(net, opt, b):
    def step(x, y):
        loss, u = trained(net, opt, x, y), b.data * 2.0
        xp = namespace(u)
        w = u + xp.flip(u) * xp.sum(u)
        return loss, w * 0.1, w

    return step


@trap
def an_array_less_itself_flipped(net, opt, b):
    def step(x, y):
        loss, d = trained(net, opt, x, y), b.data
        d -= namespace(d).flip(d) * 0.1
        return loss, b.data * 2.0

    return step


@trap
def contents_that_go_from_cell_to_cell(net, opt, b):
    others = [Buffer(rows + i) for i in range(3)]

    def step(x, y):
        loss, (first, second, third) = trained(net, opt, x, y), [c.data for c in others]
        third[...] = first
        second[...] = namespace(first).flip(first)
        first += 1.0
        return loss, *(c.data + 0.0 for c in others)

    return step


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("optimizer", [optim.SGD, optim.Adam])
@pytest.mark.parametrize("name", TRAPS)
def test_replays_equal_eager_where_memory_is_shared(small, monkeypatch, name, optimizer, threads):
    for module in (compiled, entry):
        monkeypatch.setattr(module, "num_threads", lambda: threads)
    x, y = nb.tensor(np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])), nb.tensor(np.array([[0.0], [1], [1], [0]]))
    ends = []
    for how in (lambda step: step, nb.compile):
        net, opt = network(optimizer, lr=0.05)
        b = Buffer(rows)
        step = how(TRAPS[name](net, opt, b))
        for _ in range(8):
            results = step(x, y)
        results = [r.data if isinstance(r, nb.Tensor) else r for r in leaves(results)]
        ends.append(
            [*results, b.array, *(p.array for p in net.parameters()), *(p.grad.numpy() for p in net.parameters())]
        )
    assert step.why is None
    assert step.recordings <= 4
    for got, want in zip(*ends, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-13)
