"""Targets as what a loss takes, and outputs of a network as what they mean: classes, and amounts."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import functional as F
from ..backend import namespace
from ..errors import DataError, LabelError, ShapeError
from ..train.objective import LOSSES, function_of, named
from .rules import DataConversionWarning
from .scaling import Scaling

SCALED = (F.mse_loss, F.l1_loss, F.huber_loss, F.smooth_l1_loss, F.quantile_loss)  # of differences, which may be scaled
ONE_BY_ONE = (F.binary_cross_entropy_with_logits, F.multilabel_soft_margin_loss)  # their outputs are logits of labels
DISTANCE = (F.binary_cross_entropy, *SCALED)  # their outputs are probabilities
SOME = 5  # labels in a message


def labels_of(y: Any) -> Any:
    """Labels (n,), or columns of 0 and 1 (n, labels) for several a row. LabelError for what are no classes."""
    if y.ndim == 2 and y.shape[1] == 1:
        warnings.warn(
            "A column-vector y was passed when a 1d array was expected. Please change the shape of y to "
            "(n_samples,), for example using ravel().",
            DataConversionWarning,
            stacklevel=4,
        )
        y = y[:, 0]
    if y.dtype.kind == "O" and y.ndim == 1:
        kinds = {type(value) for value in y}
        if not all(issubclass(kind, str) for kind in kinds):
            if any(issubclass(kind, str | bytes) for kind in kinds) or not all(hasattr(k, "__float__") for k in kinds):
                names = ", ".join(sorted(kind.__name__ for kind in kinds))
                raise LabelError(f"Unknown label type: unknown. Expected labels of one kind in y, got {names}.")
            y = np.asarray(y.tolist())
    if y.dtype.kind not in "OUSbiuf":
        raise LabelError(f"Unknown label type: {y.dtype}. Expected text, whole numbers or bools in y.")
    if y.dtype.kind == "f" and (y != np.trunc(y)).any():
        raise LabelError(
            "Unknown label type: continuous. Maybe you are trying to fit a classifier, which expects discrete classes "
            "on a regression target with continuous values."
        )
    if y.ndim == 2 and not (y.dtype.kind in "biuf" and np.isin(y, (0, 1)).all()):
        raise LabelError("Unknown label type: multiclass-multioutput. Expected columns of 0 and 1, or one label a row.")
    return y


class Classes:
    """The classes that there are, by name: sorted labels, or the numbers of the columns of several labels a row."""

    def __init__(self, labels: Any, given: Any = None) -> None:
        self.several = labels.ndim == 2
        found = np.arange(labels.shape[1]) if self.several else np.unique(labels)
        self.names = found if given is None else np.unique(np.asarray(given))
        self.loss: Any = None  # what takes the targets, and how many outputs it has
        self.outputs = len(self.names)

    def attributes(self) -> dict[str, Any]:
        """What an estimator tells of it."""
        return {"classes_": self.names, "n_outputs_": self.outputs}

    def check(self, labels: Any, what: str) -> None:
        """LabelError unless all labels are among these."""
        if (labels.ndim == 2) != self.several or (self.several and labels.shape[1] != len(self.names)):
            raise ShapeError(f"{what}: expected y as in the first fit, got shape {labels.shape}.")
        if not self.several and (strange := np.setdiff1d(labels, self.names)).size:
            known = self.names[:SOME].tolist()
            raise LabelError(f"{what}: `y` has classes not in `classes`: {strange[:SOME].tolist()} not in {known}.")

    def learn(self, labels: Any, weight: Any, loss: Any) -> None:
        """Labels have no scale."""

    def width(self, loss: Any) -> int:
        """How many outputs a network should have."""
        return 1 if len(self.names) == 2 and not self.several and _function(loss) in ONE_BY_ONE else len(self.names)

    def bound(self, loss: Any, tail: tuple[int, ...], what: str) -> Any:
        """The loss for a network whose outputs are (n, *tail). ShapeError if they do not fit the classes."""
        one = tail == (1,) and len(self.names) == 2 and not self.several
        if isinstance(loss, str) and loss == "auto":
            loss = "bce_with_logits" if one or self.several else "cross_entropy"
        self.loss = _function(loss)
        if tail != (len(self.names),) and not (one and not self.by_index):
            raise ShapeError(
                f"{what}: expected a network with {len(self.names)} outputs, one for each class, got {tail} a row."
            )
        self.outputs = tail[0]
        return loss

    @property
    def by_index(self) -> bool:
        """Whether the loss takes the numbers of classes, as all but those known to take columns do."""
        return not self.several and self.loss not in ONE_BY_ONE and self.loss not in DISTANCE

    def strata(self, labels: Any) -> Any:
        """The parts of the data that should all be in a sample."""
        return None if self.several else self._indices(labels)

    def _indices(self, labels: Any) -> Any:
        return np.searchsorted(self.names, labels).astype(np.int64)

    def targets(self, labels: Any) -> Any:
        """What the loss takes: indices (n,), or a number from 0 to 1 for each output (n, outputs)."""
        if self.several:
            return labels.astype(np.float64)
        indices = self._indices(labels)
        if self.by_index:
            return indices
        return (indices[:, None] == (np.arange(self.outputs) if self.outputs > 1 else 1)).astype(np.float64)

    def weights(self, labels: Any, class_weight: Any, sample_weight: Any) -> Any:
        """Weights of rows: those of their classes times those they have; None if all count alike."""
        if class_weight is None:
            return sample_weight
        if self.several:
            raise ValueError(
                "class_weight: expected None for several labels a row. Use loss=nn.BCEWithLogitsLoss(pos_weight=...)."
            )
        indices = self._indices(labels)
        found = self._each(class_weight, indices, sample_weight)[indices]
        if sample_weight is not None:
            found = found * sample_weight
        if not found.any():
            raise DataError("class_weight: expected a weight above 0 in some row, got only zeros.")
        return found

    def _each(self, class_weight: Any, indices: Any, sample_weight: Any) -> Any:
        """The weight of each class."""
        if isinstance(class_weight, str) and class_weight == "balanced":
            counts = np.bincount(indices, sample_weight, minlength=len(self.names))
            return counts.sum() / (np.count_nonzero(counts) * np.where(counts > 0, counts, 1.0))
        if not isinstance(class_weight, Mapping):
            raise ValueError(f'class_weight: expected "balanced", a dict or None, got {class_weight!r}.')
        names = self.names.tolist()
        if lacking := [name for name in names if name not in class_weight]:
            raise ValueError(f"class_weight: expected a weight for every class, got none for {lacking[:SOME]}.")
        each = np.asarray([class_weight[name] for name in names], dtype=np.float64)
        if not (np.isfinite(each).all() and (each >= 0).all()):
            raise ValueError(f"class_weight: expected finite weights >= 0, got {class_weight!r}.")
        return each

    def log_probabilities(self, z: Any) -> Any:
        """Of outputs (n, outputs): log p of each class (n, classes), or of each of several labels."""
        if not (self.several or self.loss in ONE_BY_ONE or self.loss in DISTANCE):
            return F.log_softmax(z, -1)
        yes, no = self._yes_and_no(z)
        if self.several:
            return yes
        return namespace(z).concat([no, yes], axis=1) if self.outputs == 1 else F.log_softmax(yes, -1)

    def scores(self, z: Any) -> Any:
        """Log odds of the second of two classes (n,), or of each of several labels; else log p of each class."""
        if self.several:
            yes, no = self._yes_and_no(z)
            return yes - no
        found = self.log_probabilities(z)
        return found[:, 1] - found[:, 0] if len(self.names) == 2 else found

    def _yes_and_no(self, z: Any) -> tuple[Any, Any]:
        """Logarithms of p and 1 - p, of outputs that speak of one label each."""
        if self.loss not in DISTANCE:
            return F.logsigmoid(z), F.logsigmoid(-z)
        xp = namespace(z)
        least = float(xp.finfo(z.dtype).smallest_normal)
        return xp.log(xp.clip(z, least, 1.0)), xp.log(xp.clip(1.0 - z, least, 1.0))


class Amounts:
    """Targets of a regression, (n,) or (n, outputs)."""

    def __init__(self, y: Any) -> None:
        self.shape = y.shape[1:]
        self.scaling: Scaling | None = None

    def attributes(self) -> dict[str, Any]:
        """What an estimator tells of it."""
        return {"n_outputs_": self.shape[0] if self.shape else 1}

    def check(self, y: Any, what: str) -> None:
        """ShapeError unless there are as many a row as at first."""
        if y.shape[1:] != self.shape:
            raise ShapeError(f"{what}: expected y of shape {('n', *self.shape)} as in the first fit, got {y.shape}.")

    def learn(self, y: Any, weight: Any, loss: Any) -> None:
        """The scale of targets, where the loss is of differences."""
        if (isinstance(loss, str) and loss == "auto") or _function(loss) in SCALED:
            self.scaling = copy.copy(self.scaling or Scaling(reach=1.0)).learn(y.reshape(len(y), -1), weight)

    def width(self, loss: Any) -> int:
        """How many outputs a network should have."""
        return self.shape[0] if self.shape else 1

    def bound(self, loss: Any, tail: tuple[int, ...], what: str) -> Any:
        """The loss for a network whose outputs are (n, *tail). ShapeError if they do not fit the targets."""
        if tail not in ((self.width(loss),), self.shape):
            raise ShapeError(f"{what}: expected a network with {self.width(loss)} outputs, got {tail} a row.")
        self.tail = tail
        return "mse" if isinstance(loss, str) and loss == "auto" else loss

    def strata(self, y: Any) -> Any:
        """No parts."""
        return None

    def targets(self, y: Any) -> Any:
        """What the loss takes."""
        y = y.reshape(len(y), -1)
        return (y if self.scaling is None else self.scaling.apply(y)).reshape(len(y), *self.tail)

    def results(self, z: Any) -> Any:
        """What outputs (n, ...) mean."""
        z = namespace(z).reshape(z, (z.shape[0], -1))
        return namespace(z).reshape(z if self.scaling is None else self.scaling.undo(z), (z.shape[0], *self.shape))


def _function(loss: Any) -> Any:
    """What a loss is at heart. ValueError for unknown names; "auto" stays."""
    return loss if isinstance(loss, str) and loss == "auto" else function_of(named("loss", LOSSES, loss))
