"""Tensor at its edges: as text, as Python numbers, in other libraries, on other devices, in files; and `.grad`."""

import copy
import operator
import pickle

import array_api_strict as strict
import numpy as np
import pytest

import nnbackend as nb
from nnbackend import nn, optim
from nnbackend.cells import Buffer, Parameter
from nnbackend.errors import DeviceError, DeviceMismatchError, DTypeError, GraphError, ShapeError

D1 = strict.Device("device1")


def leaf(values, dtype="float64"):
    return nb.tensor(values, dtype=dtype, requires_grad=True)


# -- as text and as Python numbers -----------------------------------------------------------------


def test_repr():
    x = leaf([1.0, 2.5], "float32")
    for t, text in (
        (nb.tensor(1.5), "Tensor(1.5, float32)"),
        (nb.tensor([1, 2]), "Tensor([1, 2], int64)"),
        (nb.tensor([[1.0, 2.0], [3.0, 4.0]]), "Tensor([[1., 2.],\n        [3., 4.]], float32, shape (2, 2))"),
        (nb.tensor([]), "Tensor([], float32, shape (0,))"),
        (x, "Tensor([1. , 2.5], float32, requires_grad=True)"),
        (x * 2.0, "Tensor([2., 5.], float32, from multiply)"),
        ((x * 2.0).detach(), "Tensor([2., 5.], float32)"),
        (nb.split(x, 1)[1], "Tensor([2.5], float32, from split)"),
        (x > 2.0, "Tensor([False,  True], bool)"),
        (nb.tensor([1.0], device=D1), "Tensor([1.], float32, on array_api_strict:device1)"),
        (Parameter(np.ones(1)), "Parameter([1.], float64, requires_grad=True)"),
        (Buffer(np.ones(1)), "Buffer([1.], float64)"),
    ):
        assert repr(t) == text
        assert str(t) == text
    assert len(repr(nb.zeros((1000, 1000)))) < 1000
    y = x * 2.0
    y.sum().backward()
    assert repr(y) == "Tensor([2., 5.], float32, requires_grad=True)"  # its graph is gone


def test_one_element_as_a_python_number():
    for t in (nb.tensor(2.5), nb.tensor([[2.5]]), nb.tensor([2.5], device=D1), leaf(2.5) * 1.0):
        assert (float(t), int(t), bool(t), t.item()) == (2.5, 2, True, 2.5)
        assert type(t.item()) is float
        assert (f"{t:.2f}", f"{t:5}", f"{t}") == ("2.50", "  2.5", repr(t))
    assert [10, 11, 12][nb.tensor(1)] == 11
    assert list(range(5))[nb.tensor(1) : nb.tensor(3)] == [1, 2]
    assert (bool(nb.tensor(0)), bool(nb.tensor(False)), bool(nb.tensor(np.nan))) == (False, False, True)
    assert type(nb.tensor(3).item()) is int
    assert type(nb.tensor(True).item()) is bool


@pytest.mark.parametrize("shape", [(2,), (0,), (1, 3)])
def test_many_elements_are_no_number(shape):
    t = nb.ones(shape)
    with pytest.raises(ValueError, match=r"ambiguous.*\.any\(\) or \.all\(\)"):
        bool(t)
    for convert in (float, int, nb.Tensor.item, lambda t: f"{t:.2f}"):
        with pytest.raises(ValueError, match=r"one element, got shape"):
            convert(t)
    for t in (nb.tensor([1, 2]), nb.tensor(1.0)):
        with pytest.raises(TypeError, match="index"):
            operator.index(t)


def test_length_and_iteration():
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    first, second = x
    (first * second).sum().backward()
    assert x.grad.tolist() == [[3.0, 4.0], [1.0, 2.0]]
    assert (len(x), len(nb.zeros((0, 2))), list(nb.zeros((0, 2)))) == (2, 0, [])
    for t in (nb.tensor([[1, 2], [3, 4]], device=D1), nb.tensor([[1, 2], [3, 4]])):
        assert [row.tolist() for row in t] == [[1, 2], [3, 4]]
    assert [v.item() for v in nb.tensor([1, 2])] == [1, 2]
    assert 2 in nb.tensor([1, 2])
    for use in (len, iter):
        with pytest.raises(TypeError, match="0-d"):
            use(nb.tensor(1.0))


def test_tensors_are_told_apart_by_identity():
    a, b = nb.tensor([1.0]), nb.tensor([1.0])
    assert len({a, b, a}) == 2
    assert {a: 1}[a] == 1


