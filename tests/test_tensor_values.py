"""Tensors are values: a change rebinds one Tensor, and everything else, graphs too, keeps what it had."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nnbackend as nb
from nnbackend import nn, optim
from nnbackend.cells import Buffer, Parameter
from nnbackend.errors import DTypeError, GraphError, InplaceError, ShapeError


def leaf(values):
    return nb.tensor(values, dtype="float64", requires_grad=True)


# -- set-items and in-place operators --------------------------------------------------------------


def test_setting_an_item_changes_this_tensor_only():
    x = leaf([1.0, 2.0, 3.0])
    t = x * 2.0
    alias, view, row, detached = t, t[1:], t.reshape(1, 3), t.detach()
    squares = (t * t).sum()  # used before
    t[1] = 10.0
    assert alias is t
    assert t.tolist() == [2.0, 10.0, 6.0]
    for other, want in ((view, [4.0, 6.0]), (row, [[2.0, 4.0, 6.0]]), (detached, [2.0, 4.0, 6.0])):
        assert other.tolist() == want
    (squares + 100.0 * t.sum()).backward()
    assert x.grad.tolist() == [8 * 1.0 + 200.0, 8 * 2.0, 8 * 3.0 + 200.0]  # 4 x^2, and the sum without t[1]


def test_the_value_set_gets_its_gradient():
    x, v, w = leaf([1.0, 2.0, 3.0]), leaf(5.0), leaf([[7.0, 8.0]])
    t = x * 1.0
    t[0] = v
    t[1:] = w * v
    (t * t).sum().backward()
    assert (x.grad.tolist(), v.grad.item()) == ([0.0, 0.0, 0.0], 2 * 5.0 + 2 * 5.0 * (49.0 + 64.0))
    assert w.grad.tolist() == [[2 * 25.0 * 7.0, 2 * 25.0 * 8.0]]


def test_a_constant_takes_up_history_and_older_graphs_do_not_see_it():
    x, buffer = leaf([1.0, 2.0]), nb.zeros(3, dtype="float64")
    before = (buffer * x.sum()).sum()
    for i in range(2):
        buffer[i] = x[i] * 3.0
    assert buffer.requires_grad
    (before + (buffer * buffer).sum()).backward()
    assert x.grad.tolist() == [18.0, 36.0]
    with pytest.raises(DTypeError, match="without history"):
        nb.tensor([1, 2])[0] = x[0]


def test_constants_may_change_after_they_were_used():
    """Pullbacks hold the array that was used. Only a gradient of a gradient would need the old Tensor again."""
    x, c = leaf([1.0, 2.0]), nb.tensor([3.0, 4.0], dtype="float64")
    y = (x * c).sum()
    z = (x * x * c).sum()
    c[0] = 100.0
    y.backward()
    assert x.grad.tolist() == [3.0, 4.0]
    with pytest.raises(InplaceError, match="changed in place later"):
        z.backward(create_graph=True)


def test_bounds_of_labels_do_not_outlive_a_change():
    labels = nb.tensor([0, 2, 1])
    assert labels.bounds == (0, 2)
    labels[0] = 7
    assert not hasattr(labels, "bounds")


def test_in_place_operators_make_new_tensors_of_results_and_constants():
    x, t = leaf([1.0, 2.0]), nb.tensor([1.0, 2.0], dtype="float64")
    y = x * 3.0
    first, constant = y, t
    y *= y
    t += x
    assert (first.tolist(), constant.tolist(), constant.requires_grad) == ([3.0, 6.0], [1.0, 2.0], False)
    (y.sum() + t.sum()).backward()
    assert x.grad.tolist() == [18.0 + 1.0, 36.0 + 1.0]


def test_without_history_a_result_becomes_a_constant_and_other_graphs_keep_theirs():
    x = leaf([1.0, 2.0])
    y = x * 2.0
    z = (y * y).sum()
    with nb.no_grad():
        y[0] = 50.0
    assert (y.tolist(), y.requires_grad, y.is_leaf) == ([50.0, 4.0], False, True)
    (z + (y * x).sum()).backward()
    assert x.grad.tolist() == [8.0 + 50.0, 16.0 + 4.0]
    with pytest.raises(GraphError, match="detach"):
        y.requires_grad_()


# -- leaves and cells: in place, under no_grad -----------------------------------------------------


@pytest.mark.parametrize("make", [leaf, lambda v: Parameter(np.array(v))], ids=["leaf", "parameter"])
def test_leaves_change_in_place_only_without_history(make):
    w = make([1.0, 4.0])
    changes = ["+=", "-=", "*=", "/=", "**=", "%=", "//=", "@="]
    for change in changes:
        with pytest.raises(GraphError, match="no_grad"):
            exec(f"w {change} 2.0", {}, {"w": w})
    with pytest.raises(GraphError, match="no_grad"):
        w[0] = 1.0
    expected = np.array([1.0, 4.0])
    with nb.no_grad():
        for change in changes[:-1]:
            names = {"w": w, "expected": expected}
            exec(f"w {change} 3.0; expected {change} 3.0", {}, names)
            assert names["w"] is w
            expected = names["expected"]
            assert w.tolist() == expected.tolist()
        w[0] = 9.0
        assert w.tolist() == [9.0, expected[1]]
        with pytest.raises(ShapeError, match=r"\(2,\), got \(3, 2\)"):
            w += nb.ones((3, 2), dtype="float64")
    assert (w.is_leaf, w.requires_grad, w.shape) == (True, True, (2,))
    (w * w).sum().backward()
    assert w.grad.tolist() == [18.0, 2 * expected[1]]


def test_integers_and_booleans_in_place():
    count, mask = Buffer(np.array([1, 2])), Buffer(np.array([True, False]))
    same = [count, mask]
    count <<= 2
    count |= 1
    count //= 2
    mask ^= nb.tensor([True, True])
    assert (count.tolist(), mask.tolist()) == ([2, 4], [False, True])
    assert same[0] is count
    assert same[1] is mask


def step_of(p):
    with nb.no_grad():
        p -= 0.1


def frozen_step(p):
    p.requires_grad_(False)
    p.assign(nb.zeros(p.shape, dtype=p.dtype))
    p.requires_grad_()


@pytest.mark.parametrize("change", [step_of, frozen_step, lambda p: p.assign(p.detach() * 2.0)])
def test_a_parameter_written_after_its_use_is_refused_by_name(change):
    net = nn.Linear(2, 1)
    x = nb.tensor([[1.0, 2.0]])
    loss = net(x).sum()
    change(net.weight)
    with pytest.raises(InplaceError, match=r"weight .*at time \d+.*at time \d+") as info:
        loss.backward()
    made, written = map(int, re.findall(r"at time (\d+)", str(info.value)))
    assert made < written == net.weight.written
    net(x).sum().backward()  # a new graph is fine
    assert net.weight.grad.tolist() == [[1.0, 2.0]]


def test_a_leaf_written_after_its_use_is_refused():
    w = leaf([1.0, 2.0])
    graphs = [(w * w).sum(), (w * w).sum()]
    with nb.no_grad():
        w[0] = 5.0
    for y, create_graph in zip(graphs, (False, True), strict=True):
        with pytest.raises(InplaceError, match="a tensor"):
            y.backward(create_graph=create_graph)
    assert w.grad is None


@pytest.mark.parametrize("how", ["assign", "iadd", "setitem"])
def test_a_buffer_written_after_its_use_is_refused(how):
    x, mean = leaf([1.0, 2.0]), Buffer(np.array([3.0, 4.0]), "running_mean")
    y = (x * mean).sum()
    if how == "assign":
        mean.assign(nb.zeros(2, dtype="float64"))
    elif how == "iadd":
        mean += 1.0
    else:
        mean[0] = 0.0
    with pytest.raises(InplaceError, match="running_mean"):
        y.backward()


def test_an_optimizer_step_between_forward_and_backward_is_refused():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    opt = optim.SGD(net.parameters(), lr=0.1)
    x = nb.tensor([[1.0, 2.0]])
    first, second = net(x).sum(), net(x).sum()
    first.backward()
    opt.step()
    with pytest.raises(InplaceError, match="weight"):
        second.backward()


@pytest.mark.parametrize(
    ("value", "error"),
    [(3.0, DTypeError), ([1.0, 2.0], DTypeError), (np.ones(3), ShapeError), (nb.ones(()), ShapeError)],
)
def test_assign_takes_arrays_of_its_shape(value, error):
    p = Parameter(np.ones(2, np.float32))
    with pytest.raises(error, match=r"^(w: )?.*expected"):
        p.assign(value)
    p.assign(np.array([5.0, 6.0]))  # the dtype stays
    assert (p.tolist(), str(p.dtype)) == ([5.0, 6.0], "float32")


# -- any sequence ----------------------------------------------------------------------------------

N = 3  # elements of every value below
OPS = [
    lambda a, b, sin: sin(a * b),
    lambda a, b, sin: a - 0.5 * b,
    lambda a, b, sin: a + 0.0 * b[:1],
    lambda a, b, sin: a[::-1],
    lambda a, b, sin: a.reshape((N, 1)).reshape((N,)),
    lambda a, b, sin: sin(a) * 0.5 + a,
]
KEYS = [0, -1, slice(0, 2), slice(None, None, 2), [2, 0], (..., slice(1, None)), np.array([True, False, True])]
index = st.integers(0, 30)
instruction = st.one_of(
    st.tuples(st.just("op"), st.integers(0, len(OPS) - 1), index, index),
    st.tuples(st.just("set"), st.integers(0, len(KEYS) - 1), index, index),
    st.tuples(st.just("change"), st.integers(0, 3), index, index),
    st.tuples(st.just("alias"), index, index, index),
)


class Box:
    """A value as we mean it, in NumPy: one box for each Tensor object, its array never written to."""

    def __init__(self, value):
        self.value = np.array(value)


def replay(program, leaves):
    """The program on boxes: the sum of everything that ever was, weighed."""
    pool = [Box(v) for v in leaves]
    fixed, total = pool[:2], 0.0
    for kind, which, i, j in program:
        i, j = i % len(pool), j % len(pool)
        a, b = pool[i].value, pool[j].value
        if kind == "op":
            pool.append(Box(OPS[which](a, b, np.sin)))
        elif kind == "set" and pool[i] not in fixed:
            pool[i].value = a.copy()
            pool[i].value[KEYS[which]] = b[KEYS[which]]
        elif kind == "change" and pool[i] not in fixed:
            pool[i] = Box((a + b, a - b, a * b, a / (2.0 + b * b))[which])
        elif kind == "alias":
            pool.append(pool[i])
        total = total + np.sum(np.cos(pool[i].value))
    return pool, total + sum(np.sum(box.value) * (k + 1) for k, box in enumerate(pool))


def run(program, pool):
    total = nb.tensor(0.0, "float64")
    for kind, which, i, j in program:
        i, j = i % len(pool), j % len(pool)
        if kind == "op":
            pool.append(OPS[which](pool[i], pool[j], nb.sin))
        elif kind == "set" and not (pool[i].is_leaf and pool[i].requires_grad):
            pool[i][KEYS[which]] = pool[j][KEYS[which]]
        elif kind == "change" and not (pool[i].is_leaf and pool[i].requires_grad):
            t = pool[i]
            if which == 0:
                t += pool[j]
            elif which == 1:
                t -= pool[j]
            elif which == 2:
                t *= pool[j]
            else:
                t /= 2.0 + pool[j] * pool[j]
            pool[i] = t
        elif kind == "alias":
            pool.append(pool[i])
        total = total + nb.cos(pool[i]).sum()
    return pool, total + sum(t.sum() * (k + 1) for k, t in enumerate(pool))


@settings(max_examples=150, deadline=None)
@given(st.lists(instruction, min_size=1, max_size=14), st.integers(0, 2**32 - 1))
def test_any_sequence_equals_its_replay_and_has_the_right_gradient(program, seed):
    rng = np.random.default_rng(seed)
    start, v = rng.standard_normal((3, N)), rng.standard_normal((2, N))
    a, b, constant = leaf(start[0]), leaf(start[1]), nb.tensor(start[2])
    pool, total = run(program, [a, b, constant])
    boxes, want = replay(program, start)
    for t, box in zip(pool, boxes, strict=True):
        np.testing.assert_allclose(t.numpy(), box.value, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(total.item(), want, rtol=1e-9)
    total.backward()

    def moved(h):
        return replay(program, [start[0] + h * v[0], start[1] + h * v[1], start[2]])[1]

    numeric = (moved(1e-6) - moved(-1e-6)) / 2e-6
    analytic = float((a.grad * v[0]).sum() + (b.grad * v[1]).sum())
    np.testing.assert_allclose(analytic, numeric, rtol=1e-5, atol=1e-5 * max(1.0, np.abs(want)))
    again = [leaf(start[0]), leaf(start[1])]
    try:
        run(program, [*again, nb.tensor(start[2])])[1].backward(create_graph=True)
    except InplaceError:
        assert any(kind == "set" for kind, *_ in program)  # of the constant
    else:
        for x, y in ((a, again[0]), (b, again[1])):
            np.testing.assert_allclose(y.grad.numpy(), x.grad.numpy(), rtol=1e-9, atol=1e-9)
