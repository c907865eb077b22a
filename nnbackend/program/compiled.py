"""`compile(step)`: record the first calls, replay the others, and fall back to eager where that cannot be done."""

from __future__ import annotations

import functools
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from ..backend import KERNELS, NUMPY, SYNC, backend_of, is_array
from ..backend.threads import num_threads
from ..cells import Cell, Parameter, structure
from ..errors import RecordingError, RecordingWarning
from ..grad_mode import recording as grad_mode
from ..recorder import Unfit, recorder
from ..tensor import Tensor
from ..training_mode import mode as training_mode
from ..tree import mapped
from . import interpret, replay_cuda
from .compare import differing
from .entry import entry, runner
from .graph import Node, Program
from .launcher import Launcher
from .record import Recording, built
from .replay_numpy import Replay
from .trace import ours
from .undone import Undone

LIMIT = 8  # programs for one kind of arguments
KINDS = 64  # kinds of arguments, by shape and so on


def compile(
    step: Callable[..., Any], *, fallback: bool = True, reuse_outputs: bool = False, rehearse: bool = False
) -> Compiled:
    """`step` as a function that is recorded in its first calls and replayed from then on: faster, with equal results.

    Every call is a true step. Parameters, buffers, optimizer state, learning rates and random counts are seen to
    change; arguments may be Tensors, arrays, numbers, nests of them, and anything else by value. What cannot be
    replayed runs eagerly, and a RecordingWarning says why, once; with `fallback=False` it is a RecordingError.
    `reuse_outputs` saves the copies of results: each call then writes over those of the last one. With `rehearse` what
    a recording has changed is put back, and every result is a replay's: replays may round otherwise than eager steps,
    so a run that is interrupted, and records anew, then ends on the same bits.
    """
    return step if isinstance(step, Compiled) else Compiled(step, fallback, reuse_outputs, rehearse)


class Variant:
    """One program of a step, with the circumstances in which it holds."""

    run: Callable[..., Any] | None = None  # as soon as two recordings agree
    replay: Replay | replay_cuda.Replay | None = None
    threads = 0  # how many the replay is made for; 0 if it does not matter
    _entry: Callable[..., Any] | None = None
    _version = -1

    def __init__(self, recording: Recording) -> None:
        trace = recording.trace
        self.program, self.form, self.settings = recording.program, recording.form, structure.settings
        self.modes = list(trace.modes.values())
        self.pins = [(node, how, value) for (node, how), value in trace.pins.items()]
        self.captured = [(owner, h.value) for owner, h in trace.captured.values() if isinstance(owner, Tensor)]
        self.changes = structure.changes_here
        self.owners = [(owner, _settings(owner)) for owner in trace.owners.values()]
        self.arrays = [(c, c.array) for c in trace.marks if isinstance(c, Cell)]
        self.wanting = [(c, c.requires_grad) for c in trace.marks if isinstance(c, Parameter)]

    def holds(self, inputs: list[Any]) -> bool:
        """Whether the circumstances are as they were."""
        return (
            (self.settings == structure.settings or self._changed_elsewhere())
            and all(module._training == flag for module, flag in self.modes)
            and all(_now(node, how, inputs) == value for node, how, value in self.pins)
            and all(owner.data is array for owner, array in self.captured)
            and all(p.requires_grad == wants for p, wants in self.wanting)
            and all(g.enters in (None, g.parameter._gradient is not None) for g in self.program.gradients)
        )

    def _changed_elsewhere(self) -> bool:
        """Whether only other threads have changed anything, and nothing that was at work here."""
        if self.changes != structure.changes_here or any(c.array is not array for c, array in self.arrays):
            return False
        if any(not _same(_settings(owner), before) for owner, before in self.owners):
            return False
        self.settings = structure.settings
        return True

    def repeats(self) -> bool:
        """Whether it certainly holds after a step, for the same kind of arguments, if it holds before."""
        changed = {id(scalar) for scalar, _ in self.program.numbers}
        fixed = all(n.op == "scalar" and id(n.value) not in changed for n, _, _ in self.pins)
        return fixed and all(g.enters in (None, g.leaves) for g in self.program.gradients)

    def take_over(self, other: Variant) -> None:
        """The same program in other circumstances needs no plan of its own."""
        self.program, self.pins = other.program, other.pins
        self.run, self.replay, self.threads = other.run, other.replay, other.threads

    def quick(self, inputs: list[Any], owner: Compiled) -> Callable[..., Any]:
        """The runner behind its guard, made anew when the structure has changed."""
        if self._entry is None or self._version != structure.version:
            self._entry, self._version = entry(self, inputs, owner), structure.version
        return self._entry

    def plan(self, reuse_outputs: bool) -> None:
        """Make the program ready to run."""
        program, form, self._entry = self.program, self.form, None
        if program.library is NUMPY:
            self.threads = num_threads()
            replay = self.replay = Replay(program, self.threads)
            self.threads *= replay.threaded
            self.run = runner(replay, form, reuse_outputs)
        elif program.library.captures and KERNELS:
            launched = self.replay = replay_cuda.Replay(program)
            self.run = Launcher(launched, form, reuse_outputs)
        else:
            n = len(program.inputs)
            self.run = lambda *given: built(form, interpret.run(program, given[:n]))


