"""A trainer as a value that a file can hold, and back: what a checkpoint is made of."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from .. import crash
from ..backend import CPU, NUMPY, dtype_name
from ..cells import Parameter
from ..errors import CheckpointError, IncompatibleCheckpointError
from ..io import safetensors
from ..io.build import Builder, explained
from ..io.describe import CannotBeBuilt, plain
from ..io.header import Path, naming
from ..io.model import Content
from ..nn import Module
from ..recipe import light
from ..tensor import Tensor
from ..version import __version__
from .history import History, Row
from .interrupts import Interrupts

KIND = "nnbackend checkpoint"
OPTIONS = ("loss_weights", "clip_norm", "clip_value")  # that few trainers have
PARTS = ("loss", "metrics", "optimizer", "schedule")  # what a trainer is made of, besides the net


# -- from a trainer --------------------------------------------------------------------------------------------------


def configuration(trainer: Any) -> dict[str, Any]:
    """What a trainer was made of, as far as a file can say."""
    names = _names(trainer)
    return {
        "net": repr(trainer.net).splitlines(),
        "dtype": dtype_name(trainer.dtype),
        "loss": _said(trainer.loss),
        "metrics": _said(trainer.asked["metrics"]),
        "optimizer": _said(trainer.optimizer),
        "groups": [[names[id(p)] for p in group.params] for group in trainer.optimizer.param_groups],
        "schedule": _said(trainer.schedule),
        "schedule_every": trainer.schedule_every,
        "seed": trainer.seed,
        **{name: _said(trainer.asked[name]) for name in OPTIONS if trainer.asked[name] is not None},
    }


def snapshot(trainer: Any, fit: dict[str, Any] | None) -> dict[str, Any]:
    """All that a trainer is between two steps; `fit` is how far it has come with the data."""
    names = list(_names(trainer).values())
    state = trainer.optimizer.state_dict(copy=False)
    return {
        "kind": KIND,
        "versions": {
            "nnbackend": __version__, "numpy": NUMPY.xp.__version__, "python": platform.python_version(),
        },
        "configuration": configuration(trainer),
        "net": trainer.net,
        "loss": trainer.loss if isinstance(trainer.loss, Module) else None,
        "optimizer": {
            "state": {names[i]: entry for i, entry in state["state"].items()},
            "groups": [{k: v for k, v in group.items() if k != "params"} for group in state["param_groups"]],
        },
        "others": _others(trainer),
        "gradients": {name: p.grad for name, p in _keeping(trainer).items() if p.grad is not None},
        "schedule": None if trainer.schedule is None else trainer.schedule.state_dict(),
        "steps": trainer.steps,
        "history": _columns(trainer.history),
        "fit": fit,
    }  # fmt: skip


def _names(trainer: Any) -> dict[int, str]:
    """The optimizer's parameters by identity, in its order, with their names in the net."""
    known = {id(p): name for name, p in trainer.net.named_parameters()}
    params = [p for group in trainer.optimizer.param_groups for p in group.params]
    return {id(p): known.get(id(p), f"#{i}") for i, p in enumerate(params)}


def _others(trainer: Any) -> dict[str, Parameter]:
    """The optimizer's parameters that are not the net's."""
    names = _names(trainer)
    params = [p for group in trainer.optimizer.param_groups for p in group.params]
    return {names[id(p)]: p for p in params if names[id(p)].startswith("#")}


def _keeping(trainer: Any) -> dict[str, Parameter]:
    """The parameters whose gradients may be of use to the next step: those of a trainer with steps of its own."""
    return dict(trainer.net.named_parameters()) if trainer._own() else {}


def _said(x: Any) -> Any:
    """What makes a part of a trainer again, or why a file cannot say it."""
    try:
        return plain(light(x))
    except CannotBeBuilt as error:
        return {"unknown": str(error)}


def _columns(history: History) -> dict[str, Any]:
    """The table by columns: the numbers of the rows that have a value, and the values."""
    xp = NUMPY.xp
    columns = {}
    for name in history.columns:
        rows = [i for i, row in enumerate(history.rows) if name in row]
        values: Any = [history.rows[i][name] for i in rows]
        kinds = {type(value) for value in values}
        if kinds in ({int}, {float}):  # what callbacks have put there may be anything
            with suppress(OverflowError):
                values = xp.asarray(values, dtype="int64" if kinds == {int} else "float64")
        columns[name] = {"rows": xp.asarray(rows, dtype="int64"), "values": values}
    return {"length": len(history), "columns": columns}


