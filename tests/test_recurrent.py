"""Recurrent layers beyond the tables: states, lengths, dropout, long sequences, threads, recordings and scripts."""

import numpy as np
import pytest

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn, optim
from nnbackend.backend import numpy_recurrent
from nnbackend.errors import DTypeError, LabelError, ShapeError
from nnbackend.io.source import to_source

rng = np.random.default_rng(0)


def numbers(*shape, dtype="float32"):
    return nb.tensor(rng.standard_normal(shape).astype(dtype))


def test_names_and_shapes_of_parameters_are_pytorchs():
    shapes = {name: p.shape for name, p in nn.LSTM(3, 4, 2, bidirectional=True, proj_size=2).named_parameters()}
    assert list(shapes)[:6] == [
        "weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0", "weight_hr_l0", "weight_ih_l0_reverse",
    ]  # fmt: skip
    assert (shapes["weight_ih_l1"], shapes["weight_hh_l1"], shapes["weight_hr_l1_reverse"]) == (
        (16, 4),
        (16, 2),
        (2, 4),
    )
    weights = np.concat([p.numpy().ravel() for p in nn.GRU(3, 16).parameters()])
    assert 0.24 < np.abs(weights).max() <= 0.25


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_shapes_of_outputs_and_states(kind):
    net = getattr(nn, kind)(3, 4, 2, batch_first=True, bidirectional=True)
    for x, outputs, states in ((numbers(5, 6, 3), (5, 6, 8), (4, 5, 4)), (numbers(6, 3), (6, 8), (4, 4))):
        y, last = net(x)
        hs = last if kind == "LSTM" else (last,)
        assert (y.shape, {h.shape for h in hs}) == (outputs, {states})
        again, _ = net(x, tuple(h * 0.0 for h in last) if kind == "LSTM" else last * 0.0)
        np.testing.assert_array_equal(again.numpy(), y.numpy())


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_lengths_are_what_each_sequence_gives_alone(kind):
    net = getattr(nn, kind)(3, 4, 2, bidirectional=True, dtype="float64")
    x, lengths = numbers(6, 3, 3, dtype="float64"), [4, 6, 1]
    filled = x.numpy().copy()
    for k, end in enumerate(lengths):
        filled[end:, k] = np.nan  # is not looked at
    x = nb.tensor(filled, requires_grad=True)
    y, last = net(x, lengths=nb.tensor(lengths))
    for k, end in enumerate(lengths):
        want, alone = net(x[:end, k : k + 1, :].detach())
        np.testing.assert_allclose(y.numpy()[:end, k : k + 1], want.numpy(), rtol=1e-12)
        assert not y.numpy()[end:, k].any()
        for h, w in zip(*((last, alone) if kind == "LSTM" else ((last,), (alone,))), strict=True):
            np.testing.assert_allclose(h.numpy()[:, k : k + 1], w.numpy(), rtol=1e-12)
    y.sum().backward()
    assert np.isfinite(x.grad.numpy()).all()
    assert all(np.isfinite(p.grad.numpy()).all() for p in net.parameters())


def test_dropout_is_between_layers_and_at_addresses():
    x = numbers(5, 4, 3)
    one, two = nn.GRU(3, 8, dropout=0.5).init(0), nn.GRU(3, 8, 2, dropout=0.5).init(0)
    np.testing.assert_array_equal(one(x)[0].numpy(), one(x)[0].numpy())
    first, second = two(x)[0].numpy(), two(x)[0].numpy()
    assert (first != second).any()
    np.testing.assert_array_equal(two.init(0)(x)[0].numpy(), first)
    two.eval()
    np.testing.assert_array_equal(two(x)[0].numpy(), two(x)[0].numpy())


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_the_batch_in_parts_changes_nothing(kind, monkeypatch):
    net, x = getattr(nn, kind)(3, 8), numbers(7, 5, 3)

    def run():
        net.zero_grad()
        y, _ = net(x)
        (y * y).sum().backward()
        return [y.numpy(), *(p.grad.numpy() for p in net.parameters())]

    want = run()
    monkeypatch.setattr(numpy_recurrent, "WORTH_THREADS", 1)
    monkeypatch.setattr(numpy_recurrent, "num_threads", lambda: 3)
    for got, w in zip(run(), want, strict=True):
        np.testing.assert_allclose(got, w, rtol=1e-5, atol=1e-6)


