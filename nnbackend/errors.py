"""Every error the library raises on purpose. Each is also the built-in that a user would catch.

Messages follow one pattern: `<layer or place>: expected <what>, got <what>. <one fix>`.
"""

from __future__ import annotations

from typing import Any


class NNBackendError(Exception):
    """Base of all errors here. A module call that lets one pass fills in `layer`, the failing layer's path."""

    layer: str = ""
    module: Any = None  # the innermost module that was running; its path is found by the calls around it

    def __str__(self) -> str:
        text = super().__str__()
        return f"{self.layer}: {text}" if self.layer else text

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args, {k: v for k, v in self.__dict__.items() if k != "module"}


class ShapeError(NNBackendError, ValueError):
    """Shapes that do not fit together."""


class DTypeError(NNBackendError, TypeError):
    """A dtype that is not supported, or two that must not be mixed."""


class LabelError(NNBackendError, ValueError):
    """Class labels outside the range of the classes, or of the wrong kind."""

    classes: int | None = None  # how many there are, if labels are outside
    ignore_index: int | None = None  # the one that is left out


class DataError(NNBackendError, ValueError):
    """Data that cannot be used as it is. `row` and `column` say where, when that is known."""

    row: int | None = None
    column: int | str | None = None

    def __init__(self, message: str, *, row: int | None = None, column: int | str | None = None) -> None:
        super().__init__(message)
        self.row, self.column = row, column


class NonFiniteError(NNBackendError, ArithmeticError):
    """NaN or infinity where training needs numbers. `step` counts from the start of training.

    If `fit` has found the operation `op` that made the first: `layer`, `way` (forward, backward, or data that came so),
    the user's `line`, the `rows` of the batch, and the `data_rows` where the data is in arrays.
    """

    step: int | None = None
    expected = op = way = line = ""
    rows: tuple[int, ...] = ()
    data_rows: tuple[int, ...] = ()

    def __str__(self) -> str:
        return Exception.__str__(self) if self.op else super().__str__()  # which then names the layer


class NotFittedError(NNBackendError, ValueError, AttributeError):
    """Something was used before it was fitted."""


class DeviceError(NNBackendError, RuntimeError):
    """A device that cannot do what was asked."""


class DeviceMismatchError(DeviceError):
    """Arrays on different devices met in one operation."""


class DeviceUnavailableError(DeviceError):
    """The device asked for cannot be used; `reason` is the diagnosis alone."""

    reason: str = ""


class GraphError(NNBackendError, RuntimeError):
    """The graph of gradients cannot answer what was asked of it."""


class InplaceError(GraphError):
    """A value was changed in place after a graph had used it."""


class RecordingError(NNBackendError, RuntimeError):
    """A step that cannot be recorded and replayed, where that was asked for."""


class RecordingWarning(UserWarning):
    """A compiled step runs eagerly; the message says why."""


class LintWarning(UserWarning):
    """Something about a fit that is probably a mistake; the message begins with the code of docs/lint.md."""


class CheckpointError(NNBackendError, ValueError):
    """A file of weights that cannot be loaded."""


class CorruptCheckpointError(CheckpointError):
    """Truncated, damaged, or not a file of weights at all."""


class UnsafeFileError(CheckpointError):
    """A file that could run code, or that is built to deceive a reader."""


class IncompatibleCheckpointError(CheckpointError):
    """A sound file that does not fit this model or this version."""


class CheckpointWriteError(NNBackendError, OSError):
    """A file of weights could not be written; the old one, if there was one, is untouched."""
