"""Learning curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .columns import best, grouped, series, spans_decades
from .figure import COLOURS, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def history(history: Any, names: Sequence[str] | None = None) -> Figure:
    """Learning curves: loss and val_loss in one panel, every metric with its validation in another.

    `history` is a History, a list of rows, or a dict of columns; `names` chooses some of them. A dotted line marks the
    epoch with the lowest val_loss (else loss). Panels whose values span two decades or more are logarithmic.
    ValueError if there is nothing to draw, KeyError for an unknown name.
    """
    from matplotlib.ticker import MaxNLocator

    found = series(history, names)
    groups = grouped(found)
    columns = len(groups) if len(groups) <= 3 else 2 if len(groups) == 4 else 3
    figure, axes = panels(len(groups), columns, 4.8 if len(groups) > 1 else 6.4, 3.4 if len(groups) > 1 else 4.0)
    chosen = best(found)
    for i, (panel, (name, group)) in enumerate(zip(axes, groups.items(), strict=True)):
        for one, colour, style in zip(group, COLOURS, ("-", "--"), strict=False):
            marker = "o" if len(one.y) <= 30 else ""
            panel.plot(one.x, one.y, style, color=colour, marker=marker, markersize=3.5, label=one.name)
        if chosen is not None:
            mark, at = chosen
            label = f"best {mark.name} {mark.y[at]:.4g}, epoch {mark.x[at]:g}" if mark in group else None
            panel.axvline(mark.x[at], color="0.35", linestyle=":", linewidth=1.2, label=label, zorder=1)
        panel.set_title(name)
        if i >= len(groups) - columns:
            panel.set_xlabel("epoch")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        panel.set_yscale("log" if spans_decades(group) else "linear")
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(framealpha=0.8, edgecolor="none")
    return figure
