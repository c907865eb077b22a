"""The same elements in other places."""

from __future__ import annotations

import math
from typing import Any

from ..array import reshape
from ..errors import ShapeError


def flatten(x: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    """The axes from `start_dim` to `end_dim` as one."""
    ndim = max(1, len(x.shape))
    if not (-ndim <= start_dim < ndim and -ndim <= end_dim < ndim and start_dim % ndim <= end_dim % ndim):
        raise ShapeError(
            f"flatten: expected axes from {-ndim} to {ndim - 1} in order, got {start_dim} to {end_dim} of {x.shape}"
        )
    from_, to = start_dim % ndim, end_dim % ndim + 1
    return reshape(x, (*x.shape[:from_], math.prod(x.shape[from_:to]), *x.shape[to:]))


__all__ = ["flatten"]
