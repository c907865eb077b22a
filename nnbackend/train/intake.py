"""What a person hands in, as what a fit reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from ..array import argmax
from ..backend import to_host
from ..creation import tensor
from ..data import Table
from ..errors import LabelError
from ..random import key_of, permutation, site_of
from ..tensor import Tensor
from ..tree import leaves
from .edge import Edge, checked, row_weights
from .feed import Batch, Rows, Stream
from .measure import Feed
from .objective import Objective


class Intake:
    """Arrays, tables, loaders and weights become batches, as a fit wants them."""

    def __init__(
        self,
        edge: Edge,
        objective: Objective,
        epochs: int = 1,
        batch_size: int | None = None,
        shuffle: bool = False,
        seed: int | None = None,
    ) -> None:
        self.edge, self.objective = edge, objective
        self.epochs, self.batch_size, self.shuffle, self.seed = epochs, batch_size, shuffle, seed

    def feed(
        self,
        X: Any,
        y: Any,
        weight: Any = None,
        name: str = "X",
        batch_size: int | None = None,
        shuffle: bool = False,
    ) -> Feed:
        """Rows of arrays, or of a table and the names of its targets; without y, a stream of batches."""
        if isinstance(X, Table):
            X, y = X.xy(y)
        if y is None:
            if weight is not None:
                raise ValueError("fit: expected weights in the batches themselves, got sample_weight. Leave it out.")
            return Stream(self.edge, X, self.epochs, name)
        form = self._form(X, y, weight, name.removeprefix("X"))
        return Rows(self.edge, form, batch_size, shuffle, self.seed)

    def training(self, X: Any, y: Any, weight: Any, class_weight: Any) -> Feed:
        """What to train on."""
        weight = self._weights(y, weight, class_weight)
        return self.feed(X, y, weight, batch_size=self.batch_size, shuffle=self.shuffle)

    def validation(self, data: Any) -> Feed:
        """What to look at: (X, y), (X, y, weights), or a stream of batches."""
        X, *others = data if isinstance(data, tuple) and data else (data,)
        y, weight = (*others, None, None)[:2]
        return self.feed(X, y, weight, "X_val")

    def split(
        self, X: Any, y: Any, weight: Any, class_weight: Any, share: float, validation_data: Any
    ) -> tuple[Rows, Rows]:
        """Both, from the same rows: a share of them, drawn with the seed, is left out of training."""
        if not 0 < share < 1 or validation_data is not None:
            raise ValueError(
                "fit: expected validation_split between 0 and 1, and no validation_data with it, "
                f"got {share} and {'none' if validation_data is None else 'some'}."
            )
        whole = self.feed(X, y, self._weights(y, weight, class_weight))
        if isinstance(whole, Stream) or whole.rows < 2:
            raise ValueError("fit: expected arrays of at least 2 rows for validation_split. Give validation_data.")
        order = permutation(whole.rows, key_of(self.seed or 0), site_of("validation_split"))
        n = min(max(1, round(share * whole.rows)), whole.rows - 1)
        train = Rows(self.edge, whole.form, self.batch_size, self.shuffle, self.seed, order[n:], whole.resident)
        return train, Rows(self.edge, whole.form, None, taken=order[:n], resident=whole.resident)

    def _form(self, X: Any, y: Any, weight: Any, suffix: str) -> Batch:
        form: Batch = (self.edge.inputs(X, f"X{suffix}", stay=True), self.edge.targets(y, f"y{suffix}", stay=True))
        if weight is None:
            return form
        self.objective.check_weights()
        rows = len(next(leaves(form)))
        return (*form, self.edge.weights(weight, rows, f"sample_weight{suffix}", stay=True))

    def _weights(self, y: Any, weight: Any, class_weight: Any) -> Any:
        """Weights of rows, times those of their classes."""
        if class_weight is None:
            return weight
        if y is None or self.objective.only is None:
            raise ValueError("fit: expected class_weight for arrays and one output, got a stream or several outputs.")
        labels = checked(y, "y", self.edge.device)
        if self.objective.outputs()["multilabel"] and labels.ndim > 1 and labels.shape[1] > 1:
            raise ValueError(
                f"fit: expected one class a row for class_weight, got several labels, y of shape {labels.shape}. "
                "Use loss=nn.BCEWithLogitsLoss(pos_weight=...)."
            )
        of_classes = class_weights(labels, class_weight)
        if weight is None:
            return of_classes
        return of_classes * Tensor(
            to_host(row_weights(weight, len(labels), device=self.edge.device).data).astype("float64")
        )


def class_weights(y: Tensor, class_weight: Any) -> Tensor:
    """The weight of each row by its class: from a dict, or "balanced" as n / (classes * count of the class).

    ValueError for weights that are negative or not finite; LabelError if a class has none.
    """
    labels = to_host((argmax(y, axis=1) if y.ndim == 2 and y.shape[1] > 1 else y.reshape((-1,))).data).tolist()
    found = Counter(labels)
    if isinstance(class_weight, str) and class_weight == "balanced":
        weights = {label: len(labels) / (len(found) * n) for label, n in found.items()}
    elif isinstance(class_weight, Mapping):
        weights = dict(class_weight)
    else:
        raise ValueError(f'class_weight: expected a dict of weights by class, or "balanced", got {class_weight!r}.')
    if lost := [label for label in sorted(found) if label not in weights]:
        raise LabelError(f"class_weight: expected a weight for each class, got none for {', '.join(map(str, lost))}.")
    for label, weight in weights.items():
        if not 0 <= weight < float("inf"):
            raise ValueError(f"class_weight: expected finite weights >= 0, got {weight} for class {label}.")
    return tensor([float(weights[label]) for label in labels], dtype="float64")
