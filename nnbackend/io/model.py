"""Models in files: `nb.save(net, "net.safetensors")`, `net = nb.load("net.safetensors")`. Nothing in a file is run.

A file is safetensors that everybody can read. Its metadata has, under "nnbackend", a JSON object with the format, the
version that wrote it and the value that `describe` has made of what was saved; without one, a file is a state dict.
"""

from __future__ import annotations

import json
import math
import os
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..backend import CPU, Device, DeviceLike, HostArray, backend_of, dtype_name, to_host
from ..backend import device as find_device
from ..cells import Cell
from ..errors import CheckpointError, DataError, DTypeError, IncompatibleCheckpointError, UnsafeFileError
from ..nn import Module
from ..recipe import is_hollow, is_tensor
from ..tape import clock
from ..tensor import Tensor
from ..version import __version__
from . import safetensors
from .build import Builder, explained, randomness, settle, stand, well_formed
from .describe import STORED, Description, sane
from .header import naming, parse
from .states import models_in, put_back

Path = str | os.PathLike[str]
FORMAT = 2  # 1 had no structure
FLOATS = {"float16", "float32", "float64"}
LEVELS, PARTS = 200, 200_000  # how deep descriptions may be nested, and how long they may be


def save(value: Any, path: Path, dtype: str | None = None) -> None:
    """Write a model to a safetensors file, for `nb.load`: whole or not at all, readable by everybody.

    `value` may also be a tensor, an encoder of `nb.data`, what has a `state_dict` (optimizers, schedules, averages,
    loaders) or is a random generator of NumPy's, a number, text, or lists, tuples and dicts of all of these.
    Tied weights are stored once; two models that share some come back apart, unless into a nest of such two. With
    `dtype` "float16" or "bfloat16" floats are rounded for the file, and are what they were after loading.
    CheckpointWriteError if the disk refuses; the old file is then untouched.
    """
    if dtype not in (None, "float16", "bfloat16"):
        raise DTypeError(f'save: expected dtype "float16", "bfloat16" or None, got {dtype!r}.')
    is_state = isinstance(value, Mapping) and not isinstance(value, Module) and len(value) > 0
    description = Description(dict(value) if is_state else value)
    arrays = description.arrays
    rounded = {name: dtype_name(x.dtype) for name, x in arrays.items() if _is_floating(x)} if dtype else {}
    described = {"format": FORMAT, "version": __version__, "value": description.text, "rounded": rounded}
    if is_state and all(isinstance(key, str) and is_tensor(x) and sane(key) == key for key, x in value.items()):
        del described["value"]
    metadata = {}
    if rounded or "value" in described:
        metadata = {"nnbackend": json.dumps(described, separators=(",", ":"))}
        _require_readable(metadata["nnbackend"], description.made, len(arrays))
    late = {name: _late(x, dtype if name in rounded else None) for name, x in arrays.items()}
    safetensors.write(path, late, {"format": "pt", **metadata})


def load(path: Path, into: Any = None, device: DeviceLike = None) -> Any:
    """What `nb.save` has written, on `device` (by default the CPU); the tensors of other safetensors files as a dict.

    Only layers of nnbackend and classes that were registered with `nb.register` are built. With `into=net` the file's
    weights are put into a model of yours, which is returned: one of any class, on any device. In the same way a dict
    (or list) of models, optimizers and so on gets back what one like it was saved with, and new plain values.
    CorruptCheckpointError for damaged files, UnsafeFileError for pickles and files built to deceive,
    IncompatibleCheckpointError lists what is missing, unexpected or of another shape. After an error all is as it was.
    """
    with naming(path), safetensors.File(path) as file:
        content = Content(file)
        if into is not None:
            if not isinstance(into, Module):
                return content.put_into_all(into)
            content.put_into(into)
            return into if device is None else into.to(device)
        return content.value(find_device("cpu" if device is None else device))


def weights(path: Path, device: DeviceLike = "cpu") -> Mapping[str, Tensor]:
    """The tensors in a safetensors file by name, each read (and checked) when it is asked for.

    On the CPU they are read-only views of the file, which is mapped into memory. For files larger than memory, and for
    `net.load_state_dict(nb.weights(path), strict=False)`. Errors as in `nb.load`.
    """
    with naming(path):
        file = safetensors.File(path)
        try:
            found = Weights(Content(file), find_device(device))
        except BaseException:
            file.close()
            raise
        weakref.finalize(found, file.close)
        return found