# -- and back --------------------------------------------------------------------------------------------------------


def restore(
    trainer: Any, path: Path, override: bool = False, differs: Callable[[Any], dict[str, str]] | None = None
) -> dict[str, Any] | None:
    """Put a trainer where the file says; returns how far it had come with the data, if `differs` finds them the same.

    IncompatibleCheckpointError lists what is different, unless it is overridden. After an error nothing has changed.
    """
    with naming(path), safetensors.File(path) as file:
        given = {"net": trainer.net, **({"loss": trainer.loss} if isinstance(trainer.loss, Module) else {})}
        content, now = checked(Content(file)), configuration(trainer)
        with explained("the checkpoint"):
            then = Builder().value(content.text["value"]["dict"]["configuration"])
            found = differences(then, now)
            if "net" not in found or override:  # else the weights may not even fit
                state, fill = content.decoded(CPU, given, views="optimizer.")
                found |= differs(state["fit"]) if differs is not None and state["fit"] is not None else {}
        if found and not override:
            raise IncompatibleCheckpointError(refusal(found))
        optimizer, before = trainer.optimizer, trainer.optimizer.state_dict(copy=False)  # loading makes new arrays
        schedule, moved = trainer.schedule, None if trainer.schedule is None else trainer.schedule.state_dict()
        changed = found.keys() & {"optimizer", "schedule"}  # the settings asked for win, and states stay
        try:
            with explained("the checkpoint"):
                others = {p: _fitting(state["others"][name], p) for name, p in _others(trainer).items()}
                gradients = {p: _fitting(state["gradients"].get(name), p) for name, p in _keeping(trainer).items()}
                history, steps, fit = _history(state["history"]), state["steps"], state["fit"]
                if schedule is not None and _class(then["schedule"]) == _class(now["schedule"]):
                    bases = {"base_lrs": schedule.base_lrs} if changed else {}
                    schedule.load_state_dict({**state["schedule"], **bases})
                if _class(then["optimizer"]) == _class(now["optimizer"]):
                    saved = _numbered(trainer, state["optimizer"])  # after the schedule: what was set by hand stays
                    groups = {"param_groups": optimizer.state_dict(copy=False)["param_groups"]} if changed else {}
                    optimizer.load_state_dict({**saved, **groups})
            crash.point("resume.before")
        except BaseException:
            if schedule is not None:
                schedule.load_state_dict(moved)
            optimizer.load_state_dict(before)
            raise
        with Interrupts() as signals:
            fill()
            for p, value in others.items():
                p.assign(value)
            for p, gradient in gradients.items():
                p.grad = gradient
            trainer.history.rows[:] = history
            trainer.steps = steps
    signals.pass_on()
    crash.point("resume.after")
    return fit  # type: ignore[no-any-return]


@explained("the checkpoint")
def rebuilt(content: Content, given: Mapping[str, Any]) -> tuple[Module, dict[str, Any]]:
    """The net and the arguments of a trainer like the one in the file; those that are given need not be in it.

    IncompatibleCheckpointError names all that must be given.
    """
    texts = checked(content).text["value"]["dict"]
    parts = Builder().value(texts["configuration"])
    reasons = {"net": texts["net"]["module"].get("weights_only")}
    reasons |= {name: parts[name]["unknown"] for name in PARTS if _unknown(parts[name])}
    if any(name.startswith("#") for names in parts["groups"] for name in names):
        reasons["optimizer"] = "it has parameters that are not the net's"
    if wanted := [f"{name}= ({why})" for name, why in reasons.items() if why is not None and name not in given]:
        raise IncompatibleCheckpointError(f"expected what files cannot hold to be given: {', '.join(wanted)}.")
    at = {name: given[name] for name in ("net", "loss") if isinstance(given.get(name), Module)}
    state, fill = content.decoded(CPU, at, views="optimizer.")
    net = state["net"]
    if "net" not in given:
        fill()
    arguments = {name: given[name] for name in PARTS if name in given}
    builder = Builder()
    if "loss" not in given:
        arguments["loss"] = builder.value(parts["loss"]) if state["loss"] is None else state["loss"]
    if "metrics" not in given:
        arguments["metrics"] = builder.value(parts["metrics"])
    if "optimizer" not in given:
        cells = dict(net.named_parameters())
        groups = [{"params": [cells[name] for name in names]} for names in parts["groups"]]
        arguments["optimizer"] = builder.value(parts["optimizer"]).bind(groups)
    if "schedule" not in given and parts["schedule"] is not None:
        arguments["schedule"] = lambda optimizer: Builder(optimizer=optimizer).value(parts["schedule"])
    every = "epoch" if parts["schedule_every"] == "report" else parts["schedule_every"]
    options = {name: builder.value(parts[name]) for name in OPTIONS if name in parts}
    return net, {**arguments, **options, "schedule_every": every, "seed": parts["seed"]}


