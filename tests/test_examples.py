"""The examples and the README do what they say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import nnbackend as nb

ROOT = Path(__file__).parent.parent


def run(*args):
    return subprocess.run([sys.executable, *map(str, args)], capture_output=True, text=True, cwd=ROOT, timeout=50)


@pytest.mark.parametrize(
    "args", [["xor_numpy.py"], ["xor.py"], ["iris.py"], ["iris.py", "--recipe", "modern"], ["digits.py"]]
)
def test_examples_reach_their_targets(args, tmp_path):
    path, *flags = args
    save = (
        [] if path == "xor_numpy.py" else ["--device", "auto", "--seed", "42", "--save", tmp_path / "net.safetensors"]
    )
    done = run("-W", "error", f"examples/{path}", *flags, *save)
    assert (done.returncode, done.stderr) == (0, "")
    if save:
        lines = done.stdout.splitlines()
        assert lines[0] == f"device: {nb.device('auto')}"
        assert re.fullmatch(r"result: .*accuracy [01]\.\d{4} \(target [01]\.\d+\)", lines[-1])
        assert nb.weights(tmp_path / "net.safetensors").keys() >= {"0.weight", "0.bias"}


def test_a_missed_target_is_an_exit_status():
    done = run("examples/digits.py", "--epochs", "1", "--seed", "0")
    assert done.returncode == 1
    assert "target" in done.stdout.splitlines()[-1]


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.S)


def test_the_readme_has_exactly_two_commands():
    first, second = blocks("sh")
    assert "examples/iris.py" in first
    assert "pytest" in second


def test_the_output_in_the_readme_is_what_comes_out():
    shown = re.search(
        r"```\n\$ python (\S+) ([^\n]*)\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.S
    )
    done = run(shown[1], *shown[2].split(), "--device", "cpu")
    lasting = [re.sub(r" in [\d.]+ s;", "", text) for text in (done.stdout, shown[3])]  # but not how long it took
    numbers = [[round(float(v), 2) for v in re.findall(r"\d+\.\d+", text)] for text in lasting]
    assert len(numbers[0]) > 10
    assert numbers[0] == pytest.approx(numbers[1], abs=0.02)


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    assert len(blocks("python")) >= 3
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), names)
    assert capsys.readouterr().out