class Compiled:
    """What `compile` returns: call it like the step. `program` is what the last call ran, `why` what prevents one."""

    def __init__(self, step: Callable[..., Any], fallback: bool, reuse_outputs: bool, rehearse: bool) -> None:
        functools.update_wrapper(self, step, updated=())
        self.step, self.fallback, self.reuse_outputs, self.rehearse = step, fallback, reuse_outputs, rehearse
        self.why: str | None = None
        self.recordings = 0
        self._variants: dict[Any, list[Variant]] = {}
        self._latest: Variant | None = None
        self._unsettled = self._misses = 0  # recordings one after the other that gave nothing
        self._lock = threading.RLock()
        self._forget()

    def _forget(self) -> None:
        """No quick way in."""
        self._quick: tuple[int, Callable[..., Any]] = (-1, self._slow)  # one object: threads may call meanwhile

    def forget(self) -> None:
        """Let go of all programs, and of the arrays that they hold: the next calls are recorded anew."""
        with self._lock:
            self._variants.clear()
            self._latest = None
            self._forget()

    def __call__(self, *args: Any, **kw: Any) -> Any:
        """The step."""
        arity, fast = self._quick
        if kw or len(args) != arity:
            return self._slow(*args, **kw)
        return fast(*args)

    def several(self, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """The results of some calls, one after the other: on a GPU in one launch, if all are of one kind."""
        return self._at_once(calls) or [
            mapped(_own, self(*args)) if self.reuse_outputs else self(*args) for args in calls
        ]

    def _at_once(self, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """The results of one launch; nothing if it cannot be."""
        if self.eager or SYNC or recorder.get() is not None or not self._lock.acquire(blocking=False):
            return []
        try:
            known, given = None, []
            for args in calls:
                inputs: list[Any] = []
                key = _key((args, {}), inputs), grad_mode.get(), training_mode.get()
                if known is None:
                    first, known = key, _fitting(self._variants.get(key, []), inputs)
                if known is None or key != first:
                    return []
                given.append((*[x.data if isinstance(x, Tensor) else x for x in inputs], *inputs))
            if known is None or not isinstance(known.run, Launcher) or not known.repeats():
                return []
            self._latest = known
            return known.run.several(given)
        except Unfit:
            return []
        finally:
            self._lock.release()

    @property
    def ungraphed(self) -> str | None:
        """Why the program of the last call is not captured in a graph, on a GPU."""
        replay = None if self._latest is None else self._latest.replay
        if isinstance(replay, replay_cuda.Replay):
            return replay.ungraphed
        far = self._latest is not None and self._latest.program.library.captures
        return "NNBACKEND_KERNELS=0 is set" if far else None

    @property
    def kernels(self) -> int | None:
        """How many kernels, or calls like that, the program of the last call takes on a GPU; None elsewhere."""
        replay = None if self._latest is None else self._latest.replay
        return replay.work.kernels if isinstance(replay, replay_cuda.Replay) else None

    @property
    def program(self) -> Program | None:
        """The program of the last call; None as long as there is none."""
        return None if self._latest is None else self._latest.program

    def __repr__(self) -> str:
        state = f"runs eagerly: {self.why}" if self.why else f"{self.recordings} recordings"
        return f"<compiled {self._name}, {state}>"

    @property
    def eager(self) -> bool:
        """Whether it has turned out that the step cannot be replayed."""
        return self.why is not None

    @property
    def _name(self) -> str:
        """That of the function, or of the class of a module."""
        return str(getattr(self.step, "__qualname__", type(self.step).__qualname__))

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy records anew what it works on."""
        return Compiled, (self.step, self.fallback, self.reuse_outputs, self.rehearse)

    def _slow(self, *args: Any, **kw: Any) -> Any:
        """Find the program for these arguments, or record one."""
        if self.eager or SYNC or recorder.get() is not None or not self._lock.acquire(blocking=False):
            return self.step(*args, **kw)  # also inside another recording, and while another thread is at work here
        try:
            inputs: list[Any] = []
            key = _key((args, kw), inputs), grad_mode.get(), training_mode.get()
            if grad_mode.get() and any(isinstance(x, Tensor) and x.requires_grad and x.node for x in inputs):
                return self.step(*args, **kw)  # a part of a larger graph, which goes on through it
            if key not in self._variants and len(self._variants) >= KINDS:
                del self._variants[next(iter(self._variants))]  # the oldest
            variants = self._variants.setdefault(key, [])
            known = _fitting(variants, inputs)
            if known is None or known.run is None:
                if not self.rehearse:
                    return self._record(self.step, args, kw, variants, inputs)
                return self._rehearse(args, kw, variants, inputs)
            if known.threads not in (0, num_threads()):
                known.plan(self.reuse_outputs)
            self._latest, self._misses = known, 0
            self._forget()
            if known.replay is not None and len(inputs) == len(args) and not kw:
                self._quick = len(args), known.quick(inputs, self)
            try:
                return known.run(*[x.data if isinstance(x, Tensor) else x for x in inputs], *inputs)
            except Unfit:
                return self._again(known, *args, **kw)
        finally:
            self._lock.release()

    def _again(self, unfit: Variant, *args: Any, **kw: Any) -> Any:
        """A check has found, before anything has changed, that the program was not made for these values."""
        for variants in self._variants.values():
            variants[:] = [v for v in variants if v.program is not unfit.program]
        self._forget()
        return self._slow(*args, **kw)

    def _record(self, step: Callable[..., Any], args: Any, kw: Any, variants: list[Variant], inputs: list[Any]) -> Any:
        """A true step that leaves a program. Two recordings must agree before one is replayed."""
        rivals = [v for v in variants if v.holds(inputs)]  # in the same circumstances, of which no two have agreed
        recording = Recording(step, args, kw, getattr(self.step, "__name__", "step"))
        self.recordings += 1
        self._misses += 1
        if self._misses > KINDS:
            return self._give_up("arguments of another shape, dtype or identity each time", recording)
        self._unsettled = 0 if recording.settled else self._unsettled + 1
        if recording.broken or self._unsettled > 3:
            return self._give_up(recording.broken or f"each call changes {structure.latest or 'a setting'}", recording)
        if not recording.settled:
            return recording.result
        new, difference = Variant(recording), ""
        for old in variants:
            difference = differing(old.program, new.program) or ("" if old.form == new.form else "the results")
            if not difference and _numbers(old) == _numbers(new):
                if old.run is None:
                    new.plan(self.reuse_outputs)
                else:
                    new.take_over(old)
                if old.run is None or old.settings != new.settings or len(variants) >= LIMIT:
                    variants.remove(old)
                variants.append(new)
                return recording.result
        if len(variants) >= LIMIT:
            variants[:] = [v for v in variants if v.settings == new.settings]
        if len(variants) >= LIMIT or len(rivals) > 1:
            return self._give_up(
                f"two recordings of the same call differ in {difference or 'their numbers'}", recording
            )
        variants.append(new)
        return recording.result

    def _rehearse(self, args: Any, kw: Any, variants: list[Variant], inputs: list[Any]) -> Any:
        """Record, put back what that has changed, and try again; a step that cannot be replayed stays done."""
        misses = self._misses
        with Undone() as undone:
            result = self._record(undone.watching(self.step), args, kw, variants, inputs)
            if self.eager:
                undone.keep()
        if not self.eager:
            result = self._slow(*args, **kw)
            self._misses = misses + 1  # all recordings of a call count as one, also with the replay that comes of them
        return result

    def _give_up(self, why: str, recording: Recording) -> Any:
        """From now on eagerly, which is what has just been done."""
        self.why = why
        self._variants.clear()
        self._forget()
        if not self.fallback:
            raise RecordingError(f"compile: expected a step that can be replayed, got {self._name} with {why}.")
        warnings.warn(f"{self._name} runs eagerly: {why} cannot be replayed.", RecordingWarning, stacklevel=_distance())
        return recording.result


def _fitting(variants: list[Variant], inputs: list[Any]) -> Variant | None:
    """A program that is ready to run in these circumstances."""
    return next((v for v in variants if v.run is not None and v.holds(inputs)), None)


def _settings(owner: Any) -> list[Any]:
    """What is fixed about a module or an optimizer: attributes, and settings of groups that are no numbers."""
    if not hasattr(owner, "param_groups"):
        return [part for item in vars(owner).items() for part in item]
    settings = [v for g in owner.param_groups for v in g.settings().values()]
    parts = [part for v in settings for part in (v if isinstance(v, tuple) else (v,))]  # a tuple is made anew each time
    return [
        *(p for g in owner.param_groups for p in g.params),
        *(part for part in parts if type(part) not in (int, float)),
    ]


def _same(a: list[Any], b: list[Any]) -> bool:
    """The same objects, or equal plain ones."""
    plain = (int, float, str)
    return len(a) == len(b) and all(
        x is y or (type(x) is type(y) and isinstance(x, plain) and x == y) for x, y in zip(a, b, strict=True)
    )


def _own(x: Any) -> Any:
    """A result that the next call does not write over."""
    if isinstance(x, Tensor):
        return x.clone()
    return backend_of(x).copy(x) if is_array(x) else x


def _distance() -> int:
    """How many calls away the user's code is from the caller of this."""
    frame, distance = sys._getframe(1), 1
    while frame.f_back is not None and (ours(frame) or frame.f_code.co_filename.startswith("<")):
        frame, distance = frame.f_back, distance + 1
    return distance


def _numbers(variant: Variant) -> list[Any]:
    """What its numbers are pinned to."""
    return [(node.op, how, value) for node, how, value in variant.pins]


def _now(node: Node, how: str, inputs: list[Any]) -> Any:
    value = inputs[node.value] if node.op == "input" else node.value._value
    return bool(value) if how == "bool" else value


class _Same:
    """An argument that is told by its identity."""

    def __init__(self, x: Any) -> None:
        self.x = x

    def __hash__(self) -> int:
        return id(self.x)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.x is self.x


def _key(x: Any, inputs: list[Any]) -> Any:
    """What a program depends on in its arguments; arrays and numbers go to `inputs`."""
    kind = type(x)
    if kind in (int, float):
        inputs.append(x)
        return kind
    if isinstance(x, Cell):
        return _Same(x)
    if isinstance(x, tuple | list):
        return (kind, *[_key(part, inputs) for part in x])
    if isinstance(x, dict):
        return (kind, *[(name, _key(part, inputs)) for name, part in x.items()])
    if is_array(x):
        raw = x.data if isinstance(x, Tensor) else x
        if not hasattr(type(raw), "__setitem__") and isinstance(x.item(), bool):
            return kind, bool(x)
        inputs.append(x)
        history = isinstance(x, Tensor) and (x.requires_grad, x.node is None)
        return kind, tuple(raw.shape), raw.dtype, history
    return (kind, x) if kind in (bool, str, bytes, type(None)) else _Same(x)
