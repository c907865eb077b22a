"""Loops of one's own: what they are made of goes into one file, and comes back."""

import array_api_strict
import numpy as np
import pytest

import nnbackend as nb
from nnbackend import data, nn, optim
from nnbackend import functional as F
from nnbackend.errors import IncompatibleCheckpointError

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(50, 6)).astype("float32"), RNG.integers(3, size=50)


class Loop:
    """Everything that a run is: `go(n)` does n steps."""

    def __init__(self, seed, device="cpu"):
        net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 3)).init(seed).to(device)
        adam = optim.AdamW(net.parameters(), lr=0.01)
        self.state = {
            "net": net,
            "adam": adam,
            "schedule": optim.CosineAnnealingLR(adam, 40),
            "ema": optim.EMA(net.parameters(), 0.9),
            "batches": data.DataLoader(X, Y, batch_size=16, seed=seed, device=device),
            "rng": np.random.default_rng(seed),
            "others": [np.random.Generator(np.random.MT19937(seed)), {"losses": []}],
        }
        self.step = nb.compile(self._step, rehearse=True)

    def _step(self, x, t):
        s = self.state
        loss = F.cross_entropy(s["net"](x), t)
        s["adam"].zero_grad()
        loss.backward()
        s["adam"].step()
        s["schedule"].step()
        s["ema"].update()
        return loss

    def go(self, n, save_at=None, path=None):
        """Some steps on noisy data, and a file in the middle of an epoch."""
        s, losses = self.state, self.state["others"][1]["losses"]
        while len(losses) < n:
            for x, t in s["batches"]:
                noise = (s["rng"].normal(size=x.shape) + s["others"][0].normal(size=x.shape)).astype("float32")
                losses.append(float(self.step(x + nb.tensor(noise, device=x.device) * 0.1, t)))
                if len(losses) == save_at:
                    nb.save(s, path)
                if len(losses) == n:
                    break
        return self


def same(a, b):
    """Bit for bit."""
    for p, q in zip(a.state["net"].state_dict().values(), b.state["net"].state_dict().values(), strict=True):
        np.testing.assert_array_equal(p.numpy(), q.numpy())
    for name in ("adam", "schedule", "ema", "batches"):
        assert repr(a.state[name].state_dict()) == repr(b.state[name].state_dict())
    assert a.state["rng"].bit_generator.state == b.state["rng"].bit_generator.state
    assert a.state["others"][1] == b.state["others"][1]


@pytest.mark.parametrize("steps", [1, 3, 4, 6, 9])
def test_a_loop_goes_on_where_it_was(tmp_path, steps):
    path = tmp_path / "run.safetensors"
    whole = Loop(1).go(13, steps, path)
    again = Loop(2)
    again.state = nb.load(path, into=again.state)
    same(again, Loop(1).go(steps))
    same(again.go(13), whole)


def test_a_loop_goes_on_on_another_device(tmp_path):
    path = tmp_path / "run.safetensors"
    whole = Loop(1).go(10, 5, path)
    again = Loop(2, array_api_strict.Device("device1"))
    again.state = nb.load(path, into=again.state)
    np.testing.assert_allclose(again.go(10).state["others"][1]["losses"], whole.state["others"][1]["losses"], rtol=1e-5)


def test_without_a_place_to_go_states_are_plain_values(tmp_path):
    path = tmp_path / "run.safetensors"
    nb.save(Loop(1).go(2).state, path)
    found = nb.load(path)
    assert isinstance(found["net"], nn.Sequential)
    assert found["batches"]["batch"] == 2
    assert found["adam"]["state"][0]["step"] == 2
    assert found["rng"]["bit_generator"] == "PCG64"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: {**s, "more": 3}, "expected more in the file, got none"),
        (lambda s: {**s, "net": nn.Linear(2, 3)}, "missing: .*weight"),
        (lambda s: {**s, "rng": nn.Linear(2, 3)}, "rng: expected a model in the file, got a dict"),
        (
            lambda s: {**s, "others": [s["others"][0], optim.EMA(s["net"].parameters())]},
            "expected state and param_groups, got losses",
        ),
        (lambda s: {**s, "adam": optim.AdamW(nn.Linear(2, 2).parameters())}, "expected groups of"),
        (lambda s: {**s, "schedule": s["adam"], "adam": s["schedule"]}, "load_state_dict: expected"),
    ],
)
def test_what_does_not_fit_changes_nothing(tmp_path, change, words):
    path = tmp_path / "run.safetensors"
    nb.save(Loop(1).go(5).state, path)
    loop, twin = Loop(2).go(3), Loop(2).go(3)
    with pytest.raises(IncompatibleCheckpointError, match=words):
        nb.load(path, into=change(loop.state))
    same(loop, twin)
    same(loop.go(6), twin.go(6))
