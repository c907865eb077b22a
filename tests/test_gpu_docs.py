"""docs/gpu.md does what it says: its Python runs, each reason that detection gives has its cure. So does ci/gpu."""

import ast
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nnbackend.backend import cuda_faults, cuda_status, detect

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.S)
SHOWN = re.findall(r"```python\n[^`]*```\n\n```(?:text|cuda)\n(.*?)```", TEXT, flags=re.S)  # what a block prints
[FILE] = re.findall(r"```cuda\n(// one_hot\.cu.*?)```", TEXT, flags=re.S)
IN_THE_FOLDER = f"""
from nnbackend.backend import kernels
others = kernels.source
kernels.source = lambda name: {FILE!r} if name == "one_hot.cu" else others(name)
"""


def run(*command, **environment):
    """On the GPU if there is one, else on the stand-in for CuPy."""
    if not cuda_status().usable:
        path = [str(ROOT / "tests" / "standin"), str(ROOT), os.environ.get("PYTHONPATH", "")]
        environment |= {"PYTHONPATH": os.pathsep.join(filter(None, path)), "NNBACKEND_TEST_CUPY": "standin"}
    environment = {**os.environ, **environment}
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environment, cwd=ROOT)


def test_its_python_runs():
    blocks = [block for block in BLOCKS if "import torch" not in block]
    assert len(blocks) == len(BLOCKS) - 1 == 9
    switches = {"NNBACKEND_KERNELS": "1", "NNBACKEND_SYNC": "0"}
    done = run("-W", "error", "-c", "\n".join([IN_THE_FOLDER, *blocks]), **switches)
    assert (done.returncode, done.stderr) == (0, "")
    assert "cuda:0" in done.stdout
    assert len(SHOWN) == 2
    for text in SHOWN:
        assert text in done.stdout


def test_what_it_says_of_pytorch():
    if not cuda_status().usable:
        pytest.skip("needs a GPU")  # PyTorch takes long to load
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("needs a PyTorch that sees the GPU")
    [block] = [block for block in BLOCKS if "import torch" in block]
    names = {}
    exec(compile("import nnbackend as nb\n" + block, "docs/gpu.md", "exec"), names)
    assert names["back"].data_ptr() == names["t"].data_ptr()


def reasons():
    """The lasting parts of every reason that detection can give."""
    for fault in cuda_faults.KNOWN:
        yield re.split(r"\{\w+\}", fault.reason)
    for node in ast.walk(ast.parse(inspect.getsource(detect))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "CudaProblem":
            said = node.args[0]
            parts = said.values if isinstance(said, ast.JoinedStr) else [said]
            yield [part.value for part in parts if isinstance(part, ast.Constant)]


@pytest.mark.parametrize("parts", list(reasons()), ids="".join)
def test_each_reason_is_listed(parts):
    rows = TEXT[TEXT.index("| the reason") : TEXT.index("## What is the same")].replace("...", "")
    for part in parts:
        assert part.strip(": ()") in rows


def test_what_the_doctor_shows_is_what_it_looks_at():
    shown = TEXT[TEXT.index("CUDA       not usable") : TEXT.index("  to mend it")]
    assert re.findall(r"^  \w+ +([\w-]+)", shown, flags=re.M) == [name for name, _ in detect.CHECKS]
    assert cuda_faults.DRIVER in TEXT


def test_ci_gpu_reports(tmp_path):
    """What the parts do is seen with `ci/gpu --quick`; here, that it starts, looks for a GPU and writes its report."""
    folder = tmp_path / "not" / "there"
    done = run("ci/gpu", "environment", "--commit", "1a2b3c4", OUT=str(folder))
    assert (done.returncode, done.stderr) == (0, "")
    report = (folder / "gpu-results.md").read_text()
    assert report in done.stdout
    assert re.search(r"^## \d{4}-\d\d-\d\d .*, 1a2b3c4$", report, flags=re.M)
    assert re.search(r"^\| environment \| passed \| .* \| \d+ \|$", report, flags=re.M)
    assert {path.name for path in folder.iterdir()} == {"environment.log", "gpu-results.md"}
