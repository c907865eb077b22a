"""The look before training: bad set-ups get their code and nothing else, good ones are met with silence."""

import functools
import gc
import re
from pathlib import Path

import array_api_strict
import numpy as np
import pytest

import nnbackend as nb
from nnbackend import data, nn, optim
from nnbackend import functional as F
from nnbackend.cells import gradients_of
from nnbackend.train.lint import FAILS, RULES, lint

IRIS, DIGITS, XOR = data.iris(), data.digits(), data.xor()
KIND = np.eye(3, dtype="float32")[IRIS.y]
random = np.random.default_rng(0)
ROWS = random.normal(size=(300, 8))
SUMS = ROWS.sum(axis=1, keepdims=True)
TOKENS = random.integers(0, 40, (200, 12))


def trainer(net, loss="cross_entropy", optimizer="adam", seed=0, **more):
    return nb.Trainer(net, loss, optimizer, device="cpu", seed=seed, **more)


def codes(t, X, y, batch_size=32, weight=None, **more):
    return [finding.code for finding in lint(t, X, y, batch_size, weight, **more)]


def mlp(*sizes, activation="relu", **more):
    return nn.MLP(sizes, activation, **more)


# -- good ones --------------------------------------------------------------------------------------------------------


class Own(nn.Module):
    """A net of parts, by a function of them."""

    def __init__(self, forward, **parts):
        self.function = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *x, **named):
        return self.function(self, *x, **named)


def cnn():
    first = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)
    second = nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(nn.Unflatten(1, (1, 8, 8)), *first, *second, nn.Flatten(), nn.Linear(16, 10))


def lstm():
    parts = {"words": nn.Embedding(40, 8), "lstm": nn.LSTM(8, 16, batch_first=True), "out": nn.Linear(16, 3)}
    return Own(lambda net, x: net.out(net.lstm(net.words(x))[0][:, -1, :]), **parts)


def transformer():
    layers = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True), 1)
    parts = {"words": nn.Embedding(40, 16), "layers": layers, "out": nn.Linear(16, 40)}
    return Own(lambda net, x: nb.permute_dims(net.out(net.layers(net.words(x))), (0, 2, 1)), **parts)


def two_heads():
    def forward(net, a, b):
        h = F.relu(net.body(a + b))
        return {"kind": net.kind(h), "sum": net.sum(h)}

    return Own(forward, body=nn.Linear(8, 16), kind=nn.Linear(16, 2), sum=nn.Linear(16, 1))


def in_the_net(x):
    return (x - 128.0) / 128.0


def tutorial():
    net = mlp(4, 5, 10, 3, activation="sigmoid", output="sigmoid", dtype="float64")
    return trainer(net, lambda output, target: 1.5 * F.mse_loss(output, target), optim.SGD(lr=0.15))


def adamw_warm(opt):
    return optim.LambdaLR(opt, lambda step: step / 10)


