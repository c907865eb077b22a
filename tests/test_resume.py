"""Exact resume: a run that goes on from a checkpoint ends on the bits of the one that was never interrupted."""

import numpy as np
import pytest
from resume_case import LABELS, SECOND, VALUES, X, exact, fit_quietly, images, maker, small

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn, optim

OPTIMIZERS = {
    "sgd": optim.SGD(lr=0.1),
    "momentum": optim.SGD(lr=0.1, momentum=0.9, dampening=0.1, weight_decay=0.01),
    "nesterov": optim.SGD(lr=0.1, momentum=0.9, nesterov=True, maximize=True),
    "adam": optim.Adam(lr=0.05, amsgrad=True),
    "adamw": optim.AdamW(lr=0.05, betas=(0.8, 0.9)),
    "adagrad": optim.Adagrad(lr=0.1, lr_decay=0.1),
    "rmsprop": optim.RMSprop(lr=0.01, centered=True, momentum=0.5),
    "adadelta": optim.Adadelta(lr=1.0),
    "rprop": optim.Rprop(lr=0.01),
    "asgd": optim.ASGD(lr=0.1, t0=3),
    "adamax": optim.Adamax(lr=0.05),
    "nadam": optim.NAdam(lr=0.05),
    "radam": optim.RAdam(lr=0.05),
    "lion": optim.Lion(lr=0.01),
    "adafactor": optim.Adafactor(lr=0.05),
    "sam": optim.SAM(optim.SGD(lr=0.1, momentum=0.9), rho=0.1),
    "sam adam": optim.SAM(optim.Adam(lr=0.05), rho=0.1, adaptive=True),
    "lbfgs": optim.LBFGS(lr=0.5, max_iter=3, history_size=2),
    "lbfgs search": optim.LBFGS(max_iter=3, line_search_fn="strong_wolfe"),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_goes_on_exactly(tmp_path, name):
    exact(tmp_path, maker(optimizer=OPTIMIZERS[name]), fit_quietly(), at=(2,))


def test_muon_and_matrices(tmp_path):
    def matrices():
        return nn.Sequential(nn.Linear(6, 4, bias=False), nn.Tanh(), nn.Linear(4, 3, bias=False))

    exact(tmp_path, maker(matrices, optimizer=optim.Muon(lr=0.05)), fit_quietly(), at=(2,))


def test_groups_with_settings_of_their_own_and_weights_that_stand_still(tmp_path):
    def net():
        made = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3))
        made[1].weight.requires_grad_(False)
        return made

    def groups(net):
        first = {"params": [net[0].weight, net[3].bias], "lr": 0.2, "weight_decay": 0.1}
        return optim.SGD([first, {"params": [net[0].bias, net[3].weight], "momentum": 0.5}], lr=0.1)

    schedule = {"schedule": lambda opt: optim.CosineAnnealingLR(opt, 5), "schedule_every": "step"}
    given = {"schedule": schedule["schedule"]}
    exact(tmp_path, maker(net, optimizer=groups, **schedule), fit_quietly(), at=(1, 4), given=lambda: given)


@nb.register("resume.Late")
class Late(nn.Module):
    """Half of it gets no gradient in the first steps."""

    def __init__(self):
        self.first, self.second, self.calls = nn.Linear(6, 3), nn.Linear(6, 3), nb.cells.Scalar(0)

    def forward(self, x):
        if self.training:
            self.calls.value = self.calls.value + 1
            if self.calls.value > 3:
                return self.first(x) + self.second(x)
        return self.first(x)


def test_parameters_without_a_gradient_until_later(tmp_path):
    with pytest.warns(UserWarning, match=r"no gradient for .*second"):
        whole = exact(tmp_path, maker(Late, optimizer="nadam"), fit_quietly(), at=(1, 3, 4))
    steps = {name: entry["step"] for name, entry in whole.optimizer.state_dict()["state"].items()}
    assert steps == {0: 6, 1: 6, 2: 3, 3: 3}


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_narrow_and_wide_weights(tmp_path, dtype):
    exact(tmp_path, maker(lambda: small(dtype), optimizer=optim.Adam(lr=0.003)), fit_quietly(), at=(2,))


