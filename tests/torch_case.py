"""A case of PyTorch's on our side: build the layer, load the state, call it, go back, compare with PyTorch's answers.

`ci/oracles` makes such cases with PyTorch and puts them here directly; `fixtures/modules` holds a frozen sample.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn
from nnbackend.io import safetensors

# PyTorch's gradient of CTC holds only for log-probabilities that come from a log_softmax, which leaves them unchanged.
THROUGH = {"CTCLoss": "log_softmax"}  # what the first input goes through, on both sides


@dataclass(frozen=True)
class Leaf:
    """An input that wants a gradient."""

    array: Any


@dataclass(frozen=True)
class Function:
    """A function of `nnbackend.functional`, such as an activation given by itself."""

    name: str


@dataclass
class Call:
    """Arguments: numbers, words, NumPy arrays, leaves, functions, calls of layers, and nests of them."""

    args: tuple[Any, ...] = ()
    kw: dict[str, Any] = field(default_factory=dict)
    layer: str = ""  # what is called, where a layer takes other layers


@dataclass
class Case:
    """What was asked of PyTorch: a layer, its settings, the mode, the inputs. The rest is what it answered."""

    name: str
    settings: Call
    inputs: Call
    training: bool
    note: str = ""
    then: str = ""  # what is done to the layer: a function of `nn.utils.parametrizations`
    state: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)  # the state after the call
    outputs: list[Any] = field(default_factory=list)
    weights: list[Any] = field(default_factory=list)  # of the outputs, None where there is no gradient
    gradients: list[Any] = field(default_factory=list)  # of the leaves, in order
    parameters: dict[str, Any] = field(default_factory=dict)  # the gradients of the parameters

    def __str__(self) -> str:
        mode = "train" if self.training else "eval"
        return (
            f"{self.then}{' ' * bool(self.then)}{self.name}({_shown(self.settings)}) on ({_shown(self.inputs)}) {mode}"
        )


def _shown(x: Any) -> str:
    if isinstance(x, Call):
        words = ", ".join([*map(_shown, x.args), *(f"{k}={_shown(v)}" for k, v in x.kw.items())])
        return f"{x.layer}({words})" if x.layer else words
    if isinstance(x, tuple | list):
        return f"({', '.join(map(_shown, x))})"
    if isinstance(x, Leaf | np.ndarray):
        a = x.array if isinstance(x, Leaf) else x
        return ("" if isinstance(x, Leaf) else f"{a.dtype} ") + str(list(a.shape))
    return x.name if isinstance(x, Function) else repr(x)


# -- our side -------------------------------------------------------------------------------------------------------


def ours(x: Any, leaves: list[Any]) -> Any:
    """An argument as our layers take it; those that want a gradient are collected in `leaves`."""
    if isinstance(x, Leaf):
        leaves.append(nb.tensor(x.array, requires_grad=True))
        return leaves[-1]
    if isinstance(x, np.ndarray):
        return nb.tensor(x)
    if isinstance(x, Function):
        return getattr(F, x.name)
    if isinstance(x, Call):
        return build(x.layer, x)
    return type(x)(ours(part, leaves) for part in x) if isinstance(x, tuple | list) else x


def build(name: str, settings: Call, then: str = "") -> Any:
    """The layer of this name in float64."""
    made = getattr(nn, name)(*ours(settings.args, []), **{k: ours(v, []) for k, v in settings.kw.items()})
    return (getattr(nn.utils.parametrizations, then)(made) if then else made).to("float64")


def flat(x: Any) -> Iterator[Any]:
    """The outputs in order, whatever they are packed in."""
    if isinstance(x, tuple | list):
        for part in x:
            yield from flat(part)
    else:
        yield x


def check(case: Case, rtol: float = 1e-7, atol: float = 1e-9) -> None:
    """AssertionError where ours differs from PyTorch's answers."""
    net = build(case.name, case.settings, case.then)
    net.load_state_dict(case.state)
    net.train(case.training)
    leaves: list[Any] = []
    args, kw = ours(case.inputs.args, leaves), {k: ours(v, leaves) for k, v in case.inputs.kw.items()}
    if case.name in THROUGH:
        args = (getattr(F, THROUGH[case.name])(args[0], -1), *args[1:])
    y = net(*args, **kw)
    outputs = list(flat(y))

    def same(what: str, got: Any, want: Any) -> None:
        if got is None and want is not None:
            got = np.zeros_like(want)
        if want is None and got is not None:
            want = np.zeros_like(got)
        if want is not None:
            np.testing.assert_allclose(got, want, rtol, atol, err_msg=what)

    assert len(outputs) == len(case.outputs), f"{len(outputs)} outputs, expected {len(case.outputs)}"
    for i, (got, want) in enumerate(zip(outputs, case.outputs, strict=True)):
        assert (got is None) == (want is None), f"output {i}: {got}, expected {want}"
        if got is not None:
            assert got.shape == np.shape(want), f"output {i}: shape {got.shape}, expected {np.shape(want)}"
            same(f"output {i}", got.numpy(), want)
    total = [(y * nb.tensor(w)).sum() for y, w in zip(outputs, case.weights, strict=True) if w is not None]
    if total:
        sum(total[1:], total[0]).backward()
    for i, (x, want) in enumerate(zip(leaves, case.gradients, strict=True)):
        same(f"gradient of input {i}", None if x.grad is None else x.grad.numpy(), want)
    cells = dict(net.named_parameters())
    assert cells.keys() == case.parameters.keys(), f"parameters {list(cells)}, expected {list(case.parameters)}"
    for name, want in case.parameters.items():
        same(f"gradient of {name}", None if cells[name].grad is None else cells[name].grad.numpy(), want)
    for name, got in net.state_dict().items():
        same(f"{name} afterwards", got.numpy(), case.after[name])


