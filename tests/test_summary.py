"""nb.summary: counts against formulae by hand, state left alone, and the printed page."""

import array_api_strict as strict
import numpy as np
import pytest

import nnbackend as nb
import nnbackend.functional as F
from nnbackend import nn

DEVICE1 = strict.Device("device1")


def row(summary, path):
    (found,) = [r for r in summary.rows if r.path == path]
    return found


def test_mlp():
    net = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 10))
    s = nb.summary(net, (32, 784))
    assert [r.path for r in s.rows] == ["", "0", "1", "2", "3"]
    assert (row(s, "0").inputs, row(s, "0").outputs) == ([(32, 784)], [(32, 128)])
    assert [r.parameters for r in s.rows] == [101_770, 784 * 128 + 128, 0, 0, 128 * 10 + 10]
    assert [r.multiply_adds for r in s.rows] == [32 * (784 * 128 + 1280), 32 * 784 * 128, 0, 0, 32 * 1280]
    assert [r.activation_bytes for r in s.rows[1:]] == [4 * 32 * 128, 4 * 32 * 128, 0, 4 * 32 * 10]
    assert s.activation_bytes == 4 * 32 * (128 + 128 + 10)
    assert (s.parameters, s.trainable, s.parameter_bytes, s.buffer_bytes) == (101_770, 101_770, 407_080, 0)


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (nn.Conv2d(3, 16, 3, padding=1), (8, 3, 32, 32), 8 * 16 * 32 * 32 * 3 * 9),
        (nn.Conv2d(16, 32, 3, groups=4, stride=2), (8, 16, 16, 16), 8 * 32 * 7 * 7 * 4 * 9),
        (nn.Conv1d(4, 6, 5, dilation=2), (2, 4, 20), 2 * 6 * 12 * 4 * 5),
        (nn.Conv3d(2, 4, 2), (2, 5, 5, 5), 4 * 4**3 * 2 * 8),  # without a batch
        (nn.ConvTranspose2d(8, 4, 4, stride=2, padding=1), (2, 8, 5, 5), 2 * 8 * 25 * 4 * 16),
        (nn.ConvTranspose1d(8, 4, 3, groups=2, stride=3, output_padding=2), (2, 8, 5), 2 * 8 * 5 * 2 * 3),
        (nn.Linear(6, 5), (2, 3, 6), 2 * 3 * 6 * 5),
        (nn.Bilinear(3, 4, 5), ((2, 3), (2, 4)), 2 * 5 * 3 * 4 + 2 * 5 * 4),
        (nn.RNN(10, 20), (5, 3, 10), 5 * 3 * 20 * (10 + 20)),
        (nn.GRU(10, 20, batch_first=True), (3, 5, 10), 5 * 3 * 60 * (10 + 20)),
        (nn.LSTM(10, 20, 2, bidirectional=True), (5, 3, 10), 5 * 3 * 2 * 80 * (10 + 20 + 40 + 20)),
        (nn.LSTM(10, 20, proj_size=4), (5, 3, 10), 5 * 3 * (80 * (10 + 4) + 4 * 20)),
        (nn.LSTMCell(10, 20), (3, 10), 3 * 80 * 30),
        (nn.LayerNorm(16), (4, 7, 16), 3 * 4 * 7 * 16),
        (nn.RMSNorm(16, elementwise_affine=False), (4, 16), 2 * 4 * 16),
        (nn.GroupNorm(2, 6), (4, 6, 5), 3 * 4 * 6 * 5),
        (nn.BatchNorm1d(6), (4, 6, 5), 4 * 6 * 5 + 6),  # known statistics: one product an element, one a channel
        (nn.ReLU(), (4, 6), 0),
        (nn.Embedding(10, 3), np.zeros((2, 5), "int64"), 0),
    ],
)
def test_multiply_adds(layer, shape, expected):
    assert nb.summary(layer, shape).multiply_adds == expected


@pytest.mark.parametrize("weights", [True, False])
def test_attention(weights):
    attention, x = nn.MultiheadAttention(32, 4, batch_first=True), nb.zeros((2, 7, 32))
    s = nb.summary(attention, {"query": x, "key": x, "value": x, "need_weights": weights})
    projections, products = 4 * 2 * 7 * 32 * 32, 2 * 2 * 7 * 7 * 32
    assert s.multiply_adds == projections + products
    assert s.rows[0].inputs == [(2, 7, 32)] * 3
    assert s.parameters == 4 * 32 * 32 + 4 * 32
    assert row(s, "out_proj").multiply_adds == projections // 4


