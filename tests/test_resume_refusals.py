"""What cannot be gone on with is refused, with all the reasons, and changes nothing."""

import shutil

import numpy as np
import pytest
from resume_case import LABELS, VALUES, X, bits, everything, fit_quietly

import nnbackend as nb
from nnbackend import crash, nn, optim
from nnbackend.errors import CorruptCheckpointError, IncompatibleCheckpointError, UnsafeFileError
from nnbackend.io import safetensors

HELD = X[:6] + 1, LABELS[:6]


class Seen(nb.Callback):
    """Remembers something."""

    steps = 0

    def on_step_end(self, trainer):
        self.steps += 1

    def state_dict(self):
        return {"steps": self.steps}

    def load_state_dict(self, state):
        self.steps = state["steps"]


def net(p=0.2, *more):
    return nn.Sequential(nn.Linear(6, 4), nn.Dropout(p), nn.Linear(4, 3), *more)


def made(net=net, loss="cross_entropy", optimizer=None, metrics=("accuracy",), seed=1, schedule=None, **kw):
    schedule = schedule or (lambda o: optim.StepLR(o, 2, 0.5))
    optimizer = optimizer or optim.SGD(lr=0.1, momentum=0.9)
    return nb.Trainer(net(), loss, optimizer, metrics, "cpu", seed, schedule, **kw)


