"""The examples on sequences: what they are made of, and that every line runs."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sequence
import text

import nnbackend as nb

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", ["sequence", "text"])
def test_a_smoke_run_runs_every_line(name, tmp_path):
    command = [
        "-W",
        "error",
        f"examples/{name}.py",
        "--smoke",
        "--seed",
        "3",
        "--save",
        str(tmp_path / "net.safetensors"),
    ]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, cwd=ROOT, timeout=50)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == f"device: {nb.device('auto')}"
    assert done.stdout.splitlines()[-1].endswith("(smoke, no target)")
    assert nb.weights(tmp_path / "net.safetensors")


def test_the_sum_is_that_of_the_two_marked_numbers():
    x, sums = sequence.draw(np.random.default_rng(0), 20_000)
    numbers, marks = x[..., 0], x[..., 1]
    half = sequence.LENGTH // 2
    assert set(np.unique(marks)) == {0, 1}
    assert np.all(marks[:, :half].sum(axis=1) == 1)
    assert np.all(marks[:, half:].sum(axis=1) == 1)
    assert np.all(marks.any(axis=0))
    np.testing.assert_allclose(numbers[marks == 1].reshape(-1, 2).sum(axis=1, keepdims=True), sums, rtol=1e-6)
    assert np.mean((sums - 1) ** 2) == pytest.approx(sequence.BASELINE, rel=0.03)


def test_one_seed_is_one_run():
    (_, first), (_, again), (_, other) = (sequence.run(seed, epochs=1, batches=3) for seed in (1, 1, 2))
    assert first == again != other
    assert len(first) == 1


def test_the_text_is_long_and_no_paragraph_comes_twice():
    paragraphs = text.TEXT.split("\n\n")
    assert len(text.TEXT) > 300_000
    assert len(set(paragraphs)) == len(paragraphs)


def test_a_writer_sees_only_what_came_before():
    net = text.Writer(7, width=8, heads=2).init(0)
    codes = np.arange(text.CONTEXT)[None, :] % 7
    changed = codes.copy()
    changed[0, 40] = 6 - changed[0, 40]
    with nb.no_grad():
        a, b = (net(nb.tensor(c)).numpy()[0] for c in (codes, changed))
    assert codes[0, 40] != changed[0, 40]
    np.testing.assert_array_equal(a[:40], b[:40])
    assert np.all(np.any(a[40:] != b[40:], axis=1))


def test_what_is_written_is_drawn_from_the_scores():
    scores = np.log([0.1, 0.2, 0.3, 0.4])

    def net(codes):
        return nb.tensor(np.broadcast_to(scores, (1, codes.shape[1], 4)))

    start, draws = np.zeros(text.CONTEXT, dtype=int), 2000
    written = [text.write(net, start, draws, np.random.default_rng(0), temperature=t) for t in (1.0, 0.5, 1e-6)]
    shares = [np.bincount(codes, minlength=4) / draws for codes in written]
    np.testing.assert_allclose(shares[0], [0.1, 0.2, 0.3, 0.4], atol=0.04)
    np.testing.assert_allclose(shares[1], np.array([1, 4, 9, 16]) / 30, atol=0.04)
    np.testing.assert_array_equal(shares[2], [0, 0, 0, 1])
