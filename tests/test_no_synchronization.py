"""No training step waits for the device. The guard itself is tested in `test_synchronizations.py`."""

import inspect

import numpy as np
import pytest
from layer_table import LAYERS
from op_run import FAR
from schedule_case import COMPOSED, SINGLE, made, two_groups

import nnbackend as nb
from nnbackend import data, nn, optim, tree
from nnbackend import functional as F
from nnbackend.errors import LabelError
from nnbackend.testing import no_synchronization, synchronizations

RULES = sorted(
    name
    for name, rule in vars(optim).items()
    if inspect.isclass(rule) and issubclass(rule, optim.Optimizer) and rule not in (optim.Optimizer, optim.SAM)
)
READ = {"LBFGS"}  # at the loss, some times a step; beside GradScaler and ReduceLROnPlateau
rng = np.random.default_rng(0)
X, Y, LABELS = (rng.standard_normal((40, n)).astype("float32") for n in (3, 2, 1))
LABELS = (LABELS[:, 0] > 0).astype("int64")
on_far_devices = pytest.mark.parametrize("device", FAR, ids=str)


class Loop:
    """A training step with all that can belong to one."""

    def __init__(self, rule, device, sam=False):
        self.net = nn.Linear(3, 2, bias=rule != "Muon").init(0).to(device)
        settings = {"max_iter": 2} if rule == "LBFGS" else {}
        base = getattr(optim, rule)(self.net.parameters(), **settings)
        self.optimizer = optim.SAM(base, adaptive=True) if sam else base
        self.rates = optim.CosineAnnealingLR(self.optimizer, 10)
        self.averages = [optim.EMA(self.net.parameters(), 0.9), optim.SWA(self.net.parameters())]

    def closure(self, x, t):
        self.optimizer.zero_grad()
        loss = F.mse_loss(self.net(x), t)
        loss.backward()
        optim.clip_grad_norm_(self.net.parameters(), 1.0)
        optim.clip_grad_value_(self.net.parameters(), 0.5)
        optim.clip_grad_adaptive(self.net.parameters())
        return loss

    def step(self, x, t):
        if isinstance(self.optimizer, optim.SAM | optim.LBFGS):
            loss = self.optimizer.step(lambda: self.closure(x, t))
        else:
            loss = self.closure(x, t)
            self.optimizer.step()
        self.rates.step()
        for average in self.averages:
            average.update()
        return loss.detach()


def on(device, *hosts):
    return [nb.tensor(x, device=device) for x in hosts]


# -- steps ----------------------------------------------------------------------------------------------------------


@on_far_devices
@pytest.mark.parametrize("recorded", [False, True], ids=["eager", "recorded"])
@pytest.mark.parametrize("rule", RULES)
def test_optimizers(rule, recorded, device):
    loop, batch = Loop(rule, device), on(device, X, Y)
    step = nb.compile(loop.step, rehearse=True) if recorded and rule not in READ else loop.step
    with synchronizations() as found:
        for _ in range(4):
            step(*batch)
    assert bool(found) == (rule in READ), found


@on_far_devices
def test_sam(device):
    loop, batch = Loop("Adam", device, sam=True), on(device, X, Y)
    with no_synchronization():
        for _ in range(2):
            loop.step(*batch)


@on_far_devices
def test_a_scaler_looks_once_a_step(device):
    loop, batch, scaler = Loop("SGD", device), on(device, X, Y), optim.GradScaler()
    with synchronizations() as found:
        for _ in range(3):
            loop.optimizer.zero_grad()
            scaler.scale(F.mse_loss(loop.net(batch[0]), batch[1])).backward()
            scaler.step(loop.optimizer)
            scaler.update()
    assert len(found) == 3
    assert all("nnbackend.optim.scaler" in line for line in found)


@on_far_devices
def test_schedules(device):
    for spec in [*SINGLE, *COMPOSED]:
        net, optimizer = two_groups(place=device, dtype="float32")
        schedule, plateau = made(spec, optim, optimizer), "Plateau" in spec[0]
        for p in net.parameters():
            p.grad = nb.ones(p.shape, device=device)
        with synchronizations() as found:
            for _ in range(3):
                optimizer.step()
                schedule.step(nb.ones((), device=device)) if plateau else schedule.step()
        assert len(found) == 3 * plateau, (spec, found)


@on_far_devices
@pytest.mark.parametrize("line", [line for line in LAYERS if "Loss" in line.id], ids=lambda line: line.id)
def test_losses_of_data_from_the_host(line, device):
    """Whose labels know their range: `test_layer_table.py` has those that do not."""
    loss = line.make().to(device, "float32")
    inputs = tree.mapped(lambda x: nb.tensor(x, _float(x), device) if isinstance(x, np.ndarray) else x, line.draw())
    inputs = tuple(x.requires_grad_() if not i else x for i, x in enumerate(inputs))
    with no_synchronization():
        loss(*inputs).sum().backward()


