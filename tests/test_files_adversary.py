"""What an adversarial reader of model files and checkpoints found: changes that got lost, and mistakes that passed."""

import functools
import os

import numpy as np
import pytest

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn, optim
from nnbackend.errors import CheckpointWriteError, IncompatibleCheckpointError
from nnbackend.optim.flat import Run
from nnbackend.recipe import registered

X = np.linspace(-1, 1, 60, dtype="float32").reshape(20, 3)
Y = X.sum(1, keepdims=True)


class Scale:
    __slots__ = ("k",)

    def __init__(self, k):
        self.k = k

    def __call__(self, x):
        return x * self.k

    def apply(self, x):
        return x * self.k


def scaling(k):
    def scaled(x, *, k=k):
        return x * k

    return scaled


MAKERS = {
    "partial": lambda k: functools.partial(F.leaky_relu, negative_slope=k),
    "slots": Scale,
    "method": lambda k: Scale(k).apply,
    "keyword default": scaling,
}


@nb.register("adversary.Holding")
class Holding(nn.Module):
    def __init__(self, kind):
        self.linear, self.act = nn.Linear(3, 1), MAKERS[kind](2.0)

    def forward(self, x):
        return self.act(self.linear(x))


@pytest.mark.parametrize("kind", MAKERS)
def test_what_files_cannot_hold_is_never_taken_for_what_the_constructor_makes(tmp_path, kind):
    net = Holding(kind)
    nb.save(net, tmp_path / "same")
    np.testing.assert_array_equal(nb.load(tmp_path / "same")(X).numpy(), net(X).numpy())
    net.act = MAKERS[kind](3.0)
    nb.save(net, tmp_path / "changed")
    with pytest.raises(IncompatibleCheckpointError, match="got its weights: act is"):
        nb.load(tmp_path / "changed")


@nb.register("adversary.Drawing")
class Drawing(nn.Module):
    def __init__(self):
        self.linear, self.rng = nn.Linear(3, 1), np.random.default_rng(0)


def test_a_generator_that_has_been_used_is_not_begun_anew(tmp_path):
    net = Drawing()
    nb.save(net, tmp_path / "new")
    assert nb.load(tmp_path / "new").rng.random() == net.rng.random()
    nb.save(net, tmp_path / "used")
    with pytest.raises(IncompatibleCheckpointError, match="rng is a Generator"):
        nb.load(tmp_path / "used")


class Thaw(nb.Callback):
    def on_epoch_end(self, trainer, row):
        if row["epoch"] == 1:
            trainer.net.requires_grad_(True)


def frozen_at_first(folder, epochs, resume=False):
    trainer = nb.Trainer(nn.MLP([3, 4, 1]), device="cpu", seed=0)
    trainer.net[0].requires_grad_(False)
    trainer.fit(X, Y, epochs=epochs, verbose=False, callbacks=[Thaw()], checkpoints=folder, resume=resume)
    return trainer.net


def test_layers_thawed_in_the_run_are_thawed_after_resume(tmp_path):
    whole = frozen_at_first(tmp_path / "whole", 4)
    frozen_at_first(tmp_path / "parts", 2)
    net = frozen_at_first(tmp_path / "parts", 4, resume=True)
    assert all(p.requires_grad for p in net.parameters())
    for p, q in zip(whole.parameters(), net.parameters(), strict=True):
        np.testing.assert_array_equal(p.numpy(), q.numpy())


@nb.register("adversary.Frozen")
class Frozen(nn.Module):
    def __init__(self):
        self.linear, self.n = nn.Linear(3, 1), nn.Parameter(np.array([2]), requires_grad=False)
        self.linear.weight.requires_grad_(False)


@pytest.mark.parametrize("thaw", [False, True])
def test_parameters_that_a_constructor_freezes_come_back_as_they_were(tmp_path, thaw):
    net = Frozen()
    net.linear.weight.requires_grad_(thaw)
    nb.save({"net": net}, tmp_path / "net")
    other = Frozen()
    other.linear.weight.requires_grad_(not thaw)
    nb.load(tmp_path / "net", into={"net": other})
    for loaded in (nb.load(tmp_path / "net")["net"], other):
        assert loaded.linear.weight.requires_grad is thaw
        assert loaded.linear.bias.requires_grad
        assert not loaded.n.requires_grad


