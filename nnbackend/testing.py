"""Checks for your own functions and layers: whether their gradients are right, whether they keep the contract."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from . import tree
from .array import split
from .backend import CPU, FLOATING, Device, DeviceLike, is_array, to_host
from .backend import device as find_device
from .creation import asarray, tensor
from .errors import GraphError, RecordingWarning
from .grad_mode import enable_grad
from .nn import Module, RandomModule, evaluating
from .optim import SGD
from .program import compile
from .synchronization import no_synchronization as no_synchronization
from .synchronization import synchronizations as synchronizations
from .tape import gradients, seed_of
from .tensor import Tensor

ROUNDING = {"float64": 1e-10, "float32": 1e-5}  # of values; of gradients ten times that


@enable_grad()
def gradcheck(
    f: Callable[..., Any],
    *args: Any,
    order: int = 1,
    eps: float = 6e-6,
    rtol: float = 1e-6,
    atol: float = 1e-7,
    seed: int = 0,
) -> bool:
    """Compare the gradients of `f` with central differences, in float64; AssertionError names the argument at fault.

    Directional: for a random direction v and random weights w of the outputs, `<w, J v>` must equal `<J^T w, v>`.
    `order=2` checks the gradient of the gradient as well. Arguments that are not floating are passed on. GraphError if
    the result has no history.
    """
    rng = np.random.default_rng(seed)
    places = [i for i, a in enumerate(args) if _floating(a)]
    inputs = [asarray(a) if is_array(a) else a for a in args]
    for i in places:
        inputs[i] = tensor(args[i], dtype="float64")
    if not places:
        raise GraphError("gradcheck: expected at least one floating argument.")
    weights: list[Any] = []

    def weighed(*xs: Any) -> Any:
        """The outputs of f as one number."""
        outputs = f(*xs)
        outputs = [asarray(y) for y in (outputs if isinstance(outputs, tuple) else (outputs,)) if _floating(y)]
        if not weights:
            if not any(y.requires_grad for y in outputs):
                raise GraphError("gradcheck: expected a result with history, got none. Use Tensor operations only.")
            weights.extend(tensor(rng.standard_normal(y.shape)) for y in outputs)
        return sum((y * w.to(y.device)).sum() for y, w in zip(outputs, weights, strict=True))

    _compare(weighed, inputs, places, rng, order, eps, rtol, atol)
    return True


def _compare(
    g: Any, inputs: list[Any], places: list[int], rng: Any, order: int, eps: float, rtol: float, atol: float
) -> None:
    directions = {i: rng.standard_normal(inputs[i].shape) for i in places}

    def slope(*xs: Any) -> Any:
        """<gradient of g, directions>, which has a gradient itself."""
        leaves = [xs[i] if xs[i].requires_grad else Tensor(xs[i].data, True) for i in places]
        full = list(xs)
        for i, leaf in zip(places, leaves, strict=True):
            full[i] = leaf
        y = g(*full)
        grads = gradients(y, Tensor(seed_of(y)), leaves, Tensor) if y.requires_grad else [None] * len(places)
        slopes = ((dx, directions[i]) for i, dx in zip(places, grads, strict=True) if dx is not None)
        parts = [(dx * tensor(v).to(dx.device)).sum() for dx, v in slopes]
        return sum(parts) if parts else tensor(0.0, dtype="float64")

    for i in places:
        kept = dict(directions)
        directions.update({j: kept[j] * (j == i) for j in places})
        analytic, numeric = float(slope(*inputs)), _difference(g, inputs, i, kept[i], eps)
        directions.update(kept)
        if not abs(analytic - numeric) <= atol + rtol * max(1.0, abs(numeric)):
            raise AssertionError(
                f"gradcheck: argument {i}: expected a slope of {numeric:.10g} by differences, got {analytic:.10g}."
            )
    if order > 1:
        _compare(slope, inputs, places, rng, order - 1, eps, rtol * 10, atol * 10)


def _difference(g: Any, inputs: list[Any], i: int, v: Any, eps: float) -> float:
    x = to_host(inputs[i].data)
    h = eps * max(1.0, float(np.max(np.abs(x))) if x.size else 1.0)

    def at(step: float) -> float:
        moved = list(inputs)
        moved[i] = tensor(x + step * v).to(inputs[i].device)
        return float(g(*moved))

    return (at(h) - at(-h)) / (2.0 * h)


def _floating(a: Any) -> bool:
    return isinstance(a, float) or ((isinstance(a, list) or hasattr(a, "dtype")) and asarray(a).dtype in FLOATING)


# -- layers


@enable_grad()
def check_layer(
    layer: Callable[..., Module],
    *settings: Any,
    inputs: Any,
    device: DeviceLike = "cpu",
    smooth: bool = True,
    batch: bool = True,
    seed: int = 0,
    **named: Any,
) -> None:
    """Hold a layer to the contract that the layers here keep; AssertionError says which part of it does not hold.

    `inputs` is an array, or a tuple of all that the layer is called with. `smooth`: the gradient has a gradient.
    `batch`: axis 0 of the inputs is a batch, which may be empty. The parts: float32 and float64 give results of their
    dtype, on their device, equal to rounding; inputs stay as they are; gradients of inputs and parameters agree with
    differences; an empty batch gives empty results and zero gradients; the memory layout does not matter; a second
    layer with the same state gives the same; a recorded training step equals the eager one; it prints and copies.
    On another `device` than the CPU only what can differ there is checked: results, gradients, the recorded step.
    """
    make, place = partial(layer, *settings, **named), find_device(device)
    given = tree.mapped(_narrow, inputs if isinstance(inputs, tuple) else (inputs,))
    net = _drawn(make(), seed)
    parts: dict[str, Callable[[], None]] = {
        "results and gradients": lambda: _check_widths(net, given, place, seed),
        "a recorded step": lambda: _check_recorded(net, given, place, "float64", batch),
        "a recorded step in float32": lambda: _check_recorded(net, given, place, "float32", batch),
    }
    if place == CPU:
        parts["gradients by differences"] = lambda: _check_gradients(net, given, 1 + smooth, seed)
        parts["memory layout"] = lambda: _check_layout(net, given, seed)
        parts["the state in a second layer"] = lambda: _check_state(net, make().to("float64"), given)
        parts["printing and copying"] = lambda: _check_copy(net, given)
        if batch:
            parts["an empty batch"] = lambda: _check_empty(net, given)
    for part, check in parts.items():
        try:
            check()
        except Exception as error:
            raise AssertionError(f"check_layer: {net!r}: {part}: {type(error).__name__}: {error}") from error


def _narrow(x: Any) -> Any:
    """An array on the host, floats in float64 with values that float32 can hold; anything else as it is."""
    if not is_array(x):
        return x
    host = to_host(x.data if isinstance(x, Tensor) else x)
    return host.astype("float32").astype("float64") if host.dtype.kind == "f" else host


def _drawn(net: Module, seed: int) -> Module:
    """The layer in float64, with parameters drawn from the seed, none of them all equal."""
    rng = np.random.default_rng(seed)
    net.to("float64").init(seed)
    for p in net.parameters():
        p.assign(tensor(_narrow(p.numpy() + 0.1 * rng.standard_normal(p.shape))))
    return net


def _on(place: Device, dtype: str, given: Any) -> Any:
    """Host arrays as Tensors there, the floats as leaves that want a gradient."""

    def moved(x: Any) -> Any:
        if not isinstance(x, np.ndarray):
            return x
        return tensor(x, device=place) if x.dtype.kind != "f" else tensor(x, dtype, place, requires_grad=True)

    return tree.mapped(moved, given)


def _leaves(args: Any) -> list[Tensor]:
    return [x for x in tree.leaves(args) if isinstance(x, Tensor) and x.requires_grad]


def _outputs(y: Any) -> list[Tensor]:
    return [x for x in tree.leaves(y) if isinstance(x, Tensor)]


def _pulled(net: Module, args: Any, seed: int) -> tuple[list[Tensor], list[Tensor], list[Tensor | None]]:
    """The outputs of a copy of the layer, what wants a gradient, the gradients for random weights of the outputs."""
    rng, twin = np.random.default_rng(seed), copy.deepcopy(net)
    outputs, wanting = _outputs(twin(*args)), [*_leaves(args), *twin.parameters()]
    weighed = [(y * tensor(_narrow(rng.standard_normal(y.shape)), y.dtype, y.device)).sum() for y in _linked(outputs)]
    if weighed:
        sum(weighed[1:], weighed[0]).backward()
    return outputs, wanting, [x.grad for x in wanting]


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:  # not `assert`, which `python -O` leaves out
        raise AssertionError(otherwise)


def _linked(outputs: list[Tensor]) -> Iterator[Tensor]:
    return (y for y in outputs if y.requires_grad)


def _close(got: Any, want: Any, tolerance: float, what: str) -> None:
    if got is None or want is None:
        _expect(got is want, f"{what}: expected {want}, got {got}")
        return
    got, want = got.numpy(), want.numpy()
    scale = float(np.max(np.abs(want), initial=1.0, where=np.isfinite(want))) if want.dtype.kind == "f" else 0.0
    np.testing.assert_allclose(got, want, tolerance, tolerance * scale, err_msg=what)


def _agree(got: Any, want: Any, tolerance: float) -> None:
    """Two answers of `_pulled` are equal up to rounding."""
    for i, (a, b) in enumerate(zip(got[0], want[0], strict=True)):
        _close(a, b, tolerance, f"output {i}")
    for i, (a, b) in enumerate(zip(got[2], want[2], strict=True)):
        _close(a, b, 10 * tolerance, f"gradient {i}")


def _check_widths(net: Module, given: Any, place: Device, seed: int) -> None:
    random = any(isinstance(module, RandomModule) and module.training for module in net.modules())
    for dtype, tolerance in ROUNDING.items():
        width = dtype if random else "float64"  # each draws random numbers of its own
        want = _pulled(copy.deepcopy(net).to(width), _on(CPU, width, given), seed)
        args = _on(place, dtype, given)
        got = _pulled(copy.deepcopy(net).to(place, dtype), args, seed)
        for y, other in zip(got[0], want[0], strict=True):
            kind = dtype if other.dtype in FLOATING else other.dtype
            _expect((y.dtype, y.device) == (kind, place), f"expected {kind} on {place}, got {y.dtype} on {y.device}")
        for x, dx in zip(got[1], got[2], strict=True):
            same = dx is None or (dx.shape, dx.dtype, dx.device) == (x.shape, x.dtype, x.device)
            _expect(same, f"a gradient of {dx!r} for {x!r}")
        for x, old in zip(tree.leaves(args), tree.leaves(given), strict=True):
            _expect(not isinstance(old, np.ndarray) or np.array_equal(x.numpy(), old), "an input has changed")
        _agree(got, want, tolerance)


def _check_gradients(net: Module, given: Any, order: int, seed: int) -> None:
    """Each input by itself, and all parameters in one direction."""
    args = _on(CPU, "float64", given)
    values = [x.detach() for x in tree.leaves(args) if isinstance(x, Tensor)]
    sizes = tuple(p.size for p in net.parameters())
    if sizes:
        values.append(tensor(np.concatenate([p.numpy().ravel() for p in net.parameters()])))

    def f(*values: Any) -> tuple[Tensor, ...]:
        """The outputs for these inputs and these parameters."""
        twin, rest = copy.deepcopy(net), iter(values)
        called = tree.mapped(lambda x: next(rest) if isinstance(x, Tensor) else x, args)
        parts = split(next(rest), sizes) if sizes else []
        instead = {id(p): part.reshape(p.shape) for p, part in zip(twin.parameters(), parts, strict=True)}
        for module in twin.modules():
            module.__dict__.update({k: instead[id(p)] for k, p in module.__dict__.items() if id(p) in instead})
        return tuple(_outputs(twin(*called)))

    gradcheck(f, *values, order=order, seed=seed)


def _check_recorded(net: Module, given: Any, place: Device, dtype: str, batch: bool) -> None:
    eager, recorded = (copy.deepcopy(net).to(place, dtype) for _ in range(2))
    step, replayed = _step(eager), compile(_step(recorded))
    reversed_ = tree.mapped(lambda x: x[::-1].copy() if _rows(x) else x, given) if batch else given
    for turn in range(4):
        with warnings.catch_warnings():
            warnings.simplefilter("error", RecordingWarning)
            want, got = (f(*_on(place, dtype, reversed_ if turn % 2 else given)) for f in (step, replayed))
        for a, b in zip(got, want, strict=True):
            _close(a, b, 10 * ROUNDING[dtype], f"step {turn + 1}")
        for name, value in eager.state_dict().items():
            _close(recorded.state_dict()[name], value, 10 * ROUNDING[dtype], f"{name} after step {turn + 1}")
    _expect(replayed.why is None and replayed.recordings < 4, repr(replayed))


def _step(net: Module) -> Callable[..., Any]:
    """A training step for the sum of the squares of the outputs; it gives that and the gradients of the inputs."""
    parameters = list(net.parameters())
    optimizer = SGD(parameters, lr=1e-3) if parameters else None

    def step(*inputs: Any) -> list[Any]:
        args = tree.mapped(lambda x: Tensor(x.data, True) if isinstance(x, Tensor) and x.requires_grad else x, inputs)
        squares = [(y * y).sum() for y in _linked(_outputs(net(*args)))]
        total = sum(squares[1:], squares[0])
        if optimizer is not None:
            optimizer.zero_grad()
        total.backward()
        if optimizer is not None:
            optimizer.step()
        return [total.detach(), *(x.grad for x in _leaves(args))]

    return step


def _rows(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.ndim > 0


def _check_layout(net: Module, given: Any, seed: int) -> None:
    want = _pulled(net, _on(CPU, "float64", given), seed)

    def transposed(x: Any) -> Any:
        return Tensor(np.asarray(x.data, order="F"), x.requires_grad) if isinstance(x, Tensor) else x

    def strided(x: Any) -> Any:
        return Tensor(np.repeat(x.data[..., None], 2, -1)[..., 0], x.requires_grad) if isinstance(x, Tensor) else x

    for layout in (transposed, strided):
        _agree(_pulled(net, tree.mapped(layout, _on(CPU, "float64", given)), seed), want, ROUNDING["float64"])


def _check_state(net: Module, other: Module, given: Any) -> None:
    used = copy.deepcopy(net)
    used(*_on(CPU, "float64", given))
    other.load_state_dict(used.state_dict())
    with evaluating():
        results = [_outputs(each(*_on(CPU, "float64", given))) for each in (other, used)]
    for got, want in zip(*results, strict=True):
        _expect(np.array_equal(got.numpy(), want.numpy(), equal_nan=True), "expected equal results")


def _check_copy(net: Module, given: Any) -> None:
    text = repr(net)
    _expect(text.startswith(f"{type(net).__name__}(") and " at 0x" not in text, f"printed as {text}")
    before, twin = [p.numpy().copy() for p in net.parameters()], copy.deepcopy(net)
    for got, want in zip(*(_outputs(copy.deepcopy(n)(*_on(CPU, "float64", given))) for n in (twin, net)), strict=True):
        _expect(np.array_equal(got.numpy(), want.numpy(), equal_nan=True), "expected equal results of a copy")
    for p in twin.parameters():
        p.assign(p.detach() + 1.0)
    for p, old in zip(net.parameters(), before, strict=True):
        _expect(np.array_equal(p.numpy(), old), "a copy shares a parameter")


def _check_empty(net: Module, given: Any) -> None:
    nothing = tree.mapped(lambda x: x[:0] if _rows(x) else x, given)
    full, _, _ = _pulled(net, _on(CPU, "float64", given), 0)
    outputs, wanting, grads = _pulled(net, _on(CPU, "float64", nothing), 0)
    for y, other in zip(outputs, full, strict=True):
        fits = len(y.shape) == len(other.shape) and all(a in (0, b) for a, b in zip(y.shape, other.shape, strict=True))
        _expect(fits and (0 in y.shape or not y.shape), f"an output of shape {y.shape}; of a full batch {other.shape}")
    for x, dx in zip(wanting, grads, strict=True):
        _expect(dx is None or (dx.shape == x.shape and not np.any(dx.numpy())), f"a gradient of {dx!r} for {x!r}")