smoothed = functools.partial(F.cross_entropy, label_smoothing=0.1)
sigmoids = functools.partial(mlp, activation="sigmoid", output="sigmoid")
coder = functools.partial(mlp, activation="silu", output="sigmoid")
PIXELS = DIGITS.X / 16
GOOD = {
    "xor": lambda s: (trainer(sigmoids(2, 4, 1), "mse", optim.SGD(lr=2.0), s), *XOR, None),
    "xor in batches of 32": lambda s: (trainer(sigmoids(2, 4, 1), "mse", optim.SGD(lr=0.5), s), *XOR),
    "iris, raw": lambda s: (trainer(mlp(4, 16, 3, activation="tanh"), seed=s), IRIS.X, IRIS.y),
    "iris, one by one": lambda s: (tutorial(), IRIS.X, KIND, 1),
    "digits": lambda s: (trainer(mlp(64, 64, 10), seed=s), PIXELS, DIGITS.y),
    "digits, standardised": lambda s: (
        trainer(mlp(64, 64, 10), seed=s),
        (DIGITS.X - DIGITS.X.mean(0)) / np.maximum(DIGITS.X.std(0), 0.1),
        DIGITS.y,
    ),
    "images": lambda s: (trainer(cnn(), seed=s), PIXELS, DIGITS.y),
    "regression": lambda s: (trainer(mlp(8, 32, 1), "mse", "adam", s), ROWS * 0.05, SUMS),
    "lstm": lambda s: (trainer(lstm(), seed=s), TOKENS, TOKENS[:, 0] % 3),
    "transformer": lambda s: (trainer(transformer(), seed=s), TOKENS, np.roll(TOKENS, -1, 1)),
    "autoencoder": lambda s: (trainer(coder(64, 32, 8, 32, 64), "mse", "adam", s), PIXELS, PIXELS),
    "several labels": lambda s: (trainer(mlp(8, 32, 4), "bce_with_logits", "adam", s), ROWS, (ROWS[:, :4] > 0) * 1.0),
    "yes or no": lambda s: (trainer(mlp(8, 16, 1), nn.BCEWithLogitsLoss(), "adam", s), ROWS, (SUMS > 0) * 1.0),
    "probabilities": lambda s: (trainer(mlp(8, 16, 1, output="sigmoid"), "bce", "adam", s), ROWS, (SUMS > 0) * 1.0),
    "logarithms": lambda s: (trainer(nn.Sequential(mlp(4, 9, 3), nn.LogSoftmax(1)), "nll"), IRIS.X, IRIS.y),
    "SAM": lambda s: (trainer(mlp(4, 16, 3), smoothed, optim.SAM(optim.SGD(lr=0.1)), s), IRIS.X, IRIS.y),
    "LBFGS": lambda s: (trainer(mlp(4, 16, 3, activation="tanh"), optimizer=optim.LBFGS()), IRIS.X, IRIS.y, None),
    "dropout, weights": lambda s: (trainer(mlp(64, 64, 10, dropout=0.5)), PIXELS, DIGITS.y, 32, PIXELS[:, 20] + 0.1),
    "heads": lambda s: (
        trainer(two_heads(), {"kind": "cross_entropy", "sum": "huber"}, "adam", s),
        {"a": ROWS, "b": ROWS},
        {"kind": (ROWS[:, 0] > 0).astype(int), "sum": SUMS},
    ),
    "scaled in the net": lambda s: (
        trainer(Own(lambda net, x: net.body(in_the_net(x)), body=mlp(64, 32, 10))),
        PIXELS * 255,
        DIGITS.y,
    ),
    "batch norm first": lambda s: (
        trainer(nn.Sequential(nn.BatchNorm1d(4), mlp(4, 9, 3))),
        IRIS.X * [1, 9999, 1, 1],
        IRIS.y,
    ),
    "branch of 0": lambda s: (trainer(branch_of_zero(), "mse", "adam", s), ROWS, SUMS),
    "warm-up from 0": lambda s: (
        trainer(mlp(4, 9, 3), schedule=adamw_warm, schedule_every="step"),
        IRIS.X,
        IRIS.y,
    ),
    "a frozen, loaded body": lambda s: (frozen_body(), IRIS.X, IRIS.y),
    "own step": lambda s: (own_step(), IRIS.X, IRIS.y),
}


def branch_of_zero():
    net = nn.Sequential(nn.Linear(8, 9), nn.Residual(mlp(9, 9, 9)), nn.Linear(9, 1))
    net.get_parameter("1.module.2.weight").initialiser = nn.init.zeros
    return net


def frozen_body():
    net = mlp(4, 9, 3)
    net[0].load_state_dict(nn.Linear(4, 9).state_dict())
    net[0].requires_grad_(False)
    return trainer(net, optimizer=optim.SGD(net[2].parameters(), lr=0.1))


def own_step():
    t = trainer(mlp(4, 9, 3))
    t.step = lambda *batch: pytest.fail("a step of one's own was taken")
    return t


@pytest.mark.parametrize("name", GOOD)
def test_good_set_ups_are_met_with_silence(name):
    for seed in (0, 1):
        assert lint(*GOOD[name](seed)) == []


# -- bad ones ---------------------------------------------------------------------------------------------------------


