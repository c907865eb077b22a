"""Lines of the op table: rows of tables, and bags of them."""

from collections.abc import Callable
from typing import Any

import numpy as np
from op_line import Draw, line, normal, spaced, whole

from nnbackend import functional as F


def offsets(*starts: int) -> Draw:
    return Draw((len(starts),), lambda rng, s: np.array(starts))


MODES: dict[str, Callable[..., Any]] = {"sum": np.sum, "mean": np.mean, "max": np.max}


def np_bags(
    index: Any, w: Any, starts: Any = None, mode: str = "mean", padding_idx: Any = None, **settings: Any
) -> Any:
    if starts is None:
        bags = list(index)
    else:
        ends = starts[1:] if settings.get("include_last_offset") else [*starts[1:], len(index)]
        bags = [index[a:b] for a, b in zip(starts, ends, strict=False)]
    kept = [[i for i in bag if padding_idx is None or i != padding_idx % len(w)] for bag in bags]
    return np.array([MODES[mode](w[bag], axis=0) if bag else np.zeros(w.shape[1]) for bag in kept])


def weighted(index: Any, w: Any, weights: Any, starts: Any = None) -> Any:
    return F.embedding_bag(index, w, starts, per_sample_weights=weights, mode="sum")


def np_weighted(index: Any, w: Any, weights: Any, starts: Any = None) -> Any:
    rows = w[index] * weights[..., None]
    return rows.sum(axis=1) if starts is None else np.array([part.sum(axis=0) for part in np.split(rows, starts[1:])])


for index in (
    whole(4, 7),
    whole(4, 2, 3),
    whole(4),
    whole(4, 0),
    whole(4, 9, dtype="uint8"),
    whole(4, 5, dtype="int32"),
):
    line("embedding", index, normal(4, 3), ref=lambda i, w: w[i])
for mode in MODES:
    for padding in (None, 2, -4):
        settings = {"mode": mode, "padding_idx": padding, "ref": np_bags}
        line("embedding_bag", whole(4, 3, 5), spaced(4, 3), **settings)
        line("embedding_bag", whole(4, 9), spaced(4, 3), offsets(0, 0, 2, 5, 9), **settings)
    line(
        "embedding_bag",
        whole(4, 9),
        spaced(4, 3),
        offsets(0, 4, 4, 9),
        ref=np_bags,
        include_last_offset=True,
        mode=mode,
    )
    line("embedding_bag", whole(4, 0), spaced(4, 3), offsets(0, 0), mode=mode, ref=np_bags)
    line("embedding_bag", whole(4, 2, 0), spaced(4, 3), mode=mode, ref=np_bags)
line("embedding_bag", whole(4, 3, 5), normal(4, 3), normal(3, 5), op=weighted, ref=np_weighted)
line("embedding_bag", whole(4, 9), normal(4, 3), normal(9), offsets(0, 2, 2), op=weighted, ref=np_weighted)
