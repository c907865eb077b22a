"""Where a model of two features draws the line, as a picture and as an animation."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..backend import device_of
from ..creation import asarray
from ..errors import DataError, LabelError, ShapeError
from ..grad_mode import no_grad
from ..io.atomic import replace_file
from ..nn import Module, evaluating
from ..tensor import Tensor
from .figure import MARKERS, colours, figure, on_host

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HostArray = np.ndarray[Any, Any]
ROWS = 4096  # of the grid, that a net sees at once


def decision_boundary(
    model: Any,
    X: Any,
    y: Any,
    classes: bool | None = None,
    labels: Sequence[Any] | None = None,
    features: Sequence[str] = ("feature 0", "feature 1"),
    resolution: int = 200,
) -> Figure:
    """The classes that a model finds in the plane of two features, with the data X (n, 2) and y (n,) on top.

    The paler the colour, the less sure the model. `model` is an estimator, a Trainer, a Module, or a function of arrays
    (n, 2); of several outputs a row the largest wins, one output is a probability (of a Trainer with a loss of logits,
    and of `decision_function`, a logit). What y is decides whether values are drawn instead, as for a regression:
    whole numbers, text, one-hot rows, and 0 and 1 alone are classes; `classes` says otherwise. `labels` names the
    classes, `features` the axes, unless X is a data frame.
    """
    plane = Plane(X, y, classes, labels, features, resolution)
    made = figure(6.0, 4.6)
    plane.draw(made.add_subplot(), plane.look(model))
    return made


class BoundaryFrames:
    """Decision boundaries one after the other: `add(model)` while it learns, then `save("boundary.gif")`.

    The arguments are those of `decision_boundary`.
    """

    def __init__(
        self,
        X: Any,
        y: Any,
        classes: bool | None = None,
        labels: Sequence[Any] | None = None,
        features: Sequence[str] = ("feature 0", "feature 1"),
        resolution: int = 120,
    ) -> None:
        figure(1, 1)  # is there matplotlib?
        self.plane = Plane(X, y, classes, labels, features, resolution)
        self.frames: list[Any] = []
        self._axes: Any = None  # drawn once; from frame to frame only the model's answer changes
        self._canvas: Any = None
        self._artists: list[Artist] = []

    def __len__(self) -> int:
        return len(self.frames)

    def add(self, model: Any, title: str = "") -> None:
        """One more frame: the model as it is now."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from PIL import Image

        seen = self.plane.look(model)
        if self._axes is None:
            made = figure(5.6, 4.0, dpi=90)
            self._canvas, axes = FigureCanvasAgg(made), made.add_subplot()
            axes.set_title(title)
            self._artists = self.plane.draw(axes, seen)
            made.draw_without_rendering()
            made.set_layout_engine("none")  # it stays as it is from frame to frame
            self._axes = axes
        else:
            for artist in self._artists:
                artist.remove()
            self._artists = self.plane.paint(self._axes, seen)
            self._axes.set_title(title)
        self._canvas.draw()
        self.frames.append(Image.fromarray(np.asarray(self._canvas.buffer_rgba())[..., :3]))

    def save(self, path: str | os.PathLike[str], seconds: float = 0.12, last: float = 2.0) -> None:
        """Write a GIF that shows each frame for so many seconds, the last one longer; whole or not at all."""
        if not self.frames:
            raise ValueError("save: expected frames, got none. Call add(model) first.")
        from PIL import Image

        some = self.frames[:: -(-len(self.frames) // 8)] + self.frames[-1:]
        palette = Image.fromarray(np.concatenate([np.asarray(frame) for frame in some])).quantize(256)
        first, *others = (frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in self.frames)
        times = [round(1000 * seconds)] * len(others) + [round(1000 * last)]
        buffer = io.BytesIO()
        first.save(buffer, "GIF", save_all=True, append_images=others, duration=times, loop=0)
        replace_file(path, [buffer.getvalue()])


class Seen(NamedTuple):
    """What a model says on the grid: classes (rows, columns, classes) and their labels, or values (rows, columns)."""

    values: HostArray
    labels: HostArray | None


class Plane:
    """A grid in the plane of two features around some data."""

    def __init__(
        self,
        X: Any,
        y: Any,
        classes: bool | None,
        labels: Sequence[Any] | None,
        features: Sequence[str],
        resolution: int,
    ) -> None:
        self.X, self.classes, self.names = X, classes, labels
        self.features = [str(name) for name in getattr(X, "columns", features)]
        self.points = on_host(X, "X")
        if self.points.ndim != 2 or self.points.shape[1] != 2 or not len(self.points):
            raise ShapeError(f"X: expected rows of two features, got {self.points.shape}. Choose two columns.")
        if self.points.dtype.kind not in "fiub" or not np.isfinite(self.points).all():
            raise DataError("X: expected finite numbers, got others. Drop those rows or fill them in.")
        if len(self.features) != 2:
            raise ValueError(f"features: expected two names, got {len(self.features)}.")
        if resolution < 2:
            raise ValueError(f"resolution: expected at least 2, got {resolution}.")
        self.targets = on_host(y, "y")
        one_hot = self.targets.ndim == 2 and self.targets.shape[1] > 1
        if one_hot:
            if not np.isin(self.targets, (0, 1)).all():
                raise ShapeError(f"y: expected one target a row, or one-hot rows, got {self.targets.shape}.")
            self.targets = self.targets.argmax(axis=1)
        self.targets = self.targets.reshape(-1)
        if len(self.targets) != len(self.points):
            raise ShapeError(f"y: expected one target a row of X ({len(self.points)}), got {len(self.targets)}.")
        kind = self.targets.dtype.kind
        self.discrete = one_hot or kind != "f" or bool(np.isin(self.targets, (0, 1)).all())
        if kind in "bf" and self.discrete:
            self.targets = self.targets.astype(np.int64)
        low, high = self.points.min(axis=0).astype(float), self.points.max(axis=0).astype(float)
        margin = np.where(high > low, 0.08 * (high - low), 1.0)
        self.low, self.high, self.side = low - margin, high + margin, resolution
        middles = (np.arange(resolution) + 0.5) / resolution  # of pixels
        ticks = self.low + (self.high - self.low) * middles[:, None]
        grid = np.stack(np.meshgrid(ticks[:, 0], ticks[:, 1]), axis=-1).reshape(-1, 2)
        self.grid = grid.astype(self.points.dtype) if self.points.dtype.kind == "f" else grid

    def look(self, model: Any) -> Seen:
        """What the model says."""
        known = getattr(model, "classes_", None)
        classes = self.discrete or known is not None if self.classes is None else self.classes
        found = on_host(self._ask(model, classes), "model")
        found = found[:, 0] if found.ndim == 2 and found.shape[1] == 1 else found
        if len(found) != len(self.grid) or found.ndim > 2 or (found.ndim == 2 and not classes):
            expected = "(n,), (n, 1) or (n, classes)" if classes else "(n,) or (n, 1)"
            raise ShapeError(f"model: expected outputs {expected} for {len(self.grid)} rows, got {found.shape}.")
        if not classes:
            return Seen(found.astype(float).reshape(self.side, self.side), None)
        if found.ndim == 1 and (found.dtype.kind != "f" or (known is not None and not _has_scores(model))):
            labels = np.unique(np.concatenate([found, self.targets if known is None else on_host(known, "classes_")]))
            shares = (found[:, None] == labels).astype(float)
        else:
            shares = _probabilities(found, _logits(model))
            labels = self._labels(known, shares.shape[1])
        return Seen(shares.reshape(self.side, self.side, -1), labels)

    def _ask(self, model: Any, classes: bool) -> Any:
        grid = type(self.X)(self.grid, columns=self.X.columns) if hasattr(self.X, "iloc") else self.grid
        for method in ("predict_proba", "decision_function", "predict") if classes else ("predict",):
            if hasattr(model, method):
                return getattr(model, method)(grid)
        if not callable(model):
            raise TypeError(f"model: expected an estimator, a Trainer or a function, got {type(model).__name__}.")
        with no_grad(), evaluating():
            parts = (self._rows_for(model, self.grid[i : i + ROWS]) for i in range(0, len(self.grid), ROWS))
            return np.concatenate([on_host(model(part), "model") for part in parts])

    def _rows_for(self, model: Any, rows: HostArray) -> Any:
        """Rows as the model takes them: a Module in its dtype on its device, a function as it would take X."""
        if isinstance(model, Module):
            p = next(model.parameters(), None)
            return asarray(rows) if p is None else asarray(rows, p.dtype, p.device)
        if isinstance(self.X, Tensor):
            return asarray(rows, device=self.X.device)
        return device_of(self.X).put(rows) if hasattr(self.X, "__array_namespace__") else rows

    def _labels(self, known: Any, n: int) -> HostArray:
        """What the n classes of a model are called in y."""
        if known is not None:
            return on_host(known, "classes_")
        if self.targets.dtype.kind in "iu" and self.targets.min() >= 0:
            return np.arange(n)
        labels = np.unique(self.targets)
        if len(labels) != n:
            raise LabelError(
                f"y: expected {n} classes, as the model has outputs, got {len(labels)}. Pass class numbers."
            )
        return labels

    def draw(self, axes: Axes, seen: Seen) -> list[Artist]:
        """The model's answer, and the data on top. Returns what belongs to the answer."""
        artists = self.paint(axes, seen)
        if seen.labels is None:
            self._draw_values(axes)
        else:
            self._draw_classes(axes, seen.labels)
        axes.set(xlim=(self.low[0], self.high[0]), ylim=(self.low[1], self.high[1]))
        axes.set_xlabel(self.features[0])
        axes.set_ylabel(self.features[1])
        return artists

    def paint(self, axes: Axes, seen: Seen) -> list[Artist]:
        """The model's answer alone."""
        extent = (float(self.low[0]), float(self.high[0]), float(self.low[1]), float(self.high[1]))
        where: dict[str, Any] = {"extent": extent, "origin": "lower", "zorder": 0}
        if seen.labels is None:
            image, lines = seen.values, [seen.values] if np.isfinite(seen.values).all() else []
            look: dict[str, Any] = {"colors": "white", "linewidths": 0.6, "alpha": 0.6, "levels": 8}
        else:
            image, lines = _mixed(seen.values), _leads(seen.values)
            look = {"colors": "0.25", "linewidths": 0.9, "levels": [0.0]}
        artists: list[Artist] = [
            axes.imshow(image, aspect="auto", interpolation="bilinear", **where, **self._scale(seen))
        ]
        where["zorder"] = 1
        return artists + [axes.contour(z, **where, **look) for z in lines if z.min() < z.max()]

    def _scale(self, seen: Seen) -> dict[str, Any]:
        """Of values: what y spans."""
        if seen.labels is not None:
            return {}
        return {"vmin": float(self.targets.min()), "vmax": float(self.targets.max()), "cmap": "viridis"}

    def _draw_values(self, axes: Axes) -> None:
        x, y = self.points.T
        scale = self._scale(Seen(self.targets, None))
        points = axes.scatter(x, y, s=26, c=self.targets, edgecolors="white", linewidths=0.8, **scale)
        made: Any = axes.figure
        made.colorbar(points, ax=axes, extend="both")

    def _draw_classes(self, axes: Axes, labels: HostArray) -> None:
        if missing := set(self.targets.tolist()) - set(labels.tolist()):
            known = ", ".join(map(str, labels))
            raise LabelError(f"y: expected classes of the model ({known}), got {', '.join(map(str, missing))} too.")
        names = [str(name) for name in (labels if self.names is None else self.names)]
        if len(names) != len(labels):
            raise ShapeError(f"labels: expected {len(labels)}, got {len(names)}. Pass one for each class.")
        size = 26 if len(self.points) <= 400 else 10
        for k, colour in enumerate(colours(len(labels))):
            x, y = self.points[self.targets == labels[k]].T
            look: dict[str, Any] = {"marker": MARKERS[k % len(MARKERS)], "edgecolors": "white", "linewidths": 0.6}
            axes.scatter(x, y, s=size, color=colour, label=names[k], **look)
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)


def _mixed(shares: HostArray) -> HostArray:
    """The colour of the likeliest class at each place, the paler the less sure."""
    from matplotlib.colors import to_rgb

    n = shares.shape[-1]
    paint = np.array([to_rgb(colour) for colour in colours(n)])
    sure = (shares.max(axis=-1) - 1 / n) / max(1 - 1 / n, 1e-9)
    strength = (0.1 + 0.45 * np.clip(sure, 0, 1))[..., None]
    mixed: HostArray = 1 - strength * (1 - paint[shares.argmax(axis=-1)])
    return mixed


def _leads(shares: HostArray) -> list[HostArray]:
    """By how much each class is ahead of all others, of those that are so somewhere; of two classes the first."""
    n = shares.shape[-1]
    leads = (shares[..., k] - np.delete(shares, k, axis=-1).max(axis=-1, initial=0.0) for k in range(n if n > 2 else 1))
    return [lead for lead in leads if lead.min() < 0 < lead.max()]


def _has_scores(model: Any) -> bool:
    return hasattr(model, "predict_proba") or hasattr(model, "decision_function")


def _logits(model: Any) -> bool:
    """Whether a single output of the model is a logit: of a Trainer its objective knows."""
    if hasattr(model, "predict_proba"):
        return False
    objective: Any = getattr(model, "objective", None)
    return hasattr(model, "decision_function") or (hasattr(objective, "logits") and bool(objective.logits()))


def _probabilities(scores: HostArray, logits: bool) -> HostArray:
    """(n, classes) that sum to 1 and whose order is that of the scores; one score a row is about the second of two."""
    scores = scores.astype(float)
    if scores.ndim == 1:
        if logits:
            scores = 0.5 + 0.5 * np.tanh(0.5 * scores)
        elif scores.min() < 0 or scores.max() > 1:
            scores = (scores > 0.5).astype(float)
        return np.stack([1 - scores, scores], axis=1)
    if scores.min() >= 0 and np.allclose(scores.sum(axis=1), 1, atol=1e-3):
        return scores
    powers: HostArray = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: HostArray = powers / powers.sum(axis=1, keepdims=True)
    return shares