# -- other devices and dtypes ----------------------------------------------------------------------


def test_gradients_come_back_across_devices_and_dtypes():
    x = leaf([1.0, 2.0], "float32")
    there = x.to(D1, "float64")
    assert (there.device, str(there.dtype)) == ("array_api_strict:device1", "float64")
    back = (there * there).to("cpu")
    assert (back.device, back.tolist()) == ("cpu", [1.0, 4.0])
    (back.astype("float16").sum() * 2.0).backward()
    assert (x.grad.tolist(), str(x.grad.dtype), x.grad.device) == ([4.0, 8.0], "float32", "cpu")
    w = nb.tensor([3.0], device=D1, requires_grad=True)
    w.to_device("cpu").sum().backward()
    assert (w.grad.tolist(), w.grad.device) == ([1.0], w.device)


def test_what_is_there_already_comes_back_itself():
    x = leaf([1.0])
    for y in (x.to("cpu"), x.to("float64"), x.to("cpu", "float64"), x.astype(np.float64), x.to(x.data), x.to(x.device)):
        assert y is x
    assert x.to(nb.tensor([1.0], device=D1)).device == "array_api_strict:device1"
    assert x.to_device(D1, stream=None).device == "array_api_strict:device1"


def test_integers_have_no_history():
    x = leaf([1.5, 2.5])
    for y in (x.to("int64"), x.astype(bool), nb.astype(x, nb.int8)):
        assert (y.requires_grad, y.node) == (False, None)
    (x * (x > 2.0)).sum().backward()
    assert x.grad.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("target", ["gpu", "CUDA", "cpu:1", "float31", -1, None])
def test_unknown_targets_list_the_devices(target):
    with pytest.raises(ValueError, match='"cpu", "cuda"'):
        nb.ones(2).to(target)


def test_bounds_of_labels_travel():
    labels = nb.tensor([3, 0, 7])
    twins = [
        labels.to(D1),
        labels.detach(),
        copy.deepcopy(labels),
        pickle.loads(pickle.dumps(labels)),
        nb.tensor(labels),
    ]
    assert [t.bounds for t in twins] == [(0, 7)] * 5
    assert not hasattr(nb.tensor([1.0]), "bounds")


# -- NumPy and DLPack ------------------------------------------------------------------------------


def test_numpy_is_to_read():
    x = leaf([1.0, 2.0])
    for view in (x.numpy(), np.asarray(x), nb.tensor(1.0).numpy(), x.sum().numpy()):
        assert type(view) is np.ndarray
        with pytest.raises(ValueError, match="read-only"):
            view[...] = 5.0
    assert np.shares_memory(x.numpy(), x.data)
    x.numpy().copy()[0] = 5.0
    written = np.array(x)
    written[0] = 5.0
    assert x.tolist() == [1.0, 2.0]
    assert np.asarray(x, dtype="float32").dtype == np.float32
    assert np.stack([x.detach(), x.detach()]).shape == (2, 2)


def test_only_the_cpu_converts_by_itself():
    t = nb.tensor([1.0, 2.0], device=D1)
    assert t.numpy().tolist() == t.tolist() == [1.0, 2.0]
    with pytest.raises(DeviceError, match=r"device1.*\.numpy\(\)"):
        np.asarray(t)


def test_functions_of_numpy_do_not_cut_the_graph_unnoticed():
    x = leaf([1.0, 2.0])
    for function in (np.sin, np.exp, lambda x: np.add(np.ones(2), x), lambda x: np.multiply.outer(x, x)):
        with pytest.raises(TypeError, match="does not support ufuncs"):
            function(x)


