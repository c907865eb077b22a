"""Importing the library: quick, silent, and nothing optional."""

import os
import subprocess
import sys

import pytest

OPTIONAL = [
    "cupy",
    "cupyx",
    "array_api_compat",
    "matplotlib",
    "tqdm",
    "sklearn",
    "safetensors",
    "torch",
    "scipy",
    "ml_dtypes",
]
COSTLY = [
    "hashlib",
    "importlib.resources",
    "importlib.metadata",
    "asyncio",
    "unittest",
    "numpy.random",
    "http",
    "logging",
    "pathlib",
    "shutil",
    "dataclasses",
    "numpy.typing",
]


def python(*code, **env):
    return subprocess.run(
        [sys.executable, *code], capture_output=True, text=True, check=True, env={**os.environ, **env}, timeout=60
    )


def test_it_is_silent_and_loads_nothing_optional():
    ask = f"import sys, nnbackend; print([m for m in {OPTIONAL} if m in sys.modules])"
    run = python("-X", "dev", "-W", "error", "-c", ask)
    assert run.stdout == "[]\n"
    assert run.stderr == ""


def test_it_loads_nothing_costly_that_numpy_does_not():
    ask = "import sys, numpy; before = set(sys.modules); import nnbackend;"
    ask += f"print([m for m in {COSTLY} if m in set(sys.modules) - before])"
    assert python("-c", ask).stdout == "[]\n"


@pytest.mark.parametrize("flags", [["-O"], ["-X", "dev"]])
@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_flags_of_python_change_nothing(flags, hash_seed):
    code = (
        "import nnbackend as nb; net = nb.nn.MLP([2, 3, 1]);"
        "X, y = nb.data.xor(); t = nb.Trainer(net, device='cpu', seed=0); t.fit(X, y, epochs=3, verbose=False);"
        "print(repr(t.history['loss']))"
    )
    here = python("-c", code, PYTHONHASHSEED="2").stdout
    assert python(*flags, "-c", code, PYTHONHASHSEED=hash_seed).stdout == here