def own_softmax():
    def forward(net, x):
        e = nb.exp(net.body(x))
        return e / nb.sum(e, axis=1, keepdims=True)

    return Own(forward, body=mlp(4, 9, 3))


def with_values(net, path, value):
    net.get_parameter(path).assign(value(net.get_parameter(path).detach()))
    return net


def evaluating(net):
    return net.eval()


def squares(output, target):
    return ((output - target) ** 2).mean()


def iris(net=None, *args, X=IRIS.X, y=IRIS.y, batch=32, **more):
    return lambda: (trainer(net() if net else mlp(4, 9, 3), *args, **more), X, y, batch)


def rows(net, *args, X=ROWS, y=SUMS, **more):
    return lambda: (trainer(net(), *args, **more), X, y)


def normed():
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


def unused():
    return Own(lambda net, x: net.a(x), a=nn.Linear(4, 3), b=nn.Linear(4, 3))


def in_a_plain(parts):
    def forward(net, x):
        for part in net.parts.values() if isinstance(parts, dict) else net.parts:
            x = part(x)
        return net.out(x)

    return Own(forward, parts=parts, out=nn.Linear(4, 3))


def masked():
    return Own(lambda net, x: net.b(net.a(x) * 0.0), a=nn.Linear(4, 9), b=nn.Linear(9, 3))


BCE, SOFT, SGD = "bce_with_logits", functools.partial(nn.Sequential, mlp(4, 9, 3), nn.Softmax(1)), optim.SGD
YES = (SUMS > 0) * 1.0
AGES = np.concatenate([IRIS.X, random.normal(2000, 5, (150, 1))], axis=1)
BAD = [
    ("NB001", "another width", iris(lambda: mlp(5, 9, 3))),
    ("NB001", "NaN", iris(X=np.where(IRIS.X[3, 2] == IRIS.X, np.nan, IRIS.X))),
    ("NB001", "class names", iris(y=np.array(IRIS.class_names)[IRIS.y])),
    ("NB001", "fewer targets", iris(y=IRIS.y[:100])),
    ("NB101", "a constant", iris(lambda: mlp(5, 9, 3), X=np.c_[IRIS.X, np.full(150, 3.0)])),
    ("NB102", "pixels", lambda: (trainer(mlp(64, 32, 10)), DIGITS.X * 16, DIGITS.y)),
    ("NB102", "images", lambda: (trainer(cnn()[1:]), DIGITS.X.reshape(-1, 1, 8, 8) * 16, DIGITS.y)),
    ("NB102", "one in other units", iris(X=IRIS.X * [1, 0.001, 1, 1])),
    ("NB102", "all tiny", iris(X=IRIS.X * 1e-4)),
    ("NB102", "years", iris(lambda: mlp(5, 9, 3), X=AGES / [1, 1, 1, 1, 100.0])),
    ("NB103", "the answer", iris(lambda: mlp(5, 9, 3), X=np.c_[IRIS.X, IRIS.y])),
    ("NB104", "prices", rows(lambda: mlp(8, 9, 1), "mse", y=SUMS * 1e4)),
    ("NB105", "nothing but one", iris(y=IRIS.y * 0)),
    ("NB201", "softmax", iris(SOFT)),
    ("NB201", "a softmax of one's own", iris(own_softmax)),
    ("NB201", "sigmoid", rows(lambda: mlp(8, 9, 1, output="sigmoid"), BCE, y=YES)),
    ("NB202", "logits for bce", rows(lambda: mlp(8, 9, 1), "bce", y=YES)),
    ("NB202", "logits for nll", iris(None, nn.NLLLoss())),
    ("NB203", "a label too many", iris(lambda: mlp(4, 9, 2))),
    ("NB203", "from 1", iris(y=IRIS.y + 1)),
    ("NB203", "ten for three", iris(lambda: mlp(4, 9, 10))),
    ("NB203", "one for two", rows(lambda: mlp(8, 9, 1), y=YES[:, 0].astype(int))),
    ("NB204", "a row of targets", rows(lambda: mlp(8, 9, 1), "mse", y=SUMS[:, 0])),
    ("NB204", "for a loss of one's own", rows(lambda: mlp(8, 9, 1), squares, y=SUMS[:, 0])),
    ("NB205", "sigmoid", rows(lambda: mlp(8, 9, 1, output="sigmoid"), "mse")),
    ("NB205", "relu", rows(lambda: nn.Sequential(mlp(8, 9, 1), nn.ReLU()), "mae")),
    ("NB205", "half of the logits", iris(lambda: mlp(4, 9, 3, output="relu"))),
    ("NB301", "a thousand", iris(batch=1000)),
    ("NB302", "150 = 149 + 1", iris(normed, batch=149)),
    ("NB302", "one by one", iris(normed, batch=1)),
    ("NB303", "eval", iris(lambda: evaluating(mlp(4, 9, 3, dropout=0.2)))),
    ("NB304", "keep 5 %", iris(lambda: mlp(4, 9, 3, dropout=0.95))),
    ("NB401", "SGD of 1000", iris(optimizer=SGD(lr=1e3))),
    ("NB401", "SGD of 3 for squares", rows(lambda: mlp(8, 32, 1), "mse", SGD(lr=3.0))),
    ("NB401", "Adam of 10", lambda: (trainer(mlp(64, 32, 10), optimizer=optim.Adam(lr=10.0)), PIXELS, DIGITS.y)),
    ("NB402", "0", iris(optimizer=SGD(lr=0.0))),
    ("NB402", "frozen", iris(lambda: mlp(4, 9, 3).requires_grad_(False))),
    ("NB403", "another net's", iris(optimizer=SGD(mlp(4, 9, 3).parameters(), lr=0.1))),
    ("NB403", "a plain list", iris(lambda: in_a_plain([nn.Linear(4, 4), nn.ReLU()]))),
    ("NB403", "a plain dict", iris(lambda: in_a_plain({"first": nn.Linear(4, 4)}))),
    ("NB404", "unused", iris(unused)),
    ("NB404", "masked", iris(masked)),
    ("NB501", "far below 0", iris(lambda: with_values(mlp(4, 9, 3), "0.bias", lambda b: b - 100))),
    ("NB502", "far out", iris(lambda: with_values(mlp(4, 9, 3, activation="tanh"), "0.weight", lambda w: w * 300))),
]  # fmt: skip