def test_transformer_layer():
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    s = nb.summary(layer, (2, 7, 32))
    rows = 2 * 7
    expected = rows * 4 * 32 * 32 + 2 * rows * 7 * 32 + 2 * rows * 32 * 64 + 2 * 3 * rows * 32
    assert s.multiply_adds == expected
    assert s.parameters == sum(p.size for p in layer.parameters())
    assert sum(r.multiply_adds for r in s.rows if r.depth == 1) == expected
    short = nb.summary(layer, (2, 7, 32), depth=0)
    assert len(short.table()) == 2
    assert short.rows == s.rows


class Pair(nn.Module):
    """Everything at once: two inputs, a layer called twice, a tied weight, own ops, a layer that is never called."""

    def __init__(self):
        super().__init__()
        self.embedding, self.body = nn.Embedding(50, 16), nn.Linear(16, 16)
        self.out = nn.Linear(16, 50, bias=False)
        self.out.weight = self.embedding.weight
        self.gain, self.spare = nn.Parameter(nb.ones(16)), nn.ModuleList([nn.Linear(4, 4)])
        self.spare.requires_grad_(False)

    def forward(self, ids, extra, scale=None):
        h = self.body(self.body(self.embedding(ids))) * self.gain + extra @ nb.ones((3, 16))
        return F.linear(self.out(F.relu(h)), nb.ones((2, 50))), {"h": h}


def test_user_module():
    ids = np.zeros((2, 5), dtype="int64")
    s = nb.summary(Pair(), (ids, (2, 5, 3)))
    assert [r.path for r in s.rows] == ["", "embedding", "body", "body", "out", "spare.0"]
    assert s.rows[0].inputs == [(2, 5), (2, 5, 3)]
    assert s.rows[0].outputs == [(2, 5, 2), (2, 5, 16)]
    rows = 2 * 5
    assert s.multiply_adds == rows * (2 * 256 + 16 + 3 * 16 + 16 * 50 + 50 * 2)
    assert [r.parameters for r in s.rows] == [800 + 272 + 16 + 20, 800, 272, 0, 0, 20]
    assert (s.trainable, s.frozen) == (1088, 20)
    assert [r.shared for r in s.rows] == [False, False, False, True, True, False]
    assert [r.called for r in s.rows] == [True] * 5 + [False]
    assert s.activation_bytes == 4 * rows * (16 + 2 * 16 + 16 + 16 + 16 + 16 + 50 + 2)
    assert nb.summary(Pair(), {"ids": ids, "extra": (2, 5, 3), "scale": None}).rows == s.rows


def test_without_an_example_only_parameters():
    s = nb.summary(Pair())
    assert [r.path for r in s.rows] == ["", "embedding", "body", "out", "spare", "spare.0"]
    assert [r.parameters for r in s.rows] == [1108, 800, 272, 0, 20, 20]
    assert s.table()[0] == ["layer", "parameters"]
    assert "multiply" not in str(s)


class Counting(nn.Module):
    """Changes everything it can in a forward."""

    def __init__(self):
        super().__init__()
        self.norm, self.drop, self.w = nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Parameter(nb.ones(3))
        self.register_buffer("seen", nb.zeros(3))

    def forward(self, x):
        self.seen += 1.0
        with nb.no_grad():
            self.w *= 2.0
        with nb.enable_grad():
            (self.w * 3.0).sum().backward()
        self.drop.train()
        y = F.dropout(x, 0.5, True, **self.drop.next_address())
        self.drop.calls.value = 7
        return self.norm(y) * self.w.grad


