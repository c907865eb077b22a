"""Embeddings: which rows get a gradient, which are shortened, what is refused; bags of all forms."""

import numpy as np
import pytest
from frozen import DEVICE1, PLACES

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn, optim
from nnbackend.errors import DataError, DTypeError, ShapeError

close = np.testing.assert_allclose
equal = np.testing.assert_array_equal
INDEX = np.array([[1, 3, 1], [0, 3, 1]])


def pulled(index, rows=5, place="cpu", **settings):
    """The gradient of a table of ones for the sum of what is looked up."""
    table = nb.ones((rows, 2), dtype="float64", device=place).requires_grad_()
    F.embedding(nb.tensor(index, device=place), table, **settings).sum().backward()
    return table.grad.numpy()[:, 0].tolist()


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_gradients_of_rows(place):
    assert pulled(INDEX, place=place) == [1.0, 3.0, 0.0, 2.0, 0.0]
    assert pulled(INDEX, place=place, padding_idx=1) == [1.0, 0.0, 0.0, 2.0, 0.0]
    assert pulled(INDEX, place=place, padding_idx=-2) == [1.0, 3.0, 0.0, 0.0, 0.0]
    assert pulled(INDEX, place=place, scale_grad_by_freq=True) == [1.0, 1.0, 0.0, 1.0, 0.0]
    assert pulled(INDEX, place=place, scale_grad_by_freq=True, padding_idx=3) == [1.0, 1.0, 0.0, 0.0, 0.0]
    assert pulled(INDEX.astype("uint8"), rows=300, place=place, sparse=True)[:5] == [1.0, 3.0, 0.0, 2.0, 0.0]


def test_the_layer():
    layer = nn.Embedding(10, 3, padding_idx=-1).init(3)
    assert (layer.padding_idx, repr(layer)) == (9, "Embedding(10, 3, padding_idx=9)")
    equal(layer.weight.numpy()[9], np.zeros(3))
    assert 0.5 < layer.weight.numpy()[:9].std() < 1.5
    equal(layer(nb.tensor([[0, 9]])).numpy(), layer.weight.numpy()[None, [0, 9]])
    optimizer = optim.SGD(layer.parameters(), lr=0.1)
    (layer(nb.tensor([1, 9])) + 1.0).sum().backward()
    optimizer.step()
    equal(layer.weight.numpy()[9], np.zeros(3))

    table = np.random.default_rng(0).standard_normal((4, 2))
    frozen = nn.Embedding.from_pretrained(table, padding_idx=1)
    equal(frozen.weight.numpy(), table)
    assert (frozen.weight.requires_grad, frozen.weight.dtype, frozen.padding_idx) == (False, "float64", 1)
    assert frozen.weight.data is not table
    free = nn.EmbeddingBag.from_pretrained(nb.tensor(table), freeze=False, mode="sum")
    assert (free.weight.requires_grad, free.mode) == (True, "sum")
    close(free(nb.tensor([[0, 1]])).numpy(), table[[0, 1]].sum(0, keepdims=True), 1e-12)


@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize(("order", "norm"), [(2.0, None), (1.0, 1), (np.inf, np.inf)])
def test_long_rows_that_are_asked_for_are_shortened_for_good(order, norm, place):
    layer = nn.Embedding(5, 3, max_norm=0.9, norm_type=order, device=place, dtype="float64").init(1)
    layer.weight.assign(layer.weight * 2.0)
    before = layer.weight.numpy().copy()
    with nb.testing.no_synchronization():
        y = layer(nb.tensor(INDEX, device=place))
        y.sum().backward()
    after, length = layer.weight.numpy(), np.linalg.norm(before, norm, axis=1, keepdims=True)
    want = np.where((length > 0.9) & np.isin(np.arange(5), INDEX)[:, None], before * 0.9 / (length + 1e-7), before)
    close(after, want, 1e-12)
    equal(y.numpy(), after[INDEX])
    assert layer.weight.grad.numpy()[:, 0].tolist() == [1.0, 3.0, 0.0, 2.0, 0.0]
    table = nb.tensor(before, device=place)
    y = F.embedding(nb.tensor(INDEX, device=place), table, max_norm=0.9, norm_type=order)
    close(y.numpy(), after[INDEX], 1e-12)
    equal(table.numpy(), before)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags_in_all_forms(mode):
    rng = np.random.default_rng(0)
    w, index = rng.standard_normal((6, 3)), rng.integers(0, 6, (4, 5))
    want = F.embedding_bag(index, w, mode=mode)
    assert isinstance(want, np.ndarray)
    flat, starts = index.reshape(-1), np.arange(4) * 5
    close(F.embedding_bag(flat, w, starts, mode=mode), want, 1e-12)
    close(F.embedding_bag(flat, w, np.append(starts, 20), mode=mode, include_last_offset=True), want, 1e-12)
    layer = nn.EmbeddingBag(6, 3, mode=mode, include_last_offset=True, dtype="float64")
    layer.load_state_dict({"weight": w})
    close(layer(flat, np.append(starts, 20)).numpy(), want, 1e-12)
    equal(F.embedding_bag(np.full((2, 3), 4), w, mode=mode, padding_idx=4), np.zeros((2, 3)))