class Foreign:
    """An array of a library nobody knows, but for DLPack."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **kw):
        return self.array.__dlpack__(**kw)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def test_dlpack_both_ways_shares_memory():
    x, a = leaf([1.0, 2.0]), np.array([1.0, 2.0], np.float32)
    assert np.shares_memory(np.from_dlpack(x), x.data)
    assert np.from_dlpack(x.sum()) == 3.0
    assert x.__dlpack_device__() == x.sum().__dlpack_device__() == (1, 0)
    for source in (a, Foreign(a)):
        t = nb.from_dlpack(source)
        assert np.shares_memory(t.data, a)
        assert (t.tolist(), str(t.dtype), t.requires_grad) == ([1.0, 2.0], "float32", False)
        assert not np.shares_memory(nb.from_dlpack(source, copy=True).data, a)
        assert nb.from_dlpack(source, device=D1).device == "array_api_strict:device1"
        assert np.shares_memory(nb.asarray(source).data, a)
        assert not np.shares_memory(nb.tensor(source).data, a)
    assert nb.from_dlpack(nb.tensor([1.0], device=D1)).device == "array_api_strict:device1"


def test_what_dlpack_cannot_hand_over():
    with pytest.raises(DTypeError, match=r"from_dlpack: expected a dtype that numpy has, got another. Cast it first."):
        nb.asarray(Foreign(np.array(["a"])))
    with pytest.raises(TypeError, match=r"from_dlpack: expected an array that shows its memory by DLPack, got list."):
        nb.from_dlpack([1.0])
    with pytest.raises(DTypeError, match=r"Convert it with np.array\(\.\.\.\)"):
        nb.from_dlpack(np.ma.array([1.0]))


# -- copies and pickles ----------------------------------------------------------------------------


def restored(x):
    return pickle.loads(pickle.dumps(x))


@pytest.mark.parametrize("twin_of", [copy.deepcopy, restored, copy.copy], ids=["deepcopy", "pickle", "copy"])
def test_leaves_are_copied(twin_of):
    for t in (leaf([1.0, 2.0]), nb.tensor(3), nb.tensor([[True]]), nb.tensor(np.zeros((0, 2), "f2"))):
        twin = twin_of(t)
        assert (type(twin), twin.requires_grad, twin.dtype, twin.shape) == (
            nb.Tensor,
            t.requires_grad,
            t.dtype,
            t.shape,
        )
        assert (twin.tolist(), twin.is_leaf, twin.grad) == (t.tolist(), True, None)
        assert not np.shares_memory(twin.data, t.data)
    y = leaf([1.0]) * 2.0
    used = leaf([1.0]) * 2.0
    used.sum().backward()
    for result, name in ((y, "multiply"), (nb.split(y, 1)[0], "split"), (used, "an op")):
        with pytest.raises(GraphError, match=rf"expected a leaf, got the result of {name}. Use \.detach\(\)"):
            twin_of(result)
        with pytest.raises(GraphError, match="expected a leaf"):
            copy.deepcopy({"inside": [result]})
    assert twin_of(y.detach()).tolist() == [2.0]


def test_deepcopy_keeps_devices():
    assert copy.deepcopy(nb.tensor([1.0], device=D1)).device == "array_api_strict:device1"


@pytest.mark.parametrize("twin_of", [copy.deepcopy, restored], ids=["deepcopy", "pickle"])
def test_cells_are_copied_and_shared_ones_stay_shared(twin_of):
    p = Parameter(np.array([1.0, 2.0]), initialiser=nn.init.ones)
    frozen, mean = Parameter(np.ones(1), requires_grad=False), Buffer(np.array([3]), "mean", persistent=False)
    p.name = "weight"
    net = {"a": p, "b": [p, mean], "c": (mean, frozen)}
    twin = twin_of(net)
    q, other = twin["a"], twin["b"][1]
    assert q is twin["b"][0]
    assert other is twin["c"][0]
    assert q is not p
    assert (type(q), q.name, q.fresh, q.requires_grad, q.tolist()) == (Parameter, "weight", True, True, [1.0, 2.0])
    assert (type(other), other.name, other.persistent, other.tolist()) == (Buffer, "mean", False, [3])
    assert not twin["c"][1].requires_grad
    with nb.no_grad():
        q += 1.0
        other += 1
    assert (p.tolist(), mean.tolist(), q.tolist(), other.tolist()) == ([1.0, 2.0], [3], [2.0, 3.0], [4])


@pytest.mark.parametrize("twin_of", [copy.deepcopy, restored], ids=["deepcopy", "pickle"])
def test_trained_cells_come_back_without_the_past_of_their_process(twin_of):
    net = nn.Linear(2, 1)
    opt = optim.SGD(net.parameters(), lr=0.1)
    net(nb.ones((1, 2))).sum().backward()
    opt.step()
    twin = twin_of(net.weight)
    assert (twin.home, twin.tolist(), twin.written) == (None, net.weight.tolist(), 0)  # another process counts from 0
    assert (twin.fresh, net.weight.fresh) == (False, False)
    (twin * twin).sum().backward()
    assert twin.grad is not None


# -- backward and grad -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seed", "error", "words"),
    [
        (None, GraphError, r"scalar, got \(2,\).*\.sum\(\)"),
        (nb.ones(3, dtype="float64"), ShapeError, r"\(2,\), got \(3,\)"),
        (nb.ones((), dtype="float64"), ShapeError, r"\(2,\), got \(\)"),
        (nb.ones(2), DTypeError, "float64, got float32"),
        (np.ones(2, int), DTypeError, "float64, got int64"),
        (nb.ones(2, dtype="float64", device=D1), DeviceMismatchError, "cpu, got array_api_strict:device1"),
        ([1.0, 1.0], DTypeError, "got list"),
        (1.0, DTypeError, "got float"),
    ],
)
def test_seeds_are_like_the_tensor(seed, error, words):
    x = leaf([1.0, 2.0])
    for y in (x * 2.0, x):
        with pytest.raises(error, match=words):
            y.backward(seed)
        assert x.grad is None
    y = x * 2.0
    for good in (np.array([1.0, 10.0]), nb.tensor([1.0, 10.0], "float64")):
        y.backward(good, retain_graph=True)
        (x * 3.0).backward(good, create_graph=True)
        x.backward(good)
    assert x.grad.tolist() == [2 * 6.0, 2 * 60.0]


def test_backward_of_what_has_no_history_says_so():
    with nb.no_grad():
        y = leaf(2.0) * 3.0
    for t in (y, nb.tensor(1.0), leaf(1.0).detach()):
        with pytest.raises(GraphError, match=r"history, got Tensor\(.*no_grad"):
            t.backward()


def test_a_graph_is_used_once_unless_retained():
    x = leaf([1.0, 2.0])
    y = nb.exp(x) * x
    z, w = y.sum(), (y * y).sum()
    z.backward(retain_graph=True)
    once = x.grad.numpy().copy()
    z.backward()
    np.testing.assert_array_equal(x.grad.numpy(), 2 * once)  # to the bit
    for again in (z, w, y):  # `w` shares a part of the graph
        for create_graph in (False, True):
            with pytest.raises(GraphError, match=r"freed.*retain_graph=True"):
                again.backward(nb.ones(again.shape, dtype="float64"), create_graph=create_graph)
    np.testing.assert_array_equal(x.grad.numpy(), 2 * once)
    x.grad = None
    (x * 3.0).sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]


def test_grad_adds_up_and_what_was_looked_at_stays():
    x = leaf([1.0, 2.0])
    x.sum().backward()
    seen = x.grad
    assert seen is x.grad
    (x * 2.0).sum().backward()
    assert (seen.tolist(), x.grad.tolist()) == ([1.0, 1.0], [3.0, 3.0])
    assert not x.grad.requires_grad


def test_assigning_grad_copies_and_checks():
    x = leaf([1.0, 2.0])
    for given in (np.array([5.0, 6.0]), nb.asarray(np.array([5.0, 6.0]))):
        x.grad = given
        given[0] = 9.0
        assert x.grad.tolist() == [5.0, 6.0]
        x.sum().backward()
        assert (x.grad.tolist(), given[1]) == ([6.0, 7.0], 6.0)
    for wrong, error in ((nb.ones(2), DTypeError), (np.ones(3), ShapeError), (1.0, DTypeError)):
        with pytest.raises(error, match=r"^grad: expected"):
            x.grad = wrong
    x.grad = None
    assert x.grad is None


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize(
    "f",
    [
        lambda a, b: a + b,
        lambda a, b: (a.reshape((2, 2)) + b.reshape((2, 2)).T).reshape((4,)),
        lambda a, b: nb.stack([a, b]).sum(axis=0),
        lambda a, b: nb.concat([a, b])[:4] + nb.concat([b, a])[4:] * 0.0,
        lambda a, b: nb.flip(a) + b * 1.0,
        lambda a, b: a.clone() + b.clone(),
    ],
)
def test_gradients_share_no_memory(f, create_graph):
    a, b = leaf([1.0, 2.0, 3.0, 4.0]), leaf([5.0, 6.0, 7.0, 8.0])
    seed = np.array([1.0, 10.0, 100.0, 1000.0])
    f(a, b).backward(seed, create_graph=create_graph)
    arrays = [t.grad.data if t.grad is not None else np.zeros(0) for t in (a, b)] + [seed, a.data, b.data]
    assert arrays[0].size == 4
    for i, one in enumerate(arrays):
        assert not any(np.shares_memory(one, other) for other in arrays[i + 1 :])
    assert arrays[0].flags.writeable
    if b.grad is not None:
        kept = b.grad.tolist()
        a.grad[0] = 77.0
        assert b.grad.tolist() == kept