# -- classes ----------------------------------------------------------------------------------------------------------


class Mixin:
    def __init__(self):
        self.mixed = True


class Marked:
    def __new__(cls, mark):
        self = super().__new__(cls)
        self.__dict__["mark"] = mark
        return self


def test_other_bases_are_made_as_python_makes_them():
    class Cooperative(nn.Module, Mixin):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 1)

    class Table(nn.Module, dict):
        def __init__(self, n):
            super().__init__()
            self["n"] = n

    class New(nn.Module, Marked):
        def __init__(self, mark):
            super().__init__()

    assert Cooperative().mixed
    assert Table(3) == {"n": 3}
    assert New(5).mark == 5


@nb.register("adversary.Cook")
class Cook(nn.Module):
    def __init__(self, recipe):
        self.recipe, self.linear = recipe, nn.Linear(3, 1)

    def forward(self, x):
        return self.linear(x)


def test_attributes_called_recipe_are_the_users(tmp_path):
    net = nn.Sequential(Cook("cake"), Cook(nn.Identity()))
    nb.save(net[:1], tmp_path / "net")
    assert nb.load(tmp_path / "net")[0].recipe == "cake"


# -- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    nb.Trainer(nn.Linear(3, 1), device="cpu", seed=0).fit(X, Y, verbose=False, checkpoints=tmp_path / "run")
    return tmp_path / "run"


def test_resume_takes_no_argument_that_it_would_not_look_at(folder):
    with pytest.raises(TypeError, match=r"resume: expected net, loss, .*, got lr, optimiser\."):
        nb.Trainer.resume(folder, optimiser="sgd", lr=0.1)
    with pytest.raises(TypeError, match="expected a model as net, got a str"):
        nb.Trainer.resume(folder, "cpu")
    with pytest.raises(TypeError, match="expected a model as net, got a ndarray"):
        nb.Trainer.resume(folder, X, Y)


def test_load_says_so_when_nothing_can_be_put_into(tmp_path):
    nb.save(nn.Linear(3, 1), tmp_path / "net")
    trainer = nb.Trainer(nn.Linear(3, 1), device="cpu", seed=0)
    before = trainer.net.weight.numpy().copy()
    for into, got in ((trainer, "a Trainer"), (nn.Linear, "the class Linear"), ("cpu", "a str")):
        with pytest.raises(TypeError, match=f"load: expected into= a model, .*, got {got}"):
            nb.load(tmp_path / "net", into)
    np.testing.assert_array_equal(trainer.net.weight.numpy(), before)


def test_numbers_of_callbacks_may_be_larger_than_arrays_hold(tmp_path):
    def note(trainer, row):
        row["parameters"] = 2**70 + row["epoch"]

    trainer = nb.Trainer(nn.Linear(3, 1), device="cpu", seed=0)
    trainer.fit(X, Y, epochs=2, verbose=False, callbacks=[note], checkpoints=tmp_path)
    assert nb.Trainer.resume(tmp_path, device="cpu").history["parameters"] == [2**70 + 1, 2**70 + 2]


def test_checkpoints_are_counted_in_whole_numbers(tmp_path):
    for wrong in ({"every": 2.5}, {"keep": 1.5}, {"keep": None}):
        with pytest.raises(TypeError, match="integer"):
            nb.Checkpoints(tmp_path, **wrong)


def test_a_refusal_of_fit_says_what_overrides_it(folder):
    trainer = nb.Trainer(nn.Linear(3, 1), device="cpu", seed=1)
    with pytest.raises(IncompatibleCheckpointError, match=r"seed was 0, is 1.*load_checkpoint.*override=True"):
        trainer.fit(X, Y, epochs=2, verbose=False, checkpoints=folder, resume=True)
    trainer.load_checkpoint(folder, override=True)
    assert len(trainer.fit(X, Y, epochs=2, verbose=False, checkpoints=folder)) == 3


# -- cost -------------------------------------------------------------------------------------------------------------


def test_the_state_of_an_optimizer_looks_at_each_parameter_once(monkeypatch):
    net = nn.Sequential(*[nn.Linear(2, 2) for _ in range(50)])
    optimizer = optim.Adam(lr=0.1).bind(net.parameters())
    net(X[:, :2]).sum().backward()
    optimizer.step()
    looks = []
    offsets = Run._offsets
    monkeypatch.setattr(Run, "_offsets", lambda run: looks.append(run) or offsets(run))
    state = optimizer.state_dict()
    assert len(looks) == 1
    assert all(state["state"][i]["exp_avg"].shape == p.shape for i, p in enumerate(net.parameters()))


