"""Lines of the op table: losses of margins, pairs and triplets."""

import math
from typing import Any

import numpy as np
from op_line import drawing, line, nonzero, normal, positive, probability, whole
from op_table_loss import loss, weighed

from nnbackend import functional as F

signs = drawing(lambda rng, shape: np.where(np.arange(math.prod(shape)).reshape(shape) % 2, 1, -1))
several = drawing(lambda rng, shape: np.array([[2, 0, -1, 1], [1, -1, 0, 3], [3, 2, 1, 0]]))


def np_multi_margin(x: Any, t: Any, weight: Any = None, p: int = 1, margin: float = 1.0) -> Any:
    w = np.ones(x.shape[1]) if weight is None else weight
    return np.array([
        sum(w[k] * max(0.0, margin - row[k] + row[i]) ** p for i in range(len(row)) if i != k) / len(row)
        for row, k in zip(x, t, strict=True)
    ])  # fmt: skip


def np_multilabel_margin(x: Any, t: Any) -> Any:
    each = []
    for row, classes in zip(x, t.tolist(), strict=True):
        mine = classes[: classes.index(-1)] if -1 in classes else classes
        rest = [i for i in range(len(row)) if i not in mine]
        each.append(sum(max(0.0, 1 - row[j] + row[i]) for j in mine for i in rest) / len(row))
    return np.array(each)


def np_cosine(a: Any, b: Any, t: Any, margin: float = 0.0) -> Any:
    cosine = np.sum(a * b, -1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    return np.where(t == 1, 1 - cosine, np.maximum(0, cosine - margin))


def np_triplet(a: Any, b: Any, c: Any, p: float = 2.0, margin: float = 1.0, swap: bool = False) -> Any:
    near, far, other = (np.linalg.norm(x - y + 1e-6, p, axis=-1) for x, y in ((a, b), (a, c), (b, c)))
    return np.maximum(0, margin + near - (np.minimum(far, other) if swap else far))


loss("multi_margin_loss", np_multi_margin, normal(7, 4), whole(4, 7))
loss("multi_margin_loss", np_multi_margin, normal(7, 4), whole(4, 7), p=2, margin=0.5)
line("multi_margin_loss", normal(7, 4), whole(4, 7), positive(4), ref=lambda x, t, w: np.mean(np_multi_margin(x, t, w)),
     op=lambda x, t, w: F.multi_margin_loss(x, t, weight=w))  # fmt: skip
line("multi_margin_loss", normal(4), whole(4), reduction="none",
     ref=lambda x, t, reduction: np_multi_margin(x[None], t[None])[0])  # fmt: skip
loss("multilabel_margin_loss", np_multilabel_margin, normal(3, 4), several(3, 4))
line("multilabel_margin_loss", normal(4), whole(1, 4), ref=lambda x, t: np_multilabel_margin(x[None], t[None])[0])
loss("multilabel_soft_margin_loss", lambda x, t: np.mean(np.log1p(np.exp(x)) - t * x, -1), normal(2, 3),
     probability(2, 3))  # fmt: skip
line("multilabel_soft_margin_loss", normal(2, 3), signs(2, 3), positive(3),
     ref=lambda x, t, w: np.mean(w * (np.log1p(np.exp(x)) - t * x)))  # fmt: skip
loss("soft_margin_loss", lambda x, t: np.log1p(np.exp(-t * x)), normal(2, 3), signs(2, 3))
loss("hinge_embedding_loss", lambda x, t, margin: np.where(t == 1, x, np.maximum(0, margin - x)), nonzero(2, 3),
     signs(2, 3), margin=0.5)  # fmt: skip
loss("cosine_embedding_loss", np_cosine, normal(7, 3), normal(7, 3), signs(7), margin=-0.3)
line("cosine_embedding_loss", normal(3), normal(3), signs(), ref=np_cosine)
loss("margin_ranking_loss", lambda a, b, t, margin: np.maximum(0, margin - t * (a - b)), normal(2, 3), normal(2, 3),
     signs(2, 3), margin=0.5)  # fmt: skip
for settings in ({}, {"swap": True}, {"margin": 0.5}):
    loss("triplet_margin_loss", np_triplet, normal(7, 3), normal(7, 3), normal(7, 3), **settings)
    loss("triplet_margin_with_distance_loss", np_triplet, normal(7, 3), normal(7, 3), normal(7, 3), **settings)
loss("triplet_margin_loss", np_triplet, normal(7, 3), normal(7, 3), normal(7, 3), p=3.0)
weighed("triplet_margin_loss", np_triplet, normal(7, 3), normal(7, 3), normal(7, 3), positive(7))
weighed("multi_margin_loss", np_multi_margin, normal(7, 4), whole(4, 7), positive(7))