def kept(path: Path) -> dict[str, Any] | None:
    """What the `Checkpoints` that wrote this file remembered, if it is there and sound."""
    with suppress(CheckpointError, OSError), safetensors.File(path) as file, explained("the checkpoint"):
        state = Builder().value(checked(Content(file)).text["value"]["dict"]["fit"]["dict"]["checkpoints"])
        return state if isinstance(state, dict) else None
    return None


def checked(content: Content) -> Content:
    """What is in the file. IncompatibleCheckpointError if it is not a checkpoint of a trainer."""
    value = content.text.get("value")
    parts = value.get("dict", {}) if isinstance(value, dict) else {}
    if not isinstance(parts, dict) or parts.get("kind") != KIND:
        raise IncompatibleCheckpointError("expected a checkpoint of a trainer, got another file. Use nb.load.")
    return content


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """What is not as it was, in words, by name."""
    found = {}
    for name in {**then, **now}:
        a, b = then.get(name), now.get(name)
        if a == b:
            continue
        if name == "net" and isinstance(a, list) and isinstance(b, list):
            a, b = next(
                (pair for pair in zip([*a, "nothing"], [*b, "nothing"], strict=False) if pair[0] != pair[1]), (a, b)
            )
        found[name] = f"{name} was {words(a)}, is {words(b)}"
    return found


def refusal(found: Mapping[str, str]) -> str:
    """What to say of differences."""
    return (
        f"expected the run that the checkpoint is of, got another: {'; '.join(found.values())}. "
        "Go on as before, or all the same by load_checkpoint or Trainer.resume with override=True."
    )


def words(x: Any) -> str:
    """A described value for people: `SGD(lr=0.5)`."""
    match x:
        case {"class": str(name), "arguments": dict(arguments)}:
            return f"{name.split('.')[-1]}({', '.join(f'{key}={words(part)}' for key, part in arguments.items())})"
        case {"name": str(name)}:
            return name.split(".")[-1]
        case {"unknown": str(why)}:
            return why
        case {"tuple": list(parts)}:
            return f"({', '.join(map(words, parts))})"
        case {"shape": shape, "dtype": dtype, "sha256": str(digest)}:
            return f"{dtype} {tuple(shape)} {digest[:8]}"
        case list():
            return f"[{', '.join(map(words, x))}]"
    return x.strip() if isinstance(x, str) else repr(x)


def _fitting(value: Tensor | None, p: Parameter) -> Tensor | None:
    """A value for a parameter, or for its gradient, on its device."""
    if value is not None and value.shape != p.shape:
        raise IncompatibleCheckpointError(f"expected a parameter of shape {p.shape}, got {value.shape}.")
    return None if value is None else value.to(p.device)


def _unknown(text: Any) -> bool:
    return isinstance(text, dict) and "unknown" in text


def _class(text: Any) -> Any:
    return text.get("class", text) if isinstance(text, dict) else text


def _numbered(trainer: Any, state: dict[str, Any]) -> dict[str, Any]:
    """The optimizer's state by numbers, as it wants it."""
    numbers = {name: i for i, name in enumerate(_names(trainer).values())}
    if lost := [name for name in state["state"] if name not in numbers]:
        raise IncompatibleCheckpointError(f"expected parameters of this net, got {', '.join(lost)}.")
    groups, start = [], 0
    for saved, group in zip(state["groups"], trainer.optimizer.param_groups, strict=True):
        groups.append({**saved, "params": list(range(start, start + len(group.params)))})
        start += len(group.params)
    return {"state": {numbers[name]: entry for name, entry in state["state"].items()}, "param_groups": groups}


def _history(table: dict[str, Any]) -> list[Row]:
    """The rows of a table by columns."""
    rows: list[Row] = [{} for _ in range(table["length"])]
    for name, column in table["columns"].items():
        values = column["values"]
        values = values.data.tolist() if isinstance(values, Tensor) else values
        for i, value in zip(column["rows"].data.tolist(), values, strict=True):
            rows[i][name] = value
    return rows