def test_programs_do_not_hold_on_to_the_memory_of_optimizers_before_a_checkpoint(tmp_path):
    trainer = nb.Trainer(nn.MLP([64, 64, 1]), device="cpu", seed=0)
    x = np.zeros((8, 64), "float32")
    trainer.fit(x, x[:, :1], epochs=3, verbose=False, check=False)
    trainer.save_checkpoint(tmp_path / "it")
    kept = []
    for _ in range(3):
        trainer.load_checkpoint(tmp_path / "it")
        trainer.fit(x, x[:, :1], epochs=3, verbose=False, check=False)
        kept.append(sum(map(len, trainer._step._variants.values())))
    assert kept == kept[:1] * 3


def test_another_fit_does_not_put_a_worse_model_in_the_place_of_the_best(tmp_path):
    def best():
        return nb.Trainer.resume(tmp_path / "best.safetensors", device="cpu").history["loss"][-1]

    trainer = nb.Trainer(nn.Linear(3, 1), device="cpu", seed=0, optimizer=optim.SGD(lr=0.1))
    trainer.fit(X, Y, epochs=20, verbose=False, checkpoints=nb.Checkpoints(tmp_path, best="loss"))
    first = best()
    trainer.net.init(1)  # all is forgotten
    trainer.fit(X, Y, epochs=1, verbose=False, checkpoints=nb.Checkpoints(tmp_path, best="loss"))
    assert trainer.history["loss"][-1] > first == best()
    trainer.fit(X, Y, epochs=60, verbose=False, checkpoints=nb.Checkpoints(tmp_path, best="loss"))
    assert best() < first
    (tmp_path / "best.safetensors").write_bytes(b"damaged")
    trainer.fit(X, Y, epochs=1, verbose=False, checkpoints=nb.Checkpoints(tmp_path, best="loss"))
    assert best() == trainer.history["loss"][-1]


@pytest.mark.parametrize("known", [True, False])
def test_settings_that_change_while_training_go_along(tmp_path, known):
    class Warm(nn.Module):
        def __init__(self):
            self.fc, self.temperature = nn.Linear(4, 3), 1.0

        def forward(self, x):
            return self.fc(x) * self.temperature

    def trainer():
        return nb.Trainer(Warm(), "cross_entropy", "sgd", seed=0, device="cpu")

    class Cool(nb.Callback):
        def on_epoch_end(self, trainer, row):
            trainer.net.temperature *= 0.5

    if known:
        registered["Warm"] = Warm
    try:
        X, y = np.ones((8, 4), "float32"), np.zeros(8, int)
        first, again = trainer(), trainer()
        first.fit(X, y, 3, verbose=False, check=False, callbacks=[Cool()])
        first.save_checkpoint(tmp_path / "c.safetensors")
        again.load_checkpoint(tmp_path / "c.safetensors")
        assert again.net.temperature == 0.125
    finally:
        registered.pop("Warm", None)


@pytest.mark.skipif(os.name != "posix", reason="folders are held on POSIX")
def test_two_runs_in_one_folder_are_one_too_many(tmp_path):
    class Second(nb.Callback):
        def on_epoch_end(self, trainer, row):
            with pytest.raises(CheckpointWriteError, match=r"no other run.*choose another folder"):
                other.fit(X, y, verbose=False, check=False, checkpoints=tmp_path)
            seen.append(other.steps)

    seen = []
    X, y = np.ones((8, 4), "float32"), np.zeros(8, int)
    one, other = (nb.Trainer(nn.Linear(4, 3), "cross_entropy", "sgd", device="cpu") for _ in range(2))
    one.fit(X, y, 1, verbose=False, check=False, checkpoints=tmp_path, callbacks=[Second()])
    assert seen == [0]
    one.fit(X, y, 1, verbose=False, check=False, checkpoints=tmp_path)


def test_a_class_for_an_optimizer_is_named():
    with pytest.raises(TypeError, match=r"template such as optim\.SGD\(lr=0\.1\), got SGD"):
        nb.Trainer(nn.Linear(2, 2), optimizer=optim.SGD)
