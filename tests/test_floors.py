"""The house rules, as tests: imports run downward, few modules name an array library, files stay small."""

import ast
import functools
import itertools
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "nnbackend"

# Each module imports only from those before it in this list.
ORDER = [
    "version",
    "errors",
    "crash",
    "backend.base",
    "backend.threads",
    "backend.numpy_blas",
    "backend.numpy_conv",
    "backend.numpy_backend",
    "backend.cuda_faults",
    "backend.kernels",
    "backend.slots",
    "backend.fusion",
    "backend.fusion.group",
    "backend.cupy_random",
    "backend.cupy_namespace",
    "backend.cupy_primitives",
    "backend.cupy_backend",
    "backend.registry",
    "backend.detect",
    "backend.device",
    "backend.primitive",
    "backend.attention",
    "backend.numpy_attention",
    "backend.recurrent",
    "backend.numpy_recurrent",
    "backend.conv",
    "backend.norm",
    "backend.numpy_norm",
    "backend.numpy_special",
    "backend",
    "ops",
    "ops.core",
    "ops.elementwise",
    "ops.reduce",
    "ops.scan",
    "ops.shape",
    "ops.index",
    "ops.embedding",
    "ops.linear",
    "ops.linalg",
    "ops.conv",
    "ops.pool",
    "ops.resample",
    "ops.norm",
    "ops.attention",
    "ops.recurrent",
    "ops.activation",
    "ops.loss",
    "ops.loss_sequence",
    "ops.transfer",
    "random",
    "recipe",
    "grad_mode",
    "training_mode",
    "recorder",
    "tree",
    "tape",
    "careful",
    "diagnose",
    "interop",
    "tensor_methods",
    "tensor",
    "creation",
    "cells",
    "linalg",
    "numerics",
    "array",
    "tensor_backend",
    "calculus",
    "repeat",
    "recompute",
    "program.graph",
    "program.number",
    "program.traced",
    "program.namespace",
    "program.handles",
    "program.trace",
    "program.watch",
    "program.interpret",
    "program.simplify",
    "program.names",
    "program.plain",
    "program.expressions",
    "program.order",
    "program.text",
    "program.record",
    "program.compare",
    "program.replay_numpy.lower",
    "program.replay_numpy.schedule",
    "program.replay_numpy.memory",
    "program.replay_numpy.code",
    "program.replay_numpy.calls",
    "program.replay_numpy.blocks",
    "program.replay_numpy.replay",
    "program.replay_numpy",
    "program.entry",
    "program.undone",
    "program.compiled",
    "program",
    "functional.arguments",
    "functional.dropout",
    "functional.activation",
    "functional.linear",
    "functional.rearrange",
    "functional.padding",
    "functional.conv",
    "functional.pool",
    "functional.resample",
    "functional.norm",
    "functional.embedding",
    "functional.recurrent",
    "functional.attention",
    "functional.distance",
    "functional.loss_checks",
    "functional.loss_reduce",
    "functional.loss",
    "functional.loss_margin",
    "functional.loss_sequence",
    "functional",
    "nn.init",
    "nn.module",
    "nn.random_module",
    "nn.activation",
    "nn.linear",
    "nn.dropout",
    "nn.container",
    "nn.rearrange",
    "nn.padding",
    "nn.conv",
    "nn.pool",
    "nn.resample",
    "nn.norm",
    "nn.embedding",
    "nn.recurrent_cell",
    "nn.recurrent",
    "nn.position",
    "nn.attention",
    "nn.transformer",
    "nn.distance",
    "nn.loss",
    "nn.loss_margin",
    "nn.loss_sequence",
    "nn.utils.parametrize",
    "nn.utils.parametrizations",
    "nn.utils.rnn",
    "nn.utils.vector",
    "nn.utils.running",
    "nn.utils",
    "nn",
    "optim.limits",
    "optim.group",
    "optim.flat",
    "optim.state",
    "optim.optimizer",
    "optim.rules",
    "optim.adam",
    "optim.matrix",
    "optim.lbfgs",
    "optim.average",
    "optim.clip",
    "optim.sam",
    "optim.scaler",
    "optim.schedule",
    "optim.schedules",
    "optim.cycles",
    "optim",
    "data.csv_rows",
    "data.csv",
    "data.datasets",
    "data.images",
    "data.encode",
    "data.scale",
    "data.split",
    "data.passes",
    "data.prefetch",
    "data.loader",
    "data.csv_loader",
    "data",
    "metrics.inputs",
    "metrics.classes",
    "metrics.ranking",
    "metrics.probability",
    "metrics.regression",
    "metrics.registry",
    "metrics",
    "io.atomic",
    "io.header",
    "io.rounding",
    "io.safetensors",
    "io.names",
    "io.states",
    "io.build",
    "io.describe",
    "io.model",
    "io.helpers",
    "io.source",
    "io",
    "plots.figure",
    "plots.columns",
    "plots.curves",
    "plots.matrix",
    "plots.boundary",
    "plots.network",
    "plots.terminal",
    "plots",
    "train.history",
    "train.edge",
    "train.feed",
    "train.objective",
    "train.updates",
    "train.measure",
    "train.intake",
    "train.direction",
    "train.progress",
    "train.interrupts",
    "train.callback",
    "train.checkpoints",
    "train.snapshot",
    "train.sound",
    "train.origin",
    "train.run",
    "train.lint.finding",
    "train.lint.probe",
    "train.lint.facts",
    "train.lint.words",
    "train.lint.data_rules",
    "train.lint.loss_rules",
    "train.lint.step_rules",
    "train.lint.rules",
    "train.lint",
    "train.trainer",
    "train",
    "callbacks.monitor",
    "callbacks.files",
    "callbacks.functions",
    "callbacks.logs",
    "callbacks.rates",
    "callbacks.stops",
    "callbacks.events",
    "callbacks.tensorboard",
    "callbacks.live",
    "callbacks",
    "summaries",
    "comparison.report",
    "comparison.twin",
    "comparison.judge",
    "comparison",
    "estimators.rules",
    "estimators.checks",
    "estimators.scaling",
    "estimators.targets",
    "estimators.base",
    "estimators.kinds",
    "estimators.mlp",
    "estimators.wrapped",
    "estimators",
    "doctor",
    "synchronization",
    "testing",
    "__init__",
    "__main__",
]

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