def unchanged_by_error(case: Case, construction: bool) -> None:
    """AssertionError unless ours raises too, at the same stage, and nothing has changed."""
    net = _or_error(lambda: build(case.name, case.settings))
    if construction:
        _meant(net)
        return
    assert isinstance(net, nb.nn.Module), f"raised at construction: {net!r}"
    net.train(case.training)
    before = {name: value.numpy() for name, value in net.state_dict().items()}
    args, kw = ours(case.inputs.args, []), {k: ours(v, []) for k, v in case.inputs.kw.items()}
    held = [x for x in flat([args, list(kw.values())]) if isinstance(x, nb.Tensor)]
    values = [x.numpy().copy() for x in held]
    _meant(_or_error(lambda: net(*args, **kw)))
    for x, value in zip(held, values, strict=True):
        np.testing.assert_array_equal(x.numpy(), value)
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name], err_msg=name)


def _or_error(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:
        return error


def _meant(error: Any) -> None:
    """Raised by us on purpose: ours or a ValueError or TypeError, with a message that says what was expected."""
    assert isinstance(error, Exception), "did not raise"
    assert isinstance(error, nb.errors.NNBackendError | ValueError | TypeError), repr(error)
    assert "expected" in str(error), f"not a message of ours: {error!r}"


# -- frozen ---------------------------------------------------------------------------------------------------------


def freeze(path: Path, cases: list[Case], **metadata: str) -> None:
    """Write cases to a file: the arrays by number, each once, the rest as JSON in the metadata."""
    arrays: dict[str, Any] = {}

    def plain(x: Any) -> Any:
        if isinstance(x, np.ndarray | np.generic):
            x = np.asarray(x)
            key = next((k for k, a in arrays.items() if a.dtype == x.dtype and np.array_equal(a, x)), str(len(arrays)))
            arrays.setdefault(key, x)
            return {"array": key}
        if isinstance(x, Leaf):
            return {"leaf": plain(x.array)}
        if isinstance(x, Function):
            return {"function": x.name}
        if isinstance(x, Call):
            return {"args": [plain(v) for v in x.args], "kw": plain(dict(x.kw)), "layer": x.layer}
        if isinstance(x, tuple):
            return {"tuple": [plain(v) for v in x]}
        if isinstance(x, dict):
            return {"dict": {k: plain(v) for k, v in x.items()}}
        return [plain(v) for v in x] if isinstance(x, list) else x

    listed = [{k: plain(v) for k, v in case.__dict__.items()} for case in cases]
    safetensors.write(path, arrays, {"cases": json.dumps(listed, separators=(",", ":")), **metadata})


def thaw(path: Path) -> list[Case]:
    """The cases of a file."""
    arrays, metadata = safetensors.read(path)

    def back(x: Any) -> Any:
        if isinstance(x, list):
            return [back(v) for v in x]
        if not isinstance(x, dict):
            return x
        if "args" in x:
            return Call(tuple(back(v) for v in x["args"]), back(x["kw"]), x["layer"])
        ((kind, value),) = x.items()
        made = {
            "array": lambda: arrays[value],
            "leaf": lambda: Leaf(back(value)),
            "function": lambda: Function(value),
            "tuple": lambda: tuple(back(v) for v in value),
            "dict": lambda: {k: back(v) for k, v in value.items()},
        }
        return made[kind]()

    return [Case(**{k: back(v) for k, v in case.items()}) for case in json.loads(metadata["cases"])]
