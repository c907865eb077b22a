"""Losses of margins, pairs and triplets. They average, and take `reduction` and `sample_weight` as all losses do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import array
from ..errors import ShapeError
from ..recorder import checked
from .activation import logsigmoid, relu
from .distance import pairwise_distance
from .loss_checks import (
    as_scores,
    check_classes,
    check_pair,
    check_range,
    check_reduction,
    check_settings,
    check_shape,
    is_floating,
)
from .loss_reduce import reduced


def _above(x: Any) -> Any:
    """max(x, 0) with the gradient 1 at 0, as PyTorch has it in these."""
    return array.clip(x, 0.0, None)


# -- of classes -----------------------------------------------------------------------------------------------------


def multi_margin_loss(
    input: Any,
    target: Any,
    p: int = 1,
    margin: float = 1.0,
    weight: Any = None,
    reduction: str = "mean",
    *,
    sample_weight: Any = None,
) -> Any:
    """Hinge loss of scores (n, c) with class indices (n,): the sum of max(0, margin - x[y] + x[i])^p over i != y, / c.

    Also (c,) with (). `weight` (c,) weighs the classes.
    """
    check_settings("multi_margin_loss", p=p)
    if len(input.shape) == 1 and not target.shape:
        input, target = array.expand_dims(input, axis=0), array.expand_dims(target, axis=0)
        y = multi_margin_loss(input, target, p, margin, weight, reduction, sample_weight=sample_weight)
        return array.squeeze(y, axis=0) if reduction == "none" else y
    if len(input.shape) > 2:
        raise ShapeError(f"multi_margin_loss: expected input (n, classes), got {tuple(input.shape)}.")
    check_classes(input, target, reduction, "multi_margin_loss")
    classes = input.shape[1]
    right = array.take_along_axis(input, array.expand_dims(target, axis=1), axis=1)
    over = relu(input - right + margin)
    others = 1.0 - array.one_hot(target, classes, dtype=input.dtype)
    each = array.sum((over if p == 1 else over * over) * others, axis=1) / classes
    if weight is not None:
        check_shape(weight, (classes,), "weight", "multi_margin_loss")
        each = array.multiply(each, array.gather(weight, target))
    return reduced(each, reduction, sample_weight)


def multilabel_margin_loss(input: Any, target: Any, reduction: str = "mean", *, sample_weight: Any = None) -> Any:
    """Hinge loss of scores (n, c) with classes (n, c): those before the first -1 of a row are its labels; also (c,).

    The sum of max(0, 1 - x[j] + x[i]) over labels j and other classes i, / c.
    """
    name = "multilabel_margin_loss"
    if len(input.shape) not in (1, 2) or is_floating(target):
        raise ShapeError(f"{name}: expected input (n, c) or (c,) and integer targets, got input {tuple(input.shape)}.")
    check_shape(target, tuple(input.shape), "target", name)
    check_reduction(tuple(input.shape), reduction, name)
    classes = input.shape[-1]
    checked(check_range, target, name, "target", -1, classes - 1)
    ended = array.astype(array.less(target, 0), target.dtype)
    real = array.equal(array.cumulative_sum(ended, axis=-1), 0)
    labels = array.where(real, target, 0)
    is_label = array.astype(real, input.dtype)
    hot = array.one_hot(labels, classes, dtype=input.dtype) * array.expand_dims(is_label, axis=-1)
    others = 1.0 - array.max(hot, axis=-2, keepdims=True)
    right = array.expand_dims(array.take_along_axis(input, labels, axis=-1), axis=-1)
    over = relu(array.expand_dims(input, axis=-2) - right + 1.0)
    each = array.sum(over * others * array.expand_dims(is_label, axis=-1), axis=(-2, -1)) / classes
    return reduced(each, reduction, sample_weight)


def multilabel_soft_margin_loss(
    input: Any, target: Any, weight: Any = None, reduction: str = "mean", *, sample_weight: Any = None
) -> Any:
    """Binary cross-entropy of logits (..., c) with targets in [0, 1], averaged over the classes."""
    name = "multilabel_soft_margin_loss"
    check_pair(input, target, reduction, name)
    if not input.shape:
        raise ShapeError(f"{name}: expected input (..., classes), got ().")
    target = as_scores(target, input)
    each = -(array.multiply(target, logsigmoid(input)) + array.multiply(1.0 - target, logsigmoid(-input)))
    each = each if weight is None else array.multiply(each, weight)
    return reduced(array.mean(each, axis=-1), reduction, sample_weight)


def soft_margin_loss(input: Any, target: Any, reduction: str = "mean", *, sample_weight: Any = None) -> Any:
    """Logistic loss log(1 + exp(-target * input)) of targets 1 and -1."""
    check_pair(input, target, reduction, "soft_margin_loss")
    return reduced(-logsigmoid(array.multiply(input, as_scores(target, input))), reduction, sample_weight)


# -- of pairs: alike (1) or not (-1) --------------------------------------------------------------------------------


def hinge_embedding_loss(
    input: Any, target: Any, margin: float = 1.0, reduction: str = "mean", *, sample_weight: Any = None
) -> Any:
    """The distance `input` where the target is 1, what it lacks to the `margin` where it is -1."""
    check_pair(input, target, reduction, "hinge_embedding_loss")
    near = array.where(array.not_equal(target, -1), input, 0.0)
    far = array.where(array.not_equal(target, 1), _above(margin - input), 0.0)
    return reduced(near + far, reduction, sample_weight)


def cosine_embedding_loss(
    input1: Any,
    input2: Any,
    target: Any,
    margin: float = 0.0,
    reduction: str = "mean",
    *,
    sample_weight: Any = None,
) -> Any:
    """1 - cos of vectors (n, d) where the target (n,) is 1, cos above the `margin` where it is -1; also (d,) and ()."""
    name, eps = "cosine_embedding_loss", 1e-12
    check_pair(input1, input2, reduction, name, what="the inputs")
    if len(input1.shape) not in (1, 2):
        raise ShapeError(f"{name}: expected inputs (n, d) or (d,), got {tuple(input1.shape)}.")
    check_shape(target, tuple(input1.shape[:-1]), "target", name)
    squares = (array.sum(input1 * input1, axis=-1) + eps) * (array.sum(input2 * input2, axis=-1) + eps)
    cosine = array.sum(array.multiply(input1, input2), axis=-1) / array.sqrt(squares)
    near = array.where(array.equal(target, 1), 1.0 - cosine, 0.0)
    far = array.where(array.equal(target, -1), _above(cosine - margin), 0.0)
    return reduced(near + far, reduction, sample_weight)


def margin_ranking_loss(
    input1: Any,
    input2: Any,
    target: Any,
    margin: float = 0.0,
    reduction: str = "mean",
    *,
    sample_weight: Any = None,
) -> Any:
    """max(0, margin - target * (input1 - input2)): target 1 wants input1 above, -1 below."""
    name = "margin_ranking_loss"
    check_pair(input1, input2, reduction, name, what="the inputs")
    check_pair(input1, target, reduction, name)
    ahead = array.multiply(array.subtract(input1, input2), as_scores(target, input1))
    return reduced(_above(margin - ahead), reduction, sample_weight)


# -- of triplets ----------------------------------------------------------------------------------------------------


def triplet_margin_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: str = "mean",
    *,
    sample_weight: Any = None,
) -> Any:
    """max(0, margin + d(anchor, positive) - d(anchor, negative)) of vectors (..., d), d = `pairwise_distance`.

    `swap` takes d(positive, negative) where it is less (Balntas et al. 2016).
    """
    return _triplet(
        "triplet_margin_loss",
        (anchor, positive, negative),
        lambda a, b: pairwise_distance(a, b, p, eps),
        margin,
        swap,
        reduction,
        sample_weight,
    )


def triplet_margin_with_distance_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    *,
    distance_function: Callable[[Any, Any], Any] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
    sample_weight: Any = None,
) -> Any:
    """`triplet_margin_loss` with a distance of your own: a function of two arrays."""
    return _triplet(
        "triplet_margin_with_distance_loss",
        (anchor, positive, negative),
        distance_function or pairwise_distance,
        margin,
        swap,
        reduction,
        sample_weight,
    )


def _triplet(
    name: str,
    triplet: tuple[Any, Any, Any],
    distance: Callable[[Any, Any], Any],
    margin: float,
    swap: bool,
    reduction: str,
    sample_weight: Any,
) -> Any:
    anchor, positive, negative = triplet
    check_settings(name, margin=margin)
    check_pair(anchor, positive, reduction, name, what="anchor and positive")
    check_pair(anchor, negative, reduction, name, what="anchor and negative")
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = array.minimum(far, distance(positive, negative))
    return reduced(_above(near - far + margin), reduction, sample_weight)


__all__ = [
    "cosine_embedding_loss", "hinge_embedding_loss", "margin_ranking_loss", "multi_margin_loss",
    "multilabel_margin_loss", "multilabel_soft_margin_loss", "soft_margin_loss", "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
]  # fmt: skip
