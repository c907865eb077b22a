"""The house rules, as tests: imports run downward, few modules name an array library, files stay small."""

import ast
import functools
import itertools
from pathlib import Path

import pytest
from floors import ORDER

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "nnbackend"

# May name numpy: floor 0, the host's random numbers, files and tables, and what is for people.
MAY_NAME_NUMPY = (
    "backend",
    "random",
    "program.replay_numpy",
    "io.rounding",
    "io.safetensors",
    "io.source",
    "data.csv",
    "data.datasets",
    "data.images",
    "data.encode",
    "data.scale",
    "data.split",
    "plots",
    "estimators",
    "testing",
)
MAY_NAME_OTHERS = ("backend.cupy_backend", "backend.detect")  # cupy, array_api_compat
NEIGHBOURS = [("nn", "optim", "data", "metrics"), ("io", "train")]  # do not know each other, but for what is listed
KNOWN = {("io.model", "nn"), ("io.source", "nn"), ("train.trainer", "nn"), ("train.trainer", "optim")}
KNOWN |= {
    (f"train.{name}", "io") for name in ("checkpoints", "history", "run", "snapshot", "trainer")
}  # what goes to files, and back


def name_of(path):
    dotted = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    return dotted.removesuffix(".__init__") or dotted


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@functools.cache
def imports_of(name):
    """(module of ours, or top-level name of another's) for every import, also those inside functions."""
    return list(_imports(name))


def _imports(name):
    path = MODULES[name]
    package = name.split(".") if path.name == "__init__.py" and name != "__init__" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((None, alias.name.split(".")[0], node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield None, node.module.split(".")[0], node
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] + (node.module or "").split(".") * bool(node.module)
            for alias in node.names:
                deeper = ".".join([*base, alias.name])
                yield (deeper if deeper in MODULES else ".".join(base) or "__init__"), None, node


def test_the_list_is_complete():
    assert sorted(ORDER) == sorted(MODULES)


@pytest.mark.parametrize("name", ORDER)
def test_imports_run_downward(name):
    below = ORDER[: ORDER.index(name)]
    ours = [module for module, _, _ in imports_of(name) if module]
    if name == "__main__" or name == "doctor":
        ours = [module for module in ours if module != "__init__"]  # the version number
    assert [module for module in ours if module not in below] == []


@pytest.mark.parametrize("name", [m for m in ORDER if m.startswith("ops.")])
def test_ops_know_only_the_core_and_the_backend(name):
    assert {m for m, _, _ in imports_of(name) if m and m.startswith("ops")} <= {"ops.core"}


def test_neighbours_do_not_know_each_other():
    known = set()
    for group in NEIGHBOURS:
        for a, b in itertools.permutations(group, 2):
            for name in ORDER:
                if name.split(".")[0] == a:
                    known |= {(name, b) for module, _, _ in imports_of(name) if module and module.split(".")[0] == b}
    assert known - KNOWN == set()


@pytest.mark.parametrize("name", ORDER)
def test_array_libraries_are_named_by_few(name):
    others = {top for _, top, _ in imports_of(name)}
    if not name.startswith(MAY_NAME_NUMPY):
        assert "numpy" not in others
    if name not in MAY_NAME_OTHERS:
        assert not others & {"cupy", "cupyx", "array_api_compat", "torch", "jax"}


@pytest.mark.parametrize("name", ORDER)
def test_only_foreign_modules_are_imported_inside_functions(name):
    branches = [n for n in ast.parse(MODULES[name].read_text()).body if isinstance(n, ast.If)]
    never_run = {n.lineno for b in branches if ast.unparse(b.test) == "TYPE_CHECKING" for n in b.body}
    inside = [(module, node.lineno) for module, _, node in imports_of(name) if module and node.col_offset]
    assert [(module, line) for module, line in inside if line not in never_run] == []


def test_files_stay_small():
    paths = itertools.chain.from_iterable((ROOT / d).rglob("*.py") for d in ("nnbackend", "tests", "examples", "ci"))
    assert {str(p.relative_to(ROOT)): n for p in paths if (n := len(p.read_text().splitlines())) > 400} == {}
