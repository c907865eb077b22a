"""L-BFGS: steps along directions that remember the curvature, with a strong Wolfe line search."""

from __future__ import annotations

__all__: list[str] = []
