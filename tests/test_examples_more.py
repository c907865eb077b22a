"""The longer examples do what they say, by the least work that runs every line, and what they rest on is so."""

import subprocess
import sys
from pathlib import Path

import array_api_strict
import autoencoder
import gradient_penalty
import numpy as np
import pytest
import restarts
import xor_numpy

import nnbackend as nb
from nnbackend import nn
from nnbackend.testing import gradcheck

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    "args",
    [
        ["autoencoder.py"],
        ["gradient_penalty.py"],
        ["restarts.py"],
        ["restarts.py", "--how", "in_turn", "--hidden", "2"],
    ],
    ids=" ".join,
)
def test_smoke(args, tmp_path):
    file = tmp_path / "net.safetensors"
    command = [
        sys.executable,
        "-W",
        "error",
        f"examples/{args[0]}",
        *args[1:],
        "--smoke",
        "--seed",
        "1",
        "--save",
        file,
    ]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=ROOT, timeout=50)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == f"device: {nb.device('auto')}"
    assert lines[-1].startswith("result: ")
    assert lines[-1].endswith("(smoke, no target)")
    assert len(nb.weights(file)) >= 4


def test_another_device_gives_the_same():
    device = array_api_strict.Device("device1")
    for a, b in zip(restarts.run(range(3), steps=6, device=device)[1], restarts.run(range(3), steps=6)[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    there, here = gradient_penalty.run(0, device, steps=6)[1:], gradient_penalty.run(0, steps=6)[1:]
    assert there == pytest.approx(here, rel=1e-4)
    np.testing.assert_allclose(autoencoder.run(0, device, epochs=1)[2], autoencoder.run(0, epochs=1)[2], atol=1e-5)


# -- autoencoder ---------------------------------------------------------------------------------------------------


def test_principal_components_are_the_best_plane():
    rng = np.random.default_rng(0)
    X = rng.random((50, 3)) @ rng.random((3, 7)) / 3
    np.testing.assert_allclose(autoencoder.pca(X[:40], X[40:], 3), X[40:], atol=1e-12)  # a plane of three dimensions
    errors = [((autoencoder.pca(X, X, n) - X) ** 2).mean() for n in range(4)]
    np.testing.assert_allclose(errors[0], X.var(axis=0).mean())
    assert errors == sorted(errors, reverse=True)


def test_digits_in_characters():
    left, right = np.zeros(64), np.ones(64)
    left[9] = 0.5
    lines = autoencoder.text(left, right).split("\n")
    assert lines == [" " * 19 + "@" * 16, "  ++" + " " * 15 + "@" * 16, *[" " * 19 + "@" * 16] * 6]


def test_a_few_epochs_of_the_autoencoder_come_near_to_pca():
    _, images, drawn, flat = autoencoder.run(0, epochs=6)
    assert images.shape == drawn.shape == flat.shape == (449, 64)
    error, error_pca = (((again - images) ** 2).mean() for again in (drawn, flat))
    assert 0.020 < error_pca < 0.026
    assert error < error_pca


# -- gradient penalty ----------------------------------------------------------------------------------------------


def test_slopes_are_those_of_each_row_and_have_gradients():
    net = nn.MLP([2, 5, 1], "tanh").init(0).to("float64")
    x, h = np.random.default_rng(0).standard_normal((6, 2)), 1e-6
    steps = np.eye(2) * h
    numeric = [(net(nb.tensor(x + s)) - net(nb.tensor(x - s))).numpy()[:, 0] / (2 * h) for s in steps]
    np.testing.assert_allclose(gradient_penalty.slopes(net, nb.tensor(x)).numpy(), np.hypot(*numeric), rtol=1e-7)
    assert gradcheck(lambda x: gradient_penalty.slopes(net, x).sum(), nb.tensor(x))


def test_slopes_of_nothing_have_gradients_too():
    net = nn.MLP([2, 4, 1], "relu")
    for p in net.parameters():
        p.assign(p.numpy() * 0.0)
    slopes = gradient_penalty.slopes(net, nb.ones((3, 2)))
    assert slopes.tolist() == [0.0] * 3
    ((slopes - 1.0) ** 2).mean().backward()
    assert all(np.isfinite(p.grad.numpy()).all() for p in net.parameters() if p.grad is not None)


def test_points_lie_on_rings_and_between():
    inner, outer, between = gradient_penalty.points(np.random.default_rng(0), 500, "cpu")
    for x, radius in ((inner, 1.0), (outer, 2.0)):
        np.testing.assert_allclose(nb.linalg.vector_norm(x, axis=1).numpy(), radius, rtol=1e-6)
    there, on, whole = (nb.linalg.vector_norm(d, axis=1) for d in (between - inner, outer - between, outer - inner))
    np.testing.assert_allclose((there + on).numpy(), whole.numpy(), rtol=1e-5)


def test_a_soft_penalty_settles_where_it_should():
    _, distance, slope = gradient_penalty.run(0, steps=600)
    assert slope == pytest.approx(1.0 + 0.5 / gradient_penalty.PENALTY, abs=0.01)
    assert distance == pytest.approx(1.0, abs=0.05)


# -- restarts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", [2, 4])
def test_together_is_in_turn(hidden):
    (whole,), found = restarts.run(range(3, 7), hidden, "together", 300)
    parts, found_in_turn = restarts.run(range(3, 7), hidden, "in_turn", 300)
    assert len(parts) == 4
    for name, value in whole.state_dict().items():
        apart = np.concatenate([part.state_dict()[name].numpy() for part in parts])
        np.testing.assert_allclose(apart, value.numpy(), rtol=1e-12, atol=1e-14)
    for a, b in zip(found, found_in_turn, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-14)
    assert [f.shape for f in found] == [(4, 4, hidden), (4, 4, 1), (4,), (4,)]


def test_starts_are_the_tutorials():
    (nets,), _ = restarts.run([41, 42], steps=50)
    W1, b1, W2, b2, _ = xor_numpy.train(steps=50, seed=42)
    for ours, theirs in ((nets.W1, W1.T), (nets.b1, b1), (nets.W2, W2.T), (nets.b2, b2)):
        np.testing.assert_allclose(ours.numpy()[1], theirs.reshape(ours.shape[1:]), rtol=1e-12, atol=1e-14)


def test_a_report_tells_the_kinds_apart(capsys):
    a = np.full((4, 4, 2), 0.5)
    a[1] = [[0.7, 0.1], [0.0, 0.0], [0.1, 0.7], [0.0, 0.001]]  # 01 and 11 are all but one
    a[2:, 0] = a[2:, 3] = 0.9
    outputs = np.array([[0.5] * 4, [0.0, 0.5, 1.0, 0.5], [0.3, 0.6, 0.7, 0.3], [0.1, 0.9, 0.9, 0.1]])[..., None]
    errors = ((outputs[..., 0] - [0.0, 1.0, 1.0, 0.0]) ** 2).mean(axis=1)
    restarts.report([7, 8, 9, 10], a, outputs, errors, np.array([1e-4, 1e-3, 0.1, 0.001]))
    printed = capsys.readouterr().out.splitlines()
    kinds = ("on a plateau", "take two rows for one", "on their way")
    answers = (
        "Seed 7 answers [0.5 0.5 0.5 0.5]",
        "Seed 8 answers [0.  0.5 1.  0.5]",
        "Seed 9 answers [0.3 0.6 0.7 0.3]",
    )
    for line, kind, answer in zip(printed[::2], kinds, answers, strict=True):
        assert line.startswith(f"  1 {kind}: ")
        assert line.endswith(answer)
    assert [float(line.rsplit(" ", 1)[1]) for line in printed[1::2]] == [0.0, 0.001, 0.4]


@pytest.mark.parametrize("args", [["digits.py"], ["autoencoder.py"], ["sequence.py"], ["text.py"], ["iris.py"]])
def test_a_run_that_is_over_is_found_again(args, tmp_path):
    command = [sys.executable, "-W", "error", f"examples/{args[0]}", "--smoke", "--epochs", "2", "--device", "cpu"]
    command += ["--resume", tmp_path / "runs" / "one"]
    first, again = (subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=50) for _ in range(2))
    assert (first.returncode, first.stderr, again.returncode, again.stderr) == (0, "", 0, "")
    assert first.stdout.splitlines()[-1] == again.stdout.splitlines()[-1]
    assert len(again.stdout) < len(first.stdout)