@pytest.mark.parametrize(("code", "what", "made"), BAD, ids=[f"{code} {what}" for code, what, _ in BAD])
def test_bad_set_ups_get_their_code(code, what, made):
    t, *rest = made()
    found = lint(t, *rest)
    assert {finding.code for finding in found} == {code}
    assert all(str(finding).startswith(f"{code}: ") for finding in found)
    assert lint(t, *rest, ignore=(code,)) == []


def test_all_rules_have_a_case_and_a_line_in_the_manual():
    every = [FAILS[0], *(rule.code for rule in RULES)]
    assert sorted({code for code, *_ in BAD}) == every == sorted(set(every))
    manual = (Path(__file__).parent.parent / "docs" / "lint.md").read_text()
    assert re.findall(r"^\| (NB\d+) \|", manual, re.MULTILINE) == every


# -- what it leaves alone ---------------------------------------------------------------------------------------------


def everything(t):
    params = list(t.net.parameters())
    gradients = [None if g is None else g.copy() for g in gradients_of(params)]
    calls = [m.calls.value for m in t.net.modules() if hasattr(m, "calls")]
    state = {name: value.numpy().copy() for name, value in t.net.state_dict().items()}
    optimizer = str(t.optimizer.state_dict())
    fresh, flags = [(p.fresh, p.written) for p in params], [m._training for m in t.net.modules()]
    return gradients, calls, state, optimizer, fresh, flags, t.steps, np.random.get_state()[1].tolist()


@pytest.mark.parametrize("trained", [False, True])
def test_nothing_changes(trained):
    net = nn.Sequential(cnn(), nn.Dropout(0.1))
    t = trainer(net, lambda output, y: F.cross_entropy(output, y) + 1e-3 * (net[0][1].weight ** 2).sum())
    if trained:
        t.fit(PIXELS[:64], DIGITS.y[:64], verbose=False)
        t.gradients(nb.tensor(PIXELS[:8].astype("float32")), nb.tensor(DIGITS.y[:8]))
    before = everything(t)
    lint(t, PIXELS, DIGITS.y)
    for now, then in zip(everything(t), before, strict=True):
        np.testing.assert_equal(now, then)