def sequence_step(net, optimizer):
    def step(x, target):
        y, _ = net(x)
        loss = F.mse_loss(y, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_a_recorded_step_on_2000_steps_is_short_and_equals_eager(kind):
    x, target = numbers(2000, 2, 3), numbers(2000, 2, 4)
    losses = []
    for compiled in (False, True):
        net = getattr(nn, kind)(3, 4, 2).init(0)
        step = sequence_step(net, optim.Adam(net.parameters(), lr=0.01))
        step = nb.compile(step) if compiled else step
        losses.append([step(x, target).item() for _ in range(5)])
        if compiled:
            assert len(step.program.nodes) < 200
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    assert losses[0][-1] < losses[0][0]


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_as_a_script(kind):
    net = getattr(nn, kind)(3, 4, 2, bidirectional=True)
    x = numbers(5, 2, 3)
    names: dict = {}
    exec(compile(to_source(net, x), "script", "exec"), names)
    got, want = names["predict"](x.numpy())[0], net(x)[0].numpy()
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    ("build", "error"),
    [
        (lambda: nn.LSTM(3, 0), ValueError),
        (lambda: nn.GRU(3, 4, 0), ValueError),
        (lambda: nn.RNN(3.0, 4), TypeError),
        (lambda: nn.RNN(3, 4, bias=1), TypeError),
        (lambda: nn.RNN(3, 4, nonlinearity="gelu"), ValueError),
        (lambda: nn.GRU(3, 4, dropout=1.5), ValueError),
        (lambda: nn.LSTM(3, 4, proj_size=4), ValueError),
        (lambda: nn.GRUCell(0, 4), ValueError),
        (lambda: nn.RNNCell(3, 4, nonlinearity="gelu"), ValueError),
        (lambda: nn.GRU(3, 4)(numbers(5, 2, 4)), ShapeError),
        (lambda: nn.GRU(3, 4)(numbers(0, 2, 3)), ShapeError),
        (lambda: nn.GRU(3, 4)(numbers(5, 2, 3), numbers(1, 3, 4)), ShapeError),
        (lambda: nn.LSTM(3, 4)(numbers(5, 2, 3), (numbers(1, 2, 4),)), ShapeError),
        (lambda: nn.GRU(3, 4)(numbers(5, 2, 3, dtype="float64")), DTypeError),
        (lambda: nn.GRU(3, 4)(numbers(5, 2, 3), lengths=[5]), ShapeError),
        (lambda: nn.GRU(3, 4)(numbers(5, 2, 3), lengths=[5, 6]), LabelError),
        (lambda: nn.GRU(3, 4)(numbers(5, 2, 3), lengths=nb.tensor([0, 5])), LabelError),
        (lambda: nn.GRU(3, 4)(numbers(5, 2, 3), lengths=numbers(2)), DTypeError),
        (lambda: nn.LSTMCell(3, 4)(numbers(5, 4)), ShapeError),
        (lambda: nn.GRUCell(3, 4)(numbers(5, 3), numbers(4, 4)), ShapeError),
        (lambda: nn.utils.rnn.pad_sequence([]), ShapeError),
        (lambda: nn.utils.rnn.pad_sequence([numbers(2, 3), numbers(2, 4)]), ShapeError),
        (lambda: nn.utils.rnn.pad_sequence([numbers(2)], padding_side="top"), ValueError),
    ],
)  # fmt: skip
def test_what_is_refused(build, error):
    with pytest.raises(error, match="expected"):
        build()
