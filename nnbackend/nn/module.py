"""Module: a layer, or layers put together. PyTorch's names and semantics."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from ..backend import FLOATING, DeviceLike, dtype_name, is_array
from ..backend import device as find_device
from ..cells import Buffer, Cell, Parameter, Scalar, clear_gradients, structure
from ..creation import asarray
from ..creation import tensor as copied
from ..errors import DTypeError, IncompatibleCheckpointError, NNBackendError
from ..random import generator, key_of, site_of
from ..recipe import Remembers
from ..recorder import recorder
from ..tape import TENSORS
from ..tensor import Tensor
from ..training_mode import mode as training_mode

Self = TypeVar("Self", bound="Module")


class LoadResult(NamedTuple):
    """What `load_state_dict(strict=False)` left out."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module(Remembers):
    """Base of all layers. Parameters, buffers and layers set as attributes are found by themselves.

    Write `forward`; call the module. Everything that changes from step to step belongs in a `Parameter`, a buffer or a
    `Scalar`: plain attributes are structure, and a recorded step is recorded anew when one changes.
    """

    path = ""  # dotted, from the outermost module that has taken this one in
    whole_inputs = False  # does it take whole numbers, such as the rows of a table?
    _training = True

    def __init__(self) -> None:
        super().__init__()  # of other bases

    def forward(self, *args: Any, **kw: Any) -> Any:
        """What the layer computes."""
        raise TypeError(f"{type(self).__name__}: expected a forward method in the class.")

    def __call__(self, *args: Any, **kw: Any) -> Any:
        """Run `forward`. The result is a Tensor, for plain arrays too; an error says which layer it comes from."""
        r = recorder.get()
        try:
            if r is None:
                y = self.forward(*args, **kw)
            else:
                with r.scope(self):
                    y = self.forward(*args, **kw)
                    r.called(self, (args, kw), y)
            return y if y.__class__ in TENSORS or not is_array(y) else Tensor(y)
        except NNBackendError as error:
            self._locate(error)
            raise
        except MemoryError as error:
            if not hasattr(error, "__notes__"):
                error.add_note(f"in {self.path or 'the model'} = {self._line()}")
            raise

    def _locate(self, error: NNBackendError) -> None:
        """Name the innermost module that failed by its path from here; outer calls find a longer path."""
        if error.module is None:
            error.module = self
        name = next((n for n, m in self.named_modules() if m is error.module), "")
        error.layer = f"{name} = {error.module._line()}" if name else error.module._line()

    # -- attributes
    def __setattr__(self, name: str, value: Any) -> None:
        if name == "training":  # a property, which tells of a change itself
            object.__setattr__(self, name, value)
            return
        old = self.__dict__.get(name, self)
        if old is value:
            return
        place = f"{self.path}.{name}" if self.path else name
        if isinstance(getattr(value, "__wrapped__", None), Module):  # its parameters would be lost
            raise TypeError(f"{place}: expected a module, got a function around one. Wrap its call: f(self.{name})(x).")
        if isinstance(value, Cell):
            value.name = value.name or place
        elif isinstance(value, Module):
            if not value.path or all(value is not other for other in self.__dict__.values()):
                value._adopt(place)
        elif isinstance(old, Cell) and value is not None:
            if not is_array(value):
                raise TypeError(f"{place}: expected a tensor or None, got {type(value).__name__}.")
            old.assign(value)
            return
        elif isinstance(old, Scalar) and isinstance(value, int | float):
            old.value = value
            return
        object.__setattr__(self, name, value)
        structure.changed(place)

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        structure.changed()

    def _adopt(self, path: str) -> None:
        """Live at `path` from now on, with all that is below."""
        for name, module in self.named_modules(path):
            module.__dict__["path"] = name
        for name, cell in _first(self._named_cells(Cell, f"{path}.")):
            cell.name = name

    def _children(self) -> dict[str, Module]:
        return {name: value for name, value in self.__dict__.items() if isinstance(value, Module)}

    def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:
        """State that is not trained, such as running means; in the state dict if `persistent`."""
        self._set(name, None if tensor is None else Buffer(copied(tensor), persistent=persistent), Buffer)

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """The same as setting the attribute, for names that are made up in a program. KeyError for a bad name."""
        self._set(name, param, Parameter)

    def add_module(self, name: str, module: Module | None) -> None:
        """The same as setting the attribute, for names that are made up in a program. KeyError for a bad name."""
        self._set(name, module, Module)

    register_module = add_module

    def _set(self, name: str, value: Any, kind: type) -> None:
        what = type(self).__name__
        if not isinstance(name, str) or not (value is None or isinstance(value, kind)):
            got = f"{type(name).__name__} and {type(value).__name__}"
            raise TypeError(f"{what}: expected a name and a {kind.__name__} or None, got {got}.")
        taken = getattr(self, name, None)
        if not name or "." in name or not (taken is None or isinstance(taken, kind)):
            raise KeyError(f"{what}: expected a name without a dot that is not taken, got {name!r}.")
        if isinstance(taken, Module | Cell):
            delattr(self, name)
        setattr(self, name, value)

    # -- walking
    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """Every module from this one down with its path, each once."""
        seen: set[int] = set()
        stack: list[tuple[str, Module]] = [(prefix, self)]
        while stack:
            name, module = stack.pop()
            if id(module) not in seen:
                seen.add(id(module))
                yield name, module
                below = [(f"{name}.{n}" if name else n, m) for n, m in module._children().items()]
                stack.extend(reversed(below))

    def modules(self) -> Iterator[Module]:
        """Every module from this one down."""
        return (module for _, module in self.named_modules())

    def children(self) -> Iterator[Module]:
        """The modules directly below."""
        return iter(self._children().values())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly below with their names."""
        return iter(self._children().items())

    def get_submodule(self, target: str) -> Module:
        """The module at a dotted path from here; this one at "". AttributeError if there is none."""
        return self._at(target, Module) if target else self

    def get_parameter(self, target: str) -> Parameter:
        """The parameter at a dotted path from here. AttributeError if there is none."""
        return self._at(target, Parameter)  # type: ignore[no-any-return]

    def get_buffer(self, target: str) -> Buffer:
        """The buffer at a dotted path from here. AttributeError if there is none."""
        return self._at(target, Buffer)  # type: ignore[no-any-return]

    def _at(self, target: str, kind: type) -> Any:
        *path, last = target.split(".")
        found: Any = self
        for name, wanted in (*((name, Module) for name in path), (last, kind)):
            found = found.__dict__.get(name)
            if not isinstance(found, wanted):
                raise AttributeError(f"{type(self).__name__}: expected a {kind.__name__} at {target!r}, got none.")
        return found

    def apply(self: Self, fn: Callable[[Module], Any]) -> Self:
        """Call `fn` on every module from the innermost up to this one."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    def _named_cells(self, kind: type[Cell], prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Any]]:
        for attribute, value in self.__dict__.items():
            if isinstance(value, kind):
                yield f"{prefix}{attribute}", value
        for attribute, child in self._children().items() if recurse else ():
            yield from child._named_cells(kind, f"{prefix}{attribute}.")

    def named_parameters(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Parameter]]:
        """Parameters with their paths, a tied one once, by its first; of this module alone unless `recurse`."""
        return _first(self._named_cells(Parameter, f"{prefix}." if prefix else "", recurse))

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """All parameters, a tied one once."""
        return (p for _, p in self.named_parameters(recurse=recurse))

    def named_buffers(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Buffer]]:
        """Buffers with their paths; of this module alone unless `recurse`."""
        return _first(self._named_cells(Buffer, f"{prefix}." if prefix else "", recurse))

    def buffers(self, recurse: bool = True) -> Iterator[Buffer]:
        """All buffers."""
        return (b for _, b in self.named_buffers(recurse=recurse))

    # -- modes
    @property
    def training(self) -> bool:
        """Dropout and batch norm behave differently in training."""
        r = recorder.get()
        if r is not None:
            r.watch(self)
        override = training_mode.get()
        return self._training if override is None else override

    @training.setter
    def training(self, mode: bool) -> None:
        if self._training != mode:
            self.__dict__["_training"] = bool(mode)
            structure.changed(f"{self.path}.training", mode=True)

    def train(self: Self, mode: bool = True) -> Self:
        """Training behaviour, for all modules below too."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self: Self) -> Self:
        """Behaviour for use, for all modules below too."""
        return self.train(False)

    def requires_grad_(self: Self, mode: bool = True) -> Self:
        """Freeze or thaw all parameters."""
        for p in self.parameters():
            p.requires_grad_(mode)
        structure.changed()
        return self

    def zero_grad(self) -> None:
        """Forget all gradients."""
        clear_gradients(self.parameters())

    # -- values
    def init(self: Self, seed: int, only_fresh: bool = False) -> Self:
        """Draw all parameters again, each from (seed, path): one seed is one set of weights, on every device.

        Random layers such as dropout start over, too. `only_fresh` spares parameters that were loaded, assigned or
        trained.
        """
        key = key_of(seed)
        for name, p in self.named_parameters():
            if not only_fresh or p.fresh:
                p.draw(generator(key, site_of(name)))
        for module in self.modules():
            module.start_over(key, only_fresh)
        return self

    def start_over(self, key: int, only_fresh: bool = False) -> None:
        """For `init`: begin again with what the layer keeps beside its parameters, such as running statistics."""

    def to(self: Self, *targets: Any, device: DeviceLike = None, dtype: Any = None) -> Self:
        """Move in place: `net.to("cuda")`, `net.to("float64")`, `net.to(device="cpu", dtype="float32")`."""
        for target in targets:
            try:
                device = find_device(target)
            except ValueError:
                dtype = target
        place = None if device is None else find_device(device)
        if dtype is not None and not dtype_name(dtype).startswith("float"):
            raise DTypeError(f"to: expected a floating dtype, got {dtype!r}.")
        for _, cell in _first(self._named_cells(Cell)):
            cell.move(place, dtype)
        return self

    def float(self: Self) -> Self:
        """Parameters and buffers in float32."""
        return self.to(dtype="float32")

    def double(self: Self) -> Self:
        """Parameters and buffers in float64."""
        return self.to(dtype="float64")

    def half(self: Self) -> Self:
        """Parameters and buffers in float16."""
        return self.to(dtype="float16")

    def cpu(self: Self) -> Self:
        """Move to the CPU."""
        return self.to(device="cpu")

    def cuda(self: Self) -> Self:
        """Move to the GPU."""
        return self.to(device="cuda")

    def state_dict(self) -> dict[str, Tensor]:
        """Copies of parameters and persistent buffers by path, as in PyTorch; a tied one under each of its paths."""
        return {name: Tensor(cell.data).clone() for name, cell in self._stored().items()}

    def _stored(self) -> dict[str, Cell]:
        own: dict[str, Cell] = {n: c for n, c in self.__dict__.items() if isinstance(c, Parameter)}
        own.update((n, c) for n, c in self.__dict__.items() if isinstance(c, Buffer) and c.persistent)
        for name, child in self._children().items():
            own.update((f"{name}.{n}", c) for n, c in child._stored().items())
        return own

    def load_state_dict(self, state: Mapping[str, Any] | Module, strict: bool = True) -> LoadResult:
        """Copy values, or another model's, into place. All that is missing, unexpected or mis-shaped is listed at once.

        Nothing has changed then. A state of float64 alone makes the model float64.
        """
        cells = self._stored()
        given = state.state_dict() if isinstance(state, Module) else state
        values = {name: asarray(value) for name, value in given.items()}
        missing = [name for name in cells if name not in values]
        unexpected = [name for name in values if name not in cells]
        shaped = [
            f"{name} (expected {cells[name].shape}, got {value.shape})"
            for name, value in values.items()
            if name in cells and cells[name].shape != value.shape
        ]
        faults = [f"mis-shaped: {', '.join(shaped)}"] if shaped else []
        if strict:
            faults += [f"{kind}: {', '.join(n)}" for kind, n in (("missing", missing), ("unexpected", unexpected)) if n]
        if faults:
            raise IncompatibleCheckpointError(
                f"load_state_dict: expected the keys and shapes of this model, got {'; '.join(faults)}."
            )
        ready = {name: values[name].to(cell.device) for name, cell in cells.items() if name in values}
        widths = {value.dtype for value in ready.values() if value.dtype in FLOATING}
        if len(widths) == 1 and (width := widths.pop()).itemsize == 8:
            self.to(dtype=width)
        for name, value in ready.items():
            cells[name].assign(value)
        return LoadResult(missing, unexpected)

    # -- for people
    def extra_repr(self) -> str:
        """The settings of the layer, for its line in the printed model: the constructor's arguments but defaults."""
        words = []
        for name, argument in inspect.signature(type(self)).parameters.items():
            default = argument.default
            value = self.__dict__.get(name, default)
            if isinstance(default, bool) and not isinstance(value, bool):
                value = value is not None  # `bias=True` becomes a parameter or None
            if isinstance(value, Tensor):
                value = tuple(value.shape)
            everywhere = isinstance(value, tuple) and value == (default,) * len(value)  # for each axis
            if value is argument.empty or value == default or everywhere:
                continue
            words.append(repr(value) if default is argument.empty else f"{name}={value!r}")
        return ", ".join(words)

    def _line(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"

    def __repr__(self) -> str:
        children = self._children()
        if not children:
            return self._line()
        lines = (f"  ({name}): {child!r}".replace("\n", "\n  ") for name, child in children.items())
        return f"{type(self).__name__}(\n" + "\n".join(lines) + "\n)"


def _first(cells: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Each cell once, under its first name."""
    seen: set[int] = set()
    for name, cell in cells:
        if id(cell) not in seen:
            seen.add(id(cell))
            yield name, cell


__all__ = ["Module"]