SCHEDULES = {
    "step": lambda o: optim.StepLR(o, 2, 0.5),
    "multi": lambda o: optim.MultiStepLR(o, [2, 4]),
    "constant": lambda o: optim.ConstantLR(o, 0.5, 3),
    "linear": lambda o: optim.LinearLR(o, 0.1, total_iters=4),
    "exponential": lambda o: optim.ExponentialLR(o, 0.7),
    "polynomial": lambda o: optim.PolynomialLR(o, 5, 2.0),
    "cosine": lambda o: optim.CosineAnnealingLR(o, 4),
    "restarts": lambda o: optim.CosineAnnealingWarmRestarts(o, 2, 2),
    "cyclic": lambda o: optim.CyclicLR(o, 0.01, 0.1, 2, cycle_momentum=False),
    "one cycle": lambda o: optim.OneCycleLR(o, 0.1, total_steps=6),
    "swa": lambda o: optim.SWALR(o, 0.05, 3),
    "sequential": lambda o: optim.SequentialLR(o, [optim.LinearLR(o, 0.1, total_iters=2), optim.StepLR(o, 1)], [2]),
    "chained": lambda o: optim.ChainedScheduler([optim.ConstantLR(o, 0.1, 2), optim.ExponentialLR(o, 0.9)]),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_goes_on_exactly(tmp_path, name):
    optimizer = optim.SGD(lr=0.1, momentum=0.9)
    make = maker(optimizer=optimizer, schedule=SCHEDULES[name], schedule_every="step")
    whole = exact(tmp_path, make, fit_quietly(), at=(2,))
    assert whole.schedule.last_epoch == 6


@pytest.mark.parametrize("validation", [None, SECOND])
def test_a_plateau_remembers_what_it_has_seen(tmp_path, validation):
    make = maker(schedule=lambda o: optim.ReduceLROnPlateau(o, patience=0, threshold=0.5, cooldown=1, min_lr=1e-4))
    whole = exact(tmp_path, make, fit_quietly(epochs=5, validation_data=validation, batch_size=9), at=(1, 4, 6))
    assert whole.optimizer.param_groups[0]["lr"] < 1e-3


def test_a_schedule_by_epoch_and_one_with_a_function(tmp_path):
    schedule = lambda o: optim.LambdaLR(o, lambda n: 1 / (1 + n))  # noqa: E731
    whole = exact(
        tmp_path, maker(schedule=schedule), fit_quietly(epochs=3, batch_size=7), given=lambda: {"schedule": schedule}
    )
    assert whole.schedule.last_epoch == 3


def test_a_learning_rate_set_by_hand_stays_where_it_was_set(tmp_path):
    class Reset(nb.Callback):
        def on_step_end(self, trainer):
            if trainer.steps == 3:
                trainer.optimizer.param_groups[0]["lr"] = 0.1  # what the schedule begins with

    make = maker(optimizer=optim.SGD(lr=0.1), schedule=lambda o: optim.StepLR(o, 1, 0.5))
    exact(tmp_path, make, fit_quietly(), at=(2, 4, 5), callbacks=lambda: [Reset()])


# -- nets -------------------------------------------------------------------------------------------------------------


def normed():
    return nn.Sequential(
        nn.utils.parametrizations.spectral_norm(nn.Linear(6, 4)), nn.BatchNorm1d(4, momentum=None), nn.Tanh(),
        nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)),
    )  # fmt: skip


@nb.register("resume.Sequences")
class Sequences(nn.Module):
    """LSTM, attention, and a weight that is used twice."""

    def __init__(self):
        self.lift = nn.Linear(1, 4)
        self.lstm = nn.LSTM(4, 4, num_layers=2, dropout=0.3, batch_first=True)
        self.encoder = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.2, batch_first=True)
        self.down = nn.Linear(4, 4)
        self.again = nn.Linear(4, 4)
        self.again.weight = self.down.weight
        self.out = nn.Linear(4, 3)

    def forward(self, x):
        x, _ = self.lstm(self.lift(x.reshape(-1, 6, 1)))
        return self.out(self.again(F.relu(self.down(self.encoder(x)))).mean(axis=1))


@pytest.mark.parametrize("net", [images, normed, Sequences], ids=["images", "normed", "sequences"])
@pytest.mark.parametrize("seed", [None, 1])
def test_nets_with_state_of_all_kinds(tmp_path, net, seed):
    exact(tmp_path, maker(net, seed=seed), fit_quietly(), at=(2 if seed else 3,))


def test_embeddings_that_are_clipped(tmp_path):
    def words():
        return nn.Sequential(nn.Embedding(9, 4, max_norm=1.0), nn.Flatten(), nn.Linear(24, 3))

    rows = np.random.default_rng(1).integers(9, size=X.shape)
    make = maker(lambda: _Whole(words()))
    exact(tmp_path, make, fit_quietly(rows.astype("float32")), at=(2, 4))


@nb.register("resume.Whole")
class _Whole(nn.Module):
    """Features as indices."""

    def __init__(self, net):
        self.net = net

    def forward(self, x):
        return self.net(x.astype("int64"))


# -- losses, metrics, data --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fit", [
    fit_quietly(batch_size=1, epochs=1), fit_quietly(batch_size=None, epochs=5),
    fit_quietly(batch_size=4, shuffle=False),
    fit_quietly(batch_size=13), fit_quietly(batch_size=2, accumulate=3, shuffle=False),
    fit_quietly(batch_size=3, accumulate=3), fit_quietly(batch_size=3, accumulate=2, validation_data=SECOND),
    fit_quietly(report_every=3, epochs=4, validation_data=SECOND),
], ids=["1", "all", "in order", "13", "8 x 2 by 3", "5 x 3 by 3", "5 x 3 by 2", "reports"])  # fmt: skip
def test_batches_of_all_kinds(tmp_path, fit):
    whole = exact(tmp_path, maker(metrics=["accuracy"], seed=None), fit, at=(1, 4))
    assert "accuracy" in whole.history.columns


def squared(output, target):
    return ((output - target) ** 2).mean()


@pytest.mark.parametrize(("loss", "metrics", "y", "given"), [
    ("mse", [F.l1_loss], VALUES, []),
    (F.smooth_l1_loss, [F.mse_loss, "accuracy"], VALUES > 0, []),
    (squared, [squared], VALUES, ["loss", "metrics"]),
    (nn.CrossEntropyLoss(weight=nb.tensor([1.0, 2.0, 3.0]), label_smoothing=0.1), ["accuracy"], LABELS, []),
    ("bce_with_logits", ["accuracy"], (VALUES > 0).astype("float32"), []),
], ids=["names", "ours", "own", "module", "logits"])  # fmt: skip
def test_losses_and_metrics_of_all_kinds(tmp_path, loss, metrics, y, given):
    def net():
        return nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, y.shape[1] if y.ndim > 1 else 3))

    parts = {"loss": loss, "metrics": metrics}
    exact(
        tmp_path, maker(net, loss, metrics=metrics), fit_quietly(y=y, validation_data=(X, y)), at=(2, 3),
        given=lambda: {name: parts[name] for name in given},
    )  # fmt: skip
