"""What all estimators do: check, scale, build a network, train it, and give results of the kind that X is."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from ..backend import device as find_device
from ..backend import device_of, namespace
from ..callbacks import EarlyStopping
from ..data import split
from ..data.loader import concatenated
from ..grad_mode import no_grad
from ..nn import Module, evaluating
from ..optim import Optimizer
from ..random import fresh_key
from ..tensor import Tensor
from ..train import Trainer
from ..train.callback import listed
from ..train.updates import OPTIMIZERS
from .checks import check_names, check_number, column_names, inputs, targets, weights, whole
from .rules import BaseEstimator, NotFittedError
from .scaling import Scaling

BATCH = 200  # rows in a step, if there are as many
ROWS = 4096  # that are predicted together
ADAM = {"lr": 3e-3, "weight_decay": 3e-3}  # by default, for scaled columns
FREE = {  # settings that may change before a fit goes on
    "epochs", "batch_size", "shuffle", "early_stopping", "validation_fraction", "patience", "min_delta", "warm_start",
    "callbacks", "verbose", "random_state", "class_weight",
}  # fmt: skip

Rows = tuple[Any, Any, Any]  # X, y, and weights or None


@dataclass(kw_only=True, eq=False, repr=False)
class NeuralNet(BaseEstimator):
    """Base of the estimators: their common parameters, and how they train and predict."""

    loss: Any = "auto"
    optimizer: Any = "adam"
    lr: float | None = None
    weight_decay: float | None = None
    alpha: float | None = None
    schedule: Any = None
    schedule_every: str = "epoch"
    clip_norm: float | None = None
    epochs: int = 100
    batch_size: Any = "auto"
    shuffle: bool = True
    scale: bool | str = True
    early_stopping: bool = False
    validation_fraction: float = 0.1
    patience: int = 10
    min_delta: float = 1e-4
    warm_start: bool = False
    callbacks: Sequence[Any] = ()
    metrics: Any = ()
    verbose: bool = False
    device: Any = None
    random_state: Any = None

    # -- what a subclass says ----------------------------------------------------------------------------------------

    _table = True  # must X have two dimensions?
    _offset = 0.0  # of scaled columns; see Scaling
    _code: ClassVar[Any]  # Classes or Amounts; this and what follows is there after a fit
    _first: ClassVar[dict[str, Any]]  # settings
    n_features_in_: ClassVar[int]
    net_: ClassVar[Module]
    trainer_: ClassVar[Trainer]
    scaling_: ClassVar[Scaling | None]

    def _made(self, features: int, outputs: int) -> Module:
        """A new network."""
        raise TypeError(f"{type(self).__name__}: expected a class that makes a network.")

    def _targets(self, y: Any) -> Any:
        """Labels or numbers, whatever y was."""
        raise TypeError(f"{type(self).__name__}: expected a classifier or a regressor.")

    def _coding(self, y: Any, classes: Any) -> Any:
        """What turns targets into numbers and outputs into results: Classes or Amounts."""
        raise TypeError(f"{type(self).__name__}: expected a classifier or a regressor.")

    def _row_weights(self, code: Any, y: Any, weight: Any) -> Any:
        """How much each row counts, if they do not count alike."""
        return weight

    # -- training ----------------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any, sample_weight: Any = None, validation_data: Any = None) -> Self:
        """Train on rows X (n, features) and targets y (n,) or (n, outputs); after an error all is as it was.

        A row of weight 2 counts as two, one of weight 0 as none. `validation_data` is (X, y) or (X, y, weights), for
        early stopping and `history_`. With `warm_start` it goes on from the fit before, with its optimizer and scales;
        steps that it took before an error or Ctrl-C then stay.
        Ctrl-C raises KeyboardInterrupt after the step.
        """
        return self._train(X, y, sample_weight, validation_data, on=self.warm_start and self._is_fitted())

    def _train(
        self,
        X: Any,
        y: Any,
        weight: Any,
        validation_data: Any = None,
        on: bool = False,
        part: bool = False,
        classes: Any = None,
    ) -> Self:
        """Train anew, or `on` from where it is; on all rows that there are, or one epoch on a `part` of them."""
        self._check_settings(part, on)
        rows = self._rows(X, y, weight, known=on)
        code = copy.copy(self._code) if on else self._coding(rows[1], classes)
        held_out, seed = None, self._seed()
        rows = self._weighted(rows, code)
        if validation_data is not None:
            if not isinstance(validation_data, tuple | list) or len(validation_data) not in (2, 3):
                raise ValueError(
                    f"validation_data: expected (X, y) or (X, y, weights), got {type(validation_data).__name__}."
                )
            check_names(validation_data[0], column_names(X), type(self).__name__)
            held_out = self._weighted(self._rows(*validation_data), code)
            check_number(held_out[0], rows[0].shape[1], type(self).__name__)
        elif self.early_stopping:
            rows, held_out = self._parted(rows, code, seed)
        scaling = copy.copy(self.scaling_) if on else self._scaling()
        if scaling is not None and (part or not on):
            scaling.learn(rows[0], rows[2])
            code.learn(rows[1], rows[2], self.loss)
        trainer = self.trainer_ if on else self._trainer(_scaled(rows[0][:1, ...], scaling), code, seed)
        x, y, weight = rows
        batch = self._batch(len(y))
        watch = [EarlyStopping(patience=self.patience, min_delta=self.min_delta)] if self.early_stopping else []
        trainer.fit(
            _scaled(x, scaling),
            code.targets(y),
            epochs=1 if part else self.epochs,
            batch_size=batch,
            validation_data=held_out and (_scaled(held_out[0], scaling), code.targets(held_out[1]), held_out[2]),
            shuffle=self.shuffle and batch < len(y),
            report_every=None if self.verbose or self.metrics or held_out else self.epochs,  # each costs a copy
            verbose=bool(self.verbose),
            callbacks=[*listed(self.callbacks), *watch],
            sample_weight=weight,
            check=False,  # its advice is for people; here all has been looked at
        )
        if trainer.interrupted:
            raise KeyboardInterrupt
        self._keep(code, scaling, trainer, x, None if on else column_names(X), on)
        return self

    def _keep(self, code: Any, scaling: Scaling | None, trainer: Trainer, x: Any, names: Any, on: bool) -> None:
        """Become fitted, all at once."""
        losses = trainer.history["loss"]
        learnt = {
            "net_": trainer.net, "trainer_": trainer, "scaling_": scaling, "_code": code, **code.attributes(),
            "history_": trainer.history, "loss_curve_": losses, "loss_": losses[-1], "n_iter_": len(losses),
        }  # fmt: skip
        if not on:
            learnt["n_features_in_"], learnt["_first"] = x.shape[1], self._fixed()
            self.__dict__.pop("feature_names_in_", None)
            if names is not None:
                learnt["feature_names_in_"] = names
        self.__dict__.update(learnt)

    def _fixed(self) -> dict[str, Any]:
        """The settings that the network and its trainer are made with."""
        return {name: value for name, value in self.get_params(deep=False).items() if name not in FREE}

    def _check_settings(self, part: bool, on: bool) -> None:
        """ValueError for settings that the trainer does not see, or that come too late for it."""
        for name, value in self._fixed().items() if on else ():
            if value is not (first := self._first[name]) and repr(value) != repr(first):
                raise ValueError(
                    f"{name}: expected {first!r} as in the fit that this one goes on from, got {value!r}. Fit a clone, "
                    "or change trainer_.optimizer."
                )
        if part and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True, which needs all of the data.")
        whole("epochs", self.epochs)
        if self.early_stopping and not 0 < self.validation_fraction < 1:
            raise ValueError(f"validation_fraction: expected a number between 0 and 1, got {self.validation_fraction}.")
        if self.weight_decay is not None and self.alpha is not None:
            raise ValueError("alpha: expected None with weight_decay, which it is another name of. Give one of them.")

    def _rows(self, X: Any, y: Any, weight: Any = None, known: bool = False) -> Rows:
        """The rows that count; of features that must be as in the first fit if they are `known`."""
        kind, x = type(self).__name__, self._inputs(X, known)
        y, weight = self._targets(targets(y, x.shape[0], kind)), weights(weight, x.shape[0])
        return (x, y, weight) if weight is None or weight.all() else _taken((x, y, weight), np.flatnonzero(weight))

    def _weighted(self, rows: Rows, code: Any) -> Rows:
        """With weights of classes. LabelError or ShapeError for targets unlike those of the first fit."""
        x, y, weight = rows
        code.check(y, type(self).__name__)
        return x, y, self._row_weights(code, y, weight)

    def _scaling(self) -> Scaling | None:
        """For the columns of X."""
        if isinstance(self.scale, str) and self.scale != "standard":
            raise ValueError(f'scale: expected True, False or "standard", got {self.scale!r}.')
        return Scaling(reach=1.0) if self.scale == "standard" else Scaling(offset=self._offset) if self.scale else None

    def _parted(self, rows: Rows, code: Any, seed: int) -> tuple[Rows, Rows]:
        """Rows to train on, and rows to look at."""
        order = np.arange(len(rows[1]))
        (train,), (rest,) = split(order, test=self.validation_fraction, stratify=code.strata(rows[1]), seed=seed)
        return _taken(rows, np.sort(train)), _taken(rows, np.sort(rest))

    def _batch(self, rows: int) -> int:
        """Rows in a step."""
        if self.batch_size is None:
            return rows
        auto = isinstance(self.batch_size, str) and self.batch_size == "auto"
        size = min(BATCH if auto else whole("batch_size", self.batch_size, ', None or "auto"'), rows)
        while rows % size == 1:  # batch norm refuses a row alone
            size += 1
        return size

    def _seed(self) -> int:
        """A number from `random_state`, which moves on if it is a generator."""
        state = self.random_state
        if state is None:
            return fresh_key() >> 64
        if isinstance(state, np.random.Generator):
            return int(state.integers(1 << 32))
        if hasattr(state, "randint"):
            return int(state.randint(1 << 31))
        return whole("random_state", state, ", None or a generator of NumPy's", least=0)

    def _rule(self) -> Optimizer:
        """The optimizer as a template. ValueError for settings that do not go with it."""
        decay = self.alpha if self.weight_decay is None else self.weight_decay
        given: dict[str, Any] = {
            name: value for name, value in (("lr", self.lr), ("weight_decay", decay)) if value is not None
        }
        if not isinstance(self.optimizer, str):
            if given:
                raise ValueError(
                    f"{', '.join(given)}: expected None with an optimizer that has its own, got {given}. "
                    f"Set it there, or give the optimizer by name."
                )
            if getattr(self.optimizer, "param_groups", None):
                raise ValueError("optimizer: expected a template such as optim.SGD(lr=0.1), got one with parameters.")
            return self.optimizer  # type: ignore[no-any-return]
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(
                f"optimizer: expected one of {', '.join(OPTIMIZERS)}, or a template, got {self.optimizer!r}."
            )
        return OPTIMIZERS[self.optimizer](**(ADAM if self.optimizer == "adam" else {}) | given)

    def _trainer(self, row: Any, code: Any, seed: int) -> Trainer:
        """A network with all that it takes to train it, tried on a row."""
        place = device_of(row) if self.device is None else find_device(self.device)
        net = self._made(row.shape[1], code.width(self.loss))
        if next(net.parameters(), None) is None:
            raise ValueError(f"module: expected a network with parameters to train, got {net!r}.")
        net.to(place, dtype="float32" if row.dtype == namespace(row).float32 else "float64")
        tail = self._forward(net, row).shape[1:]
        return Trainer(
            net,
            loss=code.bound(self.loss, tail, type(self).__name__),
            optimizer=self._rule(),
            metrics=self.metrics,
            device=place,
            seed=seed,
            schedule=self.schedule,
            schedule_every=self.schedule_every,
            clip_norm=self.clip_norm,
        )

    # -- predicting --------------------------------------------------------------------------------------------------

    def _is_fitted(self) -> bool:
        return "trainer_" in vars(self)

    def _outputs(self, X: Any) -> tuple[Any, Any]:
        """What the network says of X, in its library and device, and X as it was understood."""
        if not self._is_fitted():
            raise NotFittedError(
                f"This {type(self).__name__} instance is not fitted yet. Call 'fit' with appropriate arguments before "
                "using this estimator."
            )
        x = self._inputs(X, known=True)
        return self._forward(self.net_, _scaled(x, self.scaling_)), x

    def _inputs(self, X: Any, known: bool) -> Any:
        """The features, checked."""
        kind = type(self).__name__
        if known:
            check_names(X, getattr(self, "feature_names_in_", None), kind)
        x = inputs(X, kind, self._table)
        if known:
            check_number(x, self.n_features_in_, kind)
        return x

    def _forward(self, net: Module, x: Any) -> Any:
        """A raw array of outputs, some rows at a time."""
        first, rows = next(net.parameters()), x.shape[0]
        asked = first.device if self.device is None else find_device(self.device)
        place = asked if asked == first.device else first.device  # the same, with the precision asked for
        with no_grad(), evaluating(), place.stream():
            parts = [
                net(Tensor(x[start : min(start + ROWS, rows), ...]).to(first.device).astype(first.dtype))
                for start in range(0, rows, ROWS)
            ]
        return concatenated(parts).data


def _scaled(x: Any, scaling: Scaling | None) -> Any:
    return x if scaling is None else scaling.apply(x)


def _taken(rows: Rows, chosen: Any) -> Rows:
    """Some of the rows, by number."""
    x, y, weight = rows
    x = x[chosen] if isinstance(x, np.ndarray) else namespace(x).take(x, device_of(x).put(chosen), axis=0)
    return x, y[chosen], None if weight is None else weight[chosen]


def like(host: Any, X: Any, x: Any) -> Any:
    """Numbers of the host in the library, on the device, of X: a Tensor for a Tensor. Text stays on the host."""
    if isinstance(x, np.ndarray) or host.dtype.kind not in "biuf":
        return Tensor(host) if isinstance(X, Tensor) and host.dtype.kind in "biuf" else host
    found = device_of(x).put(host)
    return Tensor(found) if isinstance(X, Tensor) else found