class Content:
    """What a file says of itself. IncompatibleCheckpointError for a newer format."""

    def __init__(self, file: safetensors.File) -> None:
        self.file = file
        text = file.metadata.get("nnbackend")
        self.text = {} if text is None else parse(text.encode(), LEVELS, "a description in JSON", PARTS)
        written, rounded = self.text.get("format", 1 if text is None else None), self.text.get("rounded", {})
        if type(written) is not int or written < 1:
            raise UnsafeFileError(f"expected the number of a format, got {written!s:.20}. Do not trust it.")
        if written > FORMAT:
            raise IncompatibleCheckpointError(
                f"expected a file of format {FORMAT} at most, got one written by format {written!s:.20}. "
                "Upgrade nnbackend."
            )
        if not isinstance(rounded, dict) or not FLOATS.issuperset(map(str, rounded.values())):
            raise UnsafeFileError(f"expected dtypes of rounded tensors, got {rounded!s:.80}. Do not trust it.")
        self.rounded: Mapping[str, str] = rounded

    def host(self, name: str) -> HostArray:
        """An array that is nobody else's."""
        return self._wide(name, self.file.load(name))

    def seen(self, name: str) -> HostArray:
        """An array that is the file's, read-only."""
        return self._wide(name, self.file[name])

    def _wide(self, name: str, array: HostArray) -> HostArray:
        wanted = self.rounded.get(name, "float32" if array.dtype.name == "bfloat16" else None)
        return array if wanted is None else array.astype(dtype_name(wanted))

    def value(self, place: Device) -> Any:
        """All of it, on a device."""
        value, fill = self.decoded(place)
        fill()
        return value

    def decoded(
        self, place: Device, given: Mapping[str, Module] | None = None, views: str = ""
    ) -> tuple[Any, Callable[[], None]]:
        """All of it, with models that get their weights when the function is called that comes second.

        Models that are `given` stand for those at these places in the value; they stay on their devices, and nothing
        changes before that call, which does not fail. Tensors with names that begin with `views` stay the file's.
        """
        if "value" not in self.text:
            return {name: Tensor(_put(self.host(name), place)) for name in self.file}, lambda: None
        used: set[str] = set()

        def fetch(name: str) -> Tensor:
            if name not in self.file or name in used:
                got = "it twice" if name in used else "none"
                raise UnsafeFileError(f"expected a tensor {name!r:.80} in the file once, got {got}. Do not trust it.")
            used.add(name)
            if views and name.startswith(views):
                return Tensor(self.seen(name))
            return Tensor(_put(self.host(name), place))

        largest = max((math.prod(self.file.shape(name)) for name in self.file), default=0)
        builder = Builder(_limit(len(self.file)), largest, fetch, given or {})
        with explained("the file"):
            value = builder.value(self.text["value"])
            homes = [(self._homes(module, text, at), module, text, at) for module, text, at in builder.modules]
            self._check([pair for cells, *_ in homes for pair in cells], used)
        sound = {name: self.seen(name) for cells, _, _, at in homes if at in builder.given for name, _ in cells}

        def fill() -> None:
            for cells, module, text, at in homes:
                for name, cell in cells:
                    if at in builder.given:
                        cell.assign(cell.device.put(sound[name]))
                    else:
                        cell.rehome(_put(self.host(name), place))
                        cell.written = clock()
                if at in builder.given:
                    settle(module, text)
                else:
                    _own(module, {id(cell) for _, cell in cells}, place)
                stand(module, text)

        return value, fill

    def _homes(self, module: Module, text: Mapping[str, Any], at: str) -> list[tuple[str, Cell]]:
        """The cells of a module that has just been built, with the names of what belongs there in the file."""
        renamed, found, seen = text.get("renamed", {}), [], set()
        stored, extra = module._stored(), set(text.get("extra", ()))
        for name, cell in {**stored, **dict(module._named_cells(Cell))}.items():
            if id(cell) not in seen and (name in stored or name in extra or is_hollow(cell.array)):
                seen.add(id(cell))
                found.append((renamed.get(name, f"{at}.{name}" if at else name), cell))
        return found

    def _check(self, cells: list[tuple[str, Cell]], used: set[str]) -> None:
        """IncompatibleCheckpointError unless there is exactly one fitting array for each."""
        wanted, there = [name for name, _ in cells], [(name, cell) for name, cell in cells if name in self.file]
        known = {*wanted, *used}
        faults = {
            "missing": [name for name in wanted if name not in self.file],
            "wanted twice": [name for name, n in Counter(wanted).items() if n > 1],
            "unexpected": [name for name in self.file if name not in known],
            "mis-shaped": [
                f"{name} (expected {cell.shape}, got {self.file.shape(name)})"
                for name, cell in there
                if self.file.shape(name) != cell.shape
            ],
            "of another kind": [
                f"{name} (expected {dtype_name(cell.dtype)}, got {self.file.kind(name)})"
                for name, cell in there
                if _sort(self.file.kind(name)) != _sort(STORED[dtype_name(cell.dtype)])
            ],
        }
        if text := "; ".join(f"{what}: {', '.join(names)}" for what, names in faults.items() if names):
            raise IncompatibleCheckpointError(f"expected the tensors of the model, got {text}.")

    def put_into(self, module: Module) -> None:
        """The weights of the only model, and where its random layers stand."""
        text, found = self.only_module(), Weights(self, CPU)
        extra = {name: found[name] for name in text.get("extra", ()) if name in found}
        module.load_state_dict({name: found[name] for name in found if name not in extra})
        for name, cell in module._named_cells(Cell):
            if name in extra and cell.shape == extra[name].shape:
                cell.assign(extra[name].to(cell.device))
        randomness(module, text)

    def put_into_all(self, into: Any) -> Any:
        """What models and other objects in a nest of values remember; returns the nest with the file's plain values."""
        value, fill = self.decoded(CPU, models_in(into))
        result, undo = put_back(into, value)
        try:
            fill()
        except BaseException:
            undo()
            raise
        return result

    def modules(self) -> list[dict[str, Any]]:
        """The descriptions of all models in the file."""
        found = list(_modules(self.text.get("value")))
        for text in found:
            well_formed(text["module"])
        return found

    def only_module(self) -> dict[str, Any]:
        """The description of the only model in the file, or nothing for a state dict."""
        found = self.modules()
        if "value" in self.text and (len(found) != 1 or found[0]["at"]):
            raise IncompatibleCheckpointError(
                f"expected a file with one model, got a {_what(self.text['value'])} with {len(found)}. "
                "Load it without into=, or into={...} with the models at their places."
            )
        return found[0]["module"] if found else {}