def test_the_first_of_equal_rows_gets_the_gradient_of_a_maximum():
    w = nb.ones((4, 2), dtype="float64").requires_grad_()
    F.embedding_bag(nb.tensor([2, 1, 3, 0, 1]), w, nb.tensor([0, 3]), mode="max").sum().backward()
    assert w.grad.tolist() == [[1.0, 1.0], [0.0, 0.0], [1.0, 1.0], [0.0, 0.0]]


def test_how_often_a_row_appears_counts_in_bags_too():
    w, dy = nb.ones((4, 2), dtype="float64").requires_grad_(), nb.tensor([[1.0, 1.0], [10.0, 10.0]], dtype="float64")
    F.embedding_bag(nb.tensor([[1, 1], [1, 2]]), w, mode="sum", scale_grad_by_freq=True).backward(dy)
    close(w.grad.numpy(), [[0.0, 0.0], [4.0, 4.0], [10.0, 10.0], [0.0, 0.0]], 1e-15)


@pytest.mark.parametrize("f", [F.embedding, F.embedding_bag])
def test_rows_that_are_not_there(f):
    w = nb.ones((5, 2))
    for bad, found in (([[0, 1], [7, 5]], "2 of 4 outside 0..4 .first: row 1 = 7"), ([[-1, 2]], "row 0 = -1")):
        for index in (nb.tensor(bad), np.array(bad)):
            with pytest.raises(DataError, match=f"expected numbers of 5 rows, got .*{found}") as caught:
                f(index, w)
            assert caught.value.row == len(bad) - 1
    host = nb.tensor([[0, 5]], device=DEVICE1)  # values known from the host are checked wherever they are
    with pytest.raises(DataError, match="row 0 = 5"):
        f(host, w.to(nb.device(DEVICE1)))


def test_rows_are_shortened_in_a_recorded_step():
    def step_of(net):
        optimizer = optim.SGD(net.parameters(), lr=0.5)

        def step(index):
            optimizer.zero_grad()
            loss = (net(index) ** 2).sum()
            loss.backward()
            optimizer.step()
            return loss.detach()

        return step

    eager, recorded = (nn.Embedding(5, 3, padding_idx=0, max_norm=0.8).init(1) for _ in range(2))
    steps = step_of(eager), nb.compile(step_of(recorded))
    for n in range(5):
        index = np.random.default_rng(n).integers(0, 5, (4, 2))
        close(steps[1](index).numpy(), steps[0](index).numpy(), 1e-6)
        close(recorded.weight.numpy(), eager.weight.numpy(), 1e-6)
    assert steps[1].why is None


def test_a_replay_checks_the_rows_again():
    layer = nn.Embedding(4, 2)
    run = nb.compile(lambda index: layer(index).detach())
    for index in ([0, 1], [1, 3], [3, 2]):
        run(np.array(index))
    with pytest.raises(DataError, match="expected numbers of 4 rows"):
        run(np.array([1, 4]))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda w: F.embedding(nb.tensor([1.0]), w), DTypeError, "embedding: expected integers, got float32"),
        (
            lambda w: F.embedding(nb.tensor([1]), w[0]),
            ShapeError,
            r"expected a table \(rows, columns\), got shape \(2,\)",
        ),
        (lambda w: F.embedding(nb.tensor([1]), w, padding_idx=5), ValueError, r"padding_idx in -5..4, got 5"),
        (lambda w: nn.Embedding(5, 2, padding_idx=-6), ValueError, r"Embedding: expected padding_idx in -5..4, got -6"),
        (lambda w: nn.Embedding.from_pretrained(w[0]), ShapeError, r"Embedding: expected embeddings \(rows, columns\)"),
        (lambda w: nn.Embedding(5, 3, _weight=w), ShapeError, r"Embedding: expected a table of shape \(5, 3\)"),
        (lambda w: nn.EmbeddingBag(5, 2, mode="min"), ValueError, 'EmbeddingBag: expected mode="sum"'),
        (lambda w: F.embedding_bag(nb.tensor([[1]]), w, mode="min"), ValueError, 'embedding_bag: expected mode="sum"'),
        (lambda w: F.embedding_bag(nb.tensor([1]), w), ShapeError, r"got \(1,\) and none"),
        (lambda w: F.embedding_bag(nb.tensor([[1]]), w, nb.tensor([0])), ShapeError, "expected no offsets"),
        (lambda w: F.embedding_bag(nb.tensor([1]), w, nb.tensor([1])), DataError, r"offsets from 0 on.*got \[1\]"),
        (lambda w: F.embedding_bag(nb.tensor([1, 1]), w, nb.tensor([0, 3])), DataError, "at most 2"),
        (lambda w: F.embedding_bag(nb.tensor([1, 1, 1]), w, nb.tensor([0, 2, 1])), DataError, "never falling"),
        (
            lambda w: F.embedding_bag(nb.tensor([1, 1]), w, nb.tensor([0, 1]), include_last_offset=True),
            DataError,
            "to 2",
        ),
        (lambda w: F.embedding_bag(nb.tensor([[1]]), w, per_sample_weights=w), ValueError, 'expected mode="sum" with'),
        (
            lambda w: F.embedding_bag(nb.tensor([[1]]), w, per_sample_weights=w, mode="sum"),
            ShapeError,
            r"per_sample_weights of shape \(1, 1\)",
        ),
    ],
)
def test_what_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(nb.ones((5, 2)))