SETTINGS = {"validation_data": HELD, "callbacks": [Seen()], "report_every": 2, "epochs": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run that is cut short in mid-epoch, at step 5 of 9."""
    folder = tmp_path_factory.mktemp("run")

    class Stop(nb.Callback):
        def on_step_end(self, trainer):
            if trainer.steps == 5:
                trainer.save_checkpoint(folder / "step-0000000005.safetensors")

    fit_quietly(**{**SETTINGS, "callbacks": [Seen(), Stop()]})(made())
    return folder


@pytest.fixture
def here(folder, tmp_path):
    """A copy of it."""
    return shutil.copytree(folder, tmp_path / "run")


def other(x):
    x = x.copy()
    x.flat[3] += 1
    return x


FITS = {
    "X": (r"X was float32 \(15, 6\) \w{8}, is float32 \(15, 6\)", {"X": other(X)}),
    "shape": (r"X was float32 \(15, 6\).*is float32 \(12, 6\).*y was int64 \(15,\)", {"X": X[:12], "y": LABELS[:12]}),
    "y": ("y was int64", {"y": other(LABELS) % 3}),
    "batch": ("batch_size was 5, is 4", {"batch_size": 4}),
    "order": ("shuffle was True, is False", {"shuffle": False}),
    "accumulate": ("accumulate was 1, is 3", {"accumulate": 3}),
    "reports": ("report_every was 2, is None", {"report_every": None}),
    "no validation": ("X_val was .* is None; y_val was .* is None", {"validation_data": None}),
    "validation": ("X_val was float32", {"validation_data": (other(HELD[0]), HELD[1])}),
    "callbacks": ("callbacks were Seen, without Seen now", {"callbacks": [lambda trainer, row: None]}),
    "all": (
        "batch_size.*shuffle.*report_every.*X was.*X_val.*callbacks were",
        {"X": other(X), "batch_size": 4, "shuffle": False, "report_every": 1, "validation_data": None, "callbacks": []},
    ),
}
PARTS = {
    "lr": (
        r"optimizer was SGD\(lr=0.1, momentum=0.9\), is SGD\(lr=0.2, mom",
        {"optimizer": optim.SGD(lr=0.2, momentum=0.9)},
    ),
    "rule": (r"optimizer was SGD\(.*is Adam\(", {"optimizer": optim.Adam(lr=0.01)}),
    "schedule": (
        r"schedule was StepLR\(step_size=2, gamma=0.5\), is ExponentialLR\(gamma=0.9\)",
        {"schedule": lambda o: optim.ExponentialLR(o, 0.9)},
    ),
    "pace": ("schedule_every was epoch, is step", {"schedule_every": "step"}),
    "loss": ("loss was cross_entropy, is multi_margin_loss", {"loss": nb.functional.multi_margin_loss}),
    "metrics": (r"metrics was \['?accuracy'?\], is \[\]", {"metrics": ()}),
    "seed": ("seed was 1, is 2", {"seed": 2}),
    "dropout": (r"net was \(1\): Dropout\(p=0.2\), is \(1\): Dropout\(\)", {"net": lambda: net(0.5)}),
}  # fmt: skip
MANY = {**PARTS["lr"][1], **PARTS["loss"][1], "metrics": [], "seed": 2, "net": lambda: net(0.2, nn.ReLU())}


def untouched(call, match, trainer, folder=None, kind=IncompatibleCheckpointError):
    """Assert that this error comes, and nothing changes."""
    before, files = everything(trainer), folder and {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(kind, match=match):
        call()
    assert everything(trainer) == before
    assert files is None or files == {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", FITS)
def test_another_fit_is_refused(here, name):
    match, changed = FITS[name]
    trainer, settings = made(), {**SETTINGS, **changed}
    untouched(lambda: fit_quietly(**settings)(trainer, checkpoints=here, resume=True), match, trainer, here)
    resumed = nb.Trainer.resume(here, device="cpu")
    untouched(lambda: fit_quietly(**settings)(resumed), match, resumed, here)
    untouched(lambda: fit_quietly(**settings)(resumed), match, resumed)  # again
    fit_quietly(**SETTINGS)(resumed)  # and the right one goes on
    assert (resumed.steps, len(resumed.history)) == (9, 3)


@pytest.mark.parametrize("name", FITS)
def test_another_fit_goes_on_all_the_same(here, name):
    changed = FITS[name][1]
    trainer = nb.Trainer.resume(here, device="cpu", override=True)
    loaded = made()
    loaded.load_checkpoint(here, override=True)
    for t in (trainer, loaded):
        fit_quietly(**{**SETTINGS, **changed})(t)
        assert [row["epoch"] for row in t.history] == [1, 2, 3]
        batches = -(-len(changed.get("X", X)) // changed.get("batch_size", 5))
        anew = changed.keys() & {"X", "y", "batch_size", "shuffle", "accumulate"}
        assert t.steps == (5 + 2 * -(-batches // changed.get("accumulate", 1)) if anew else 9)
    assert everything(trainer) == everything(loaded)


def test_a_callback_that_cannot_go_on(here):
    trainer = nb.Trainer.resume(here, device="cpu")
    settings = {**SETTINGS, "callbacks": [Seen()]}
    settings["callbacks"][0].load_state_dict = lambda state: state["other"]
    with pytest.raises(KeyError, match="other"):
        fit_quietly(**settings)(trainer)
    fit_quietly(**SETTINGS)(trainer)
    assert (trainer.steps, len(trainer.history)) == (9, 3)


def test_nothing_is_loaded_in_the_midst_of_a_fit(here):
    trainer = made()
    for what in (lambda trainer, row: trainer.load_checkpoint(here), lambda trainer, row: trainer.fit(X, LABELS)):
        with pytest.raises(ValueError, match="expected the fit to be over"):
            fit_quietly(callbacks=[what])(trainer)


@pytest.mark.parametrize("name", PARTS)
def test_another_trainer_is_refused(here, name):
    match, changed = PARTS[name]
    trainer = made(**changed)
    fit_quietly(epochs=1)(trainer)
    untouched(lambda: trainer.load_checkpoint(here), match, trainer, here)
    untouched(lambda: fit_quietly(**SETTINGS)(trainer, checkpoints=here, resume=True), match, trainer, here)
    given = {k: v() if k == "net" else v for k, v in changed.items() if k in ("net", "loss", "optimizer", "schedule")}
    if given:
        with pytest.raises(IncompatibleCheckpointError, match=match):
            nb.Trainer.resume(here, device="cpu", **given)


def test_all_reasons_are_in_one_message(here):
    trainer = made(**MANY)
    match = r"net was \), is \(3\): ReLU\(\).*loss was.*metrics was.*optimizer was.*seed was 1, is 2. Go on"
    untouched(lambda: trainer.load_checkpoint(here), match, trainer, here)


def test_the_settings_asked_for_win(here):
    def steps(optimizer):
        return {entry["step"] for entry in optimizer.state_dict()["state"].values()}

    trainer = made(optimizer=optim.SGD(lr=0.4, momentum=0.5))
    trainer.load_checkpoint(here, override=True)
    group = trainer.optimizer.param_groups[0]
    assert (group["lr"], group["initial_lr"], group["momentum"], steps(trainer.optimizer)) == (0.4, 0.4, 0.5, {5})
    fit_quietly(**SETTINGS)(trainer)
    assert (group["lr"], steps(trainer.optimizer), trainer.schedule.last_epoch) == (0.2, {9}, 3)

    trainer = made(optimizer=optim.Adam(lr=0.4))
    trainer.load_checkpoint(here, override=True)
    assert (trainer.optimizer.param_groups[0]["lr"], steps(trainer.optimizer)) == (0.4, set())
    fit_quietly(**SETTINGS)(trainer)
    assert (trainer.optimizer.param_groups[0]["lr"], steps(trainer.optimizer)) == (0.2, {4})

    trainer = made(schedule=lambda o: optim.ExponentialLR(o, 0.9))  # of another class: from its start
    trainer.load_checkpoint(here, override=True)
    assert (trainer.schedule.last_epoch, steps(trainer.optimizer)) == (0, {5})
    trainer = made(schedule=lambda o: optim.StepLR(o, 1, 0.1))  # of the same: it stands where the other stood
    trainer.load_checkpoint(here, override=True)
    assert (trainer.schedule.last_epoch, trainer.optimizer.param_groups[0]["lr"]) == (1, pytest.approx(0.01))

    trainer = made(net=lambda: net(0.5), seed=5)
    trainer.load_checkpoint(here, override=True)
    same = made()
    same.load_checkpoint(here)
    assert (trainer.net[1].p, trainer.net[1].calls.value, trainer.net[1].key) == (0.5, 5, same.net[1].key)


def test_weights_that_do_not_fit_are_refused_even_so(here):
    trainer = made(net=lambda: net(0.2, nn.Linear(3, 3)))
    untouched(lambda: trainer.load_checkpoint(here, override=True), "missing: net.3.weight", trainer, here)


# -- what files cannot hold -------------------------------------------------------------------------------------------


class Own(nn.Module):
    """Nobody has registered it."""

    def __init__(self):
        self.layer, self.count = nn.Linear(6, 2), nn.Buffer(nb.tensor(0.0))

    def forward(self, x):
        if self.training:
            self.count.assign(self.count + 1.0)
        return self.layer(x) * (1.0 + 0.01 * self.count)


def far(output, target):
    return abs(output - target).mean()


class Rule(optim.SGD):
    """Somebody's."""


def test_all_that_must_be_given_is_listed_at_once(tmp_path):
    given = {
        "loss": lambda output, target: ((output - target) ** 2).mean(),
        "metrics": [far],
        "optimizer": Rule(lr=0.1),
        "schedule": lambda o: optim.LambdaLR(o, lambda n: 0.5**n),
    }
    fit = fit_quietly(y=VALUES, epochs=2)
    whole = nb.Trainer(Own(), **given, device="cpu")
    fit(whole, checkpoints=nb.Checkpoints(tmp_path, every=2, keep=9))
    reasons = r"net= \(Own is not registered.*loss= \(the function .*<lambda>\), metrics= \(far.*optimizer= \(Rule"
    path = tmp_path / "step-0000000004.safetensors"
    with pytest.raises(IncompatibleCheckpointError, match=rf"{reasons}.*schedule= \(LambdaLR, argument lr_lambda"):
        nb.Trainer.resume(path)
    with pytest.raises(IncompatibleCheckpointError, match=r"given: net= \(Own is not[^=]*schedule= [^=]*$"):
        nb.Trainer.resume(path, **{name: given[name] for name in ("loss", "metrics", "optimizer")})
    trainer = nb.Trainer.resume(path, Own(), "cpu", **given)
    fit(trainer)
    assert everything(trainer) == everything(whole)


def test_parameters_that_are_not_the_nets(tmp_path):
    class Scaled(nn.Module):
        def __init__(self):
            self.scale = nn.Parameter(nb.tensor(2.0))

        def forward(self, output, target):
            return ((output * self.scale - target) ** 2).mean()

    def parts():
        net, loss = nn.Linear(6, 2).init(0), Scaled()
        return {"net": net, "loss": loss, "optimizer": optim.Adam([*net.parameters(), loss.scale], lr=0.1)}

    fit = fit_quietly(y=VALUES)
    whole = nb.Trainer(**parts(), device="cpu")
    fit(whole, checkpoints=nb.Checkpoints(tmp_path, every=2, keep=9))
    path = tmp_path / "step-0000000002.safetensors"
    with pytest.raises(IncompatibleCheckpointError, match=r"loss= .*optimizer= \(it has parameters that are not the"):
        nb.Trainer.resume(path)
    trainer = nb.Trainer.resume(path, device="cpu", **parts())
    fit(trainer)
    assert everything(trainer) == everything(whole)


def test_parameters_that_are_nobodys(tmp_path):
    def parts(shape=()):
        net, scale = nn.Linear(6, 2).init(0), nn.Parameter(nb.tensor(np.full(shape, 2.0, dtype="float32")))
        loss = lambda output, target: ((output * scale - target) ** 2).mean()  # noqa: E731
        return {"net": net, "loss": loss, "optimizer": optim.Adam([*net.parameters(), scale], lr=0.1)}

    fit, mine, others = fit_quietly(y=VALUES), parts(), parts()
    fit(nb.Trainer(**mine, device="cpu"), checkpoints=nb.Checkpoints(tmp_path, every=2, keep=9))
    trainer = nb.Trainer(**parts((1,)), device="cpu")
    untouched(lambda: trainer.load_checkpoint(tmp_path), r"shape \(1,\), got \(\)", trainer, tmp_path)
    trainer = nb.Trainer.resume(tmp_path / "step-0000000002.safetensors", device="cpu", **others)
    fit(trainer)
    for p, q in zip(*(x["optimizer"].param_groups[0].params for x in (mine, others)), strict=True):
        assert bits(p) == bits(q)


# -- files ------------------------------------------------------------------------------------------------------------


def with_text(path, change):
    """The file with another description."""
    arrays, metadata = safetensors.read(path)
    metadata["nnbackend"] = change(metadata["nnbackend"])
    safetensors.write(path, arrays, metadata)


@pytest.mark.parametrize(("spoil", "kind", "match"), [
    (lambda path: nb.save(net(), path), IncompatibleCheckpointError, "expected a checkpoint of a trainer.*nb.load"),
    (lambda path: nb.save({"w": nb.tensor(1.0)}, path), IncompatibleCheckpointError, "expected a checkpoint"),
    (lambda path: with_text(path, lambda t: t.replace('"format":2', '"format":9')), IncompatibleCheckpointError, "Upg"),
    (lambda path: path.write_bytes(path.read_bytes()[:-1]), CorruptCheckpointError, "expected"),
    (lambda path: path.write_bytes(path.read_bytes()[:-2] + b"??"), CorruptCheckpointError, "SHA-256|checksum|damaged"),
    (lambda path: path.write_bytes(b"\x80\x04K\x01."), (CorruptCheckpointError, UnsafeFileError), "expected"),
    (lambda path: with_text(path, lambda t: t.replace('"steps":5', '"stepz":5')), IncompatibleCheckpointError, "steps"),
    (lambda path: with_text(path, lambda t: t.replace('"state":{"dict"', '"state":{"dikt"')), nb.errors.CheckpointError,
     "expected"),
    (lambda path: with_text(path, lambda t: t.replace('"configuration"', '"konfiguration"')),
     nb.errors.CheckpointError, "expected"),
    (lambda path: path.unlink(), FileNotFoundError, "expected checkpoints"),
], ids=["model", "tensors", "newer", "short", "flipped", "pickle", "no steps", "state", "parts", "none"])  # fmt: skip
def test_files_that_are_no_checkpoints(here, spoil, kind, match):
    spoil(here / "step-0000000005.safetensors")
    trainer = made()
    fit_quietly(epochs=1)(trainer)
    untouched(lambda: trainer.load_checkpoint(here), match, trainer, here, kind)
    with pytest.raises(kind, match=match):
        nb.Trainer.resume(here, device="cpu")


def test_an_error_in_the_midst_of_loading_changes_nothing(here, monkeypatch):
    trainer = made()
    fit_quietly(epochs=1)(trainer)

    def fail():
        raise MemoryError("just so")

    monkeypatch.setitem(crash.armed, "resume.before", fail)
    untouched(lambda: trainer.load_checkpoint(here), "just so", trainer, here, MemoryError)
    monkeypatch.setattr(type(trainer.optimizer), "load_state_dict", lambda self, state: state["other"])
    monkeypatch.delitem(crash.armed, "resume.before")
    with pytest.raises((IncompatibleCheckpointError, KeyError)):
        trainer.load_checkpoint(here)