def _float(x):
    return "float32" if x.dtype.kind == "f" else None


@on_far_devices
@pytest.mark.parametrize("bounded", [True, False], ids=["bounded", "not bounded"])
@pytest.mark.parametrize("loss", [F.cross_entropy, F.nll_loss])
def test_labels(loss, bounded, device):
    x, labels, classes, rows = on(device, Y, LABELS, np.float32([0.5, 2.0]), np.ones(40, "float32"))
    x.requires_grad_()
    if not bounded:
        del labels.bounds
    settings = [{}, {"weight": classes}, {"sample_weight": rows}, {"ignore_index": 1}, {"reduction": "none"}]
    if loss is F.cross_entropy:
        settings += [{"label_smoothing": 0.1}, {"label_smoothing": 0.1, "weight": classes, "ignore_index": 0}]
    with no_synchronization():
        for setting in settings:
            loss(x, labels, **setting).sum().backward()


# -- the trainer ----------------------------------------------------------------------------------------------------


def trainer(device, net=None, **settings):
    settings = {"loss": "mse", "optimizer": optim.AdamW(lr=0.01), "seed": 0, **settings}
    return nb.Trainer(net or nn.MLP([3, 4, 2], "tanh", dropout=0.1), device=device, **settings)


def classifier(device):
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
    return trainer(device, net, loss="cross_entropy", metrics=["accuracy", "f1"])


CASES = {"numbers": (trainer, Y), "classes": (classifier, LABELS)}


@on_far_devices
@pytest.mark.parametrize("case", CASES)
def test_how_often_fit_looks_does_not_depend_on_the_steps(case, device):
    make, targets = CASES[case]

    def looks(batch_size, **settings):
        run = make(device)
        with synchronizations() as found:
            run.fit(X, targets, batch_size=batch_size, verbose=False, check=False, **settings)
        assert run.steps == settings["epochs"] * 40 // batch_size
        return len(found)

    counts = []
    for settings in ({"epochs": 1}, {"epochs": 4, "report_every": 4}, {"epochs": 2, "validation_data": (X, targets)}):
        counts.append(looks(5, **settings))
        assert counts[-1] == looks(20, **settings)
    assert counts[0] == counts[1]  # it looks at reports alone


@on_far_devices
def test_a_fit_of_batches_that_are_there_does_not_look_at_each(device):
    """Rows are checked once; batches come anew, and are checked on the host alone."""
    counts = []
    for batch_size in (5, 20):
        run = classifier(device)
        loader = data.DataLoader(X, LABELS, batch_size=batch_size, seed=0, device=device)
        with synchronizations() as found:
            run.fit(loader, verbose=False, check=False)
        counts.append(len(found))
    assert counts[0] == counts[1]


@on_far_devices
def test_labels_on_a_device_are_checked_once(device):
    """Fault 35: CuPy would take them modulo the classes."""
    wrong = LABELS.copy()
    wrong[17] = 5
    x, y, bad = on(device, X, LABELS, wrong)
    for labels in (y, bad):
        labels = nb.asarray(labels.data)  # as others made them
        run = classifier(device)
        if labels.data is bad.data:
            with pytest.raises(LabelError, match=r"1 of 40 labels outside 0\.\.1 \(first: row 17 = 5\)"):
                run.fit(x, labels, verbose=False, check=False)
        else:
            run.fit(x, labels, verbose=False, check=False)
            assert run.steps


@on_far_devices
def test_a_step_of_the_trainer(device):
    run, batch = trainer(device), on(device, X, Y)
    with no_synchronization():
        for _ in range(3):
            run.step(*batch)


@on_far_devices
def test_predict_looks_once(device):
    """At the results; of data on the device, at whether it is finite."""
    run = trainer(device)
    for x in (X, *on(device, X)):
        with synchronizations() as found:
            run.predict(x, batch_size=8)
        assert len(found) == 1, found


@on_far_devices
def test_evaluate_reads_numbers_alone(device):
    run = classifier(device)
    counts = []
    for batch_size in (5, 40):
        with synchronizations() as found:
            run.evaluate(X, LABELS, batch_size=batch_size)
        counts.append(len(found))
    assert counts == [3, 3]  # the loss and two metrics


@on_far_devices
@pytest.mark.parametrize("shuffle", [True, False])
def test_batches(shuffle, device):
    loader = data.DataLoader(X, LABELS, batch_size=8, shuffle=shuffle, seed=0, device=device)
    with no_synchronization():
        assert sum(len(x) for x, _ in loader) == 40