class Weights(Mapping[str, Tensor]):
    """The tensors of a file by name; tied ones under all of their names."""

    def __init__(self, content: Content, place: Device) -> None:
        self._content, self._place, self._names = content, place, {name: name for name in content.file}
        for found in content.modules():
            at = f"{found['at']}." if found["at"] else ""
            renamed = {at + name: kept for name, kept in found["module"].get("renamed", {}).items()}
            tied = {at + name: at + first for name, first in found["module"].get("tied", {}).items()}
            self._names |= {name: renamed.get(first, first) for name, first in tied.items()}
        if lost := [name for name, kept in self._names.items() if kept not in content.file]:
            raise UnsafeFileError(f"expected the tensors of the model, got none for {lost[0]!r:.80}. Do not trust it.")

    def __getitem__(self, name: str) -> Tensor:
        host = self._content.seen(self._names[name])
        return Tensor(host if self._place == CPU else self._place.put(host))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _late(array: Any, dtype: str | None) -> safetensors.Late:
    """An array, to be brought to the host when it is written."""
    kind = STORED[dtype or dtype_name(array.dtype)]
    return safetensors.Late(tuple(array.shape), kind, lambda: to_host(array))


def _limit(tensors: int) -> int:
    """How many layers and tensors a file with so many tensors may make."""
    return 5_000 + 8 * tensors


def _require_readable(text: str, made: int, tensors: int) -> None:
    """DataError unless `load` takes a description."""
    try:
        parse(text.encode(), LEVELS, "a description in JSON", PARTS)
    except CheckpointError as error:
        raise DataError(f"save: {error} Flatten the value, or keep long lists as arrays.") from None
    if made > (limit := _limit(tensors)):
        raise DataError(f"save: expected at most {limit} layers and tensors, got {made}. Save fewer in one file.")


def _sort(kind: str) -> str:
    """Whether these are floating-point numbers, integers with or without a sign, or booleans."""
    return "F" if "F" in kind else kind[0]


def _is_floating(array: Any) -> bool:
    return dtype_name(array.dtype).startswith(("float", "bfloat"))


def _put(host: HostArray, place: Device) -> Any:
    """An array that is nobody else's, on a device."""
    return host if place == CPU else place.put(host)


def _own(module: Module, filled: set[int], place: Device) -> None:
    """What no file holds becomes the module's own, and all is on one device."""
    for _, cell in module._named_cells(Cell):
        if id(cell) not in filled:  # it may still be somebody's constant
            cell.rehome(backend_of(cell.array).copy(cell.array))
    module.to(device=place)


def _modules(text: Any) -> Iterator[dict[str, Any]]:
    """The descriptions of modules in a value; of those inside of modules, the outermost."""
    match text:
        case list(parts) | {"tuple": list(parts)} | {"pairs": list(parts)}:
            for part in parts:
                yield from _modules(part)
        case {"dict": dict(named)}:
            for part in named.values():
                yield from _modules(part)
        case {"module": dict(), "at": str()}:
            yield text


def _what(text: Any) -> str:
    return next(iter(text)) if isinstance(text, dict) else type(text).__name__