@pytest.mark.parametrize("graded", [True, False])
def test_state_stays(graded):
    net = Counting()
    if graded:
        (net.w * 5.0).sum().backward()
    net.norm(nb.ones((4, 3)) * 2.0)
    before = {name: value.numpy() for name, value in net.state_dict().items()}
    gradient = net.w.grad.numpy().copy() if graded else None
    written = [(p.written, p.fresh) for p in net.parameters()], [b.written for b in net.buffers()]
    modes, calls = [m.training for m in net.modules()], net.drop.calls.value
    assert nb.summary(net, (4, 3)).rows[0].outputs == [(4, 3)]
    after = {name: value.numpy() for name, value in net.state_dict().items()}
    assert after.keys() == before.keys()
    assert all(np.array_equal(after[name], before[name]) for name in before)
    assert np.array_equal(net.w.grad.numpy(), gradient) if graded else net.w.grad is None
    assert ([(p.written, p.fresh) for p in net.parameters()], [b.written for b in net.buffers()]) == written
    assert ([m.training for m in net.modules()], net.drop.calls.value) == (modes, calls)


def test_an_error_in_the_model_is_the_models():
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(5))
    with pytest.raises(nb.errors.ShapeError, match=r"BatchNorm1d|batch_norm"):
        nb.summary(net, (2, 3))
    with pytest.raises(nb.errors.ShapeError, match="Linear"):
        nb.summary(net, (2, 4))
    assert nb.summary(net[:1], (2, 3)).multiply_adds == 24  # nothing is left over of the first


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_other_devices(dtype):
    net = nn.Sequential(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.Flatten(), nn.Linear(12, 2)).to(dtype=dtype)
    here = nb.summary(net, (3, 2, 5))
    width = 4 if dtype == "float32" else 8
    assert here.parameter_bytes == width * (28 + 8 + 26)
    there = net.to(DEVICE1)
    assert nb.summary(there, (3, 2, 5)).rows == here.rows
    assert nb.summary(there, np.zeros((3, 2, 5))).rows == here.rows


def test_bad_arguments():
    net = nn.Linear(3, 2)
    with pytest.raises(TypeError, match=r"expected a module, got function"):
        nb.summary(lambda x: x, (2, 3))
    with pytest.raises(TypeError, match=r"expected as example an array, a shape .* got str"):
        nb.summary(net, "images")
    with pytest.raises(ValueError, match=r"whole numbers from 0 up, got \(None, 3\)"):
        nb.summary(net, (None, 3))
    with pytest.raises(ValueError, match=r"whole numbers from 0 up, got \(-1, 3\)"):
        nb.summary(net, (-1, 3))
    with pytest.raises(ValueError, match=r"expected depth .* got -1"):
        nb.summary(net, (2, 3), depth=-1)
    with pytest.raises(AttributeError, match=r"expected rows, parameters, .* got 'size'"):
        nb.summary(net).size


PAGE = """
layer                        input          output         parameters  activations  multiply-adds
-------------------------------------------------------------------------------------------------
Sequential                   (16, 1, 8, 8)  (16, 10)            2,986      55.9 kB         92,168
  0: Sequential              (16, 1, 8, 8)  (16, 8, 6, 6)          96      55.3 kB         46,088
    0: Conv2d(1, 8, (3, 3))  (16, 1, 8, 8)  (16, 8, 6, 6)          80      18.4 kB         41,472
    1: BatchNorm2d(8)        (16, 8, 6, 6)  (16, 8, 6, 6)          16      18.4 kB          4,616
    2: ReLU()                (16, 8, 6, 6)  (16, 8, 6, 6)           0      18.4 kB              0
  1: Flatten()               (16, 8, 6, 6)  (16, 288)               0          0 B              0
  2: Linear(288, 10)         (16, 288)      (16, 10)            2,890        640 B         46,080
-------------------------------------------------------------------------------------------------
parameters     2,986 (11.9 kB), 2,890 of them frozen
buffers        72 B
activations    55.9 kB
multiply-adds  92,168
"""


def test_page():
    net = nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU()), nn.Flatten(), nn.Linear(288, 10)
    )
    net[2].requires_grad_(False)
    s = nb.summary(net, (16, 1, 8, 8))
    assert str(s) == PAGE.strip("\n")
    assert repr(s) == str(s)


def test_html():
    class Odd(nn.Identity):
        def extra_repr(self):
            return "<b>"

    page = nb.summary(nn.Sequential(Odd(), nn.Linear(3, 2)), (4, 3))._repr_html_()
    assert page.count("<tr>") == 4
    assert "&emsp;0: Odd(&lt;b&gt;)" in page
    assert "<b>" not in page
    assert "multiply-adds: 24" in page
    assert "<br>" not in nb.summary(nn.Linear(3, 2))._repr_html_()
