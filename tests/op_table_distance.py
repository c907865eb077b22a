"""Lines of the op table: distances, similarities and the bilinear map."""

import itertools
import math
from typing import Any

import numpy as np
from op_line import between, line, normal, spaced


def np_norm(x: Any, p: float, axis: int = -1, keepdims: bool = False) -> Any:
    if p in (0.0, math.inf):
        return (np.max(np.abs(x), axis, keepdims=keepdims) if p else np.sum(x != 0, axis, keepdims=keepdims)) * 1.0
    return np.sum(np.abs(x) ** p, axis=axis, keepdims=keepdims) ** (1 / p)


def np_cosine(a: Any, b: Any, dim: int = 1, eps: float = 1e-8) -> Any:
    norms = [np.sqrt(np.sum(x * x, axis=dim)) for x in (a, b)]
    return np.sum(a * b, axis=dim) / np.maximum(norms[0], eps) / np.maximum(norms[1], eps)


def np_pairwise(a: Any, b: Any, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Any:
    return np_norm(a - b + eps, p, keepdims=keepdim)


def np_pdist(x: Any, p: float = 2.0) -> Any:
    return np.array([np_norm(a - b, p) for a, b in itertools.combinations(x, 2)]).reshape(-1)


line("cosine_similarity", normal(2, 3), normal(2, 3), ref=np_cosine)
line("cosine_similarity", normal(2, 3, 5), normal(3, 5), ref=np_cosine, dim=-1)
line("cosine_similarity", normal(3), normal(3), ref=np_cosine, dim=0)
line("cosine_similarity", normal(0, 3), normal(0, 3), ref=np_cosine)
for settings in ({}, {"p": 1.0}, {"p": 3.0, "eps": 1e-3, "keepdim": True}, {"p": math.inf}):
    line("pairwise_distance", spaced(2, 3), between(2, 3), ref=np_pairwise, **settings)
line("pairwise_distance", spaced(2, 3, 5), between(5), ref=np_pairwise)
for settings in ({}, {"p": 1.0}, {"p": 3.5}, {"p": math.inf}):
    line("pdist", normal(5, 3), ref=np_pdist, equal=False, **settings)
line("pdist", spaced(1, 3), ref=np_pdist)
line("pdist", spaced(5, 3), ref=np_pdist, p=0.0)
for lead in ((), (2,), (7, 2), (0,)):
    line("bilinear", normal(*lead, 3), normal(*lead, 5), normal(4, 3, 5), normal(4),
         ref=lambda a, b, w, bias: np.einsum("...i,oij,...j->...o", a, w, b) + bias)  # fmt: skip
line("bilinear", normal(2, 3), normal(2, 5), normal(4, 3, 5), ref=lambda a, b, w: np.einsum("ni,oij,nj->no", a, w, b))