def test_a_run_is_the_same_with_and_without():
    def weights(look):
        t = trainer(mlp(4, 16, 3, dropout=0.3))
        if look:
            lint(t, IRIS.X, IRIS.y)
        t.fit(IRIS.X, IRIS.y, epochs=3, verbose=False)
        return [p.numpy() for p in t.net.parameters()]

    np.testing.assert_equal(weights(True), weights(False))


def test_what_training_would_raise_is_fatal_and_the_rest_is_not():
    (error,) = lint(*iris(lambda: mlp(4, 9, 2))())
    assert error.fatal
    assert "outside 0..1" in error.message
    assert not lint(*iris(SOFT)())[0].fatal


def test_several_codes_come_in_order_and_can_be_silenced_one_by_one():
    t = trainer(mlp(4, 9, 3, dropout=0.95, output="relu"))
    assert codes(t, IRIS.X * 100, IRIS.y, 999) == ["NB102", "NB205", "NB301", "NB304"]
    assert codes(t, IRIS.X * 100, IRIS.y, 999, ignore="NB301") == ["NB102", "NB205", "NB304"]
    with pytest.raises(ValueError, match=r"expected codes such as NB101, got NB1\."):
        lint(t, IRIS.X, IRIS.y, ignore=["NB1"])


def test_a_loader_is_looked_at_and_other_batches_are_left_alone():
    loader = data.DataLoader(IRIS.X * 100, IRIS.y, batch_size=149)
    assert codes(trainer(normed()), loader, None) == ["NB102", "NB302"]
    assert codes(trainer(normed()), data.DataLoader(IRIS.X, IRIS.y, batch_size=149, drop_last=True), None) == []
    assert (loader.epoch, loader.batch) == (0, 0)
    batches = iter([(IRIS.X, IRIS.y)])
    assert codes(trainer(mlp(4, 9, 3)), batches, None) == []
    assert len(list(batches)) == 1


def test_sorted_and_periodic_rows_are_seen_as_they_are():
    """Rows at equal distances would all be of one class."""
    y = np.arange(10_000) % 10
    x = np.eye(10)[y] + 0.1 * np.arange(10_000)[:, None] % 1.0
    assert codes(trainer(mlp(10, 9, 10)), x, y) == []
    assert codes(trainer(mlp(10, 9, 10)), np.sort(x, axis=0), np.sort(y)) == []


def test_of_a_file_few_rows_are_read(tmp_path):
    x = np.memmap(tmp_path / "x", "float32", "w+", shape=(20_000, 4))
    x[:] = np.resize(IRIS.X, x.shape)
    x[1] = np.nan  # not among the rows that are looked at
    y = np.resize(IRIS.y, 20_000)
    assert codes(trainer(mlp(4, 9, 3)), nb.asarray(x), nb.asarray(y)) == []


def test_on_another_device():
    device = array_api_strict.Device("device1")
    t = nb.Trainer(mlp(4, 9, 3, output="relu"), "cross_entropy", device=device, seed=0)
    X, y = np.resize(IRIS.X, (1200, 4)).astype("float32"), np.resize(IRIS.y, 1200)
    X, y = nb.tensor(X, device=device), nb.tensor(y, device=device)
    assert codes(t, X, y) == codes(t, X, y, 1199) == ["NB205"]


def test_copies_do_not_stay():
    def alive():
        return sum(type(x) is Own for x in gc.get_objects())  # others may answer `isinstance` in ways of their own

    t, wrong = trainer(own_softmax()), trainer(Own(lambda net, x: net.body(x), body=mlp(4, 9, 2)))
    gc.collect()
    gc.disable()
    try:
        before = alive()
        assert [codes(each, IRIS.X, IRIS.y) for each in (t, wrong)] == [["NB201"], ["NB203"]]
        assert alive() == before
    finally:
        gc.enable()
