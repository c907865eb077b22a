"""Losses as one op each: stable, and with a short way back. Shapes and labels are checked by `nnbackend.functional`."""

from __future__ import annotations

from ..backend import Array, hot, logistic, namespace, picked, softmax_loss, softmax_loss_back, total
from .core import Op, constant, shape_of, size, unbroadcast


def _reduce(each: Array, reduction: str) -> tuple[Array, float]:
    """The value, and what the gradient of each element is multiplied by."""
    if reduction == "mean":
        c = 1.0 / size(each)
        return total(each, None) * c, c
    return (total(each, None), 1.0) if reduction == "sum" else (each, 1.0)


def weighted_loss(each: Array, weight: Array | None, counts: Array | None, reduction: str = "mean") -> Op:
    """Losses of elements as one, each times its `weight`: 0 leaves out what is infinite or NaN, too.

    An element of weight 1 counts as `counts` says in the mean, and the mean over nothing is 0.
    """
    xp, share = namespace(each), weight if counts is None else counts if weight is None else weight * counts
    if weight is not None:
        left_out = xp.logical_and(weight == 0.0, xp.logical_not(xp.isfinite(each)))
        each = xp.where(left_out, 0.0, each)
    y, c = _reduce(each if weight is None else each * weight, "sum" if reduction == "mean" else reduction)
    if reduction == "mean":
        number = size(each) if share is None else total(share, None) * (size(each) / size(share))
        c = 1.0 / (number if share is None else xp.where(number == 0.0, 1.0, number))
        y = y * c

    def deach(dy: Array) -> Array:
        g = dy * c if weight is None else weight * (dy * c)
        return g if g.shape == each.shape else namespace(g).broadcast_to(g, each.shape)

    def dweight(dy: Array) -> Array:
        more = each if reduction != "mean" else each - (y if counts is None else y * counts)
        return unbroadcast(more * (dy * c), shape_of(weight))

    def dcounts(dy: Array) -> Array:
        g = (-y if weight is None else -y * weight) * (dy * c)
        return unbroadcast(namespace(g).broadcast_to(g, each.shape), shape_of(counts))

    return y, (deach, None if weight is None else dweight, None if counts is None else dcounts)


def mse_loss(x: Array, target: Array, reduction: str = "mean") -> Op:
    """Squared error."""
    e = x - target
    y, c = _reduce(e * e, reduction)
    return y, (
        lambda dy: unbroadcast(e * (dy * (2.0 * c)), x.shape),
        lambda dy: unbroadcast(e * (dy * (-2.0 * c)), target.shape),
    )


def l1_loss(x: Array, target: Array, reduction: str = "mean") -> Op:
    """Absolute error; the gradient at 0 is 0."""
    xp = namespace(x)
    e = x - target
    y, c = _reduce(xp.abs(e), reduction)
    return y, (
        lambda dy: unbroadcast(xp.sign(e) * (dy * c), x.shape),
        lambda dy: unbroadcast(xp.sign(e) * (dy * -c), target.shape),
    )


def huber_loss(x: Array, target: Array, delta: float = 1.0, reduction: str = "mean") -> Op:
    """Squared error / 2 up to `delta`, a straight line beyond (Huber 1964)."""
    xp = namespace(x)
    e = x - target
    g = xp.minimum(xp.maximum(e, -delta), delta)  # its gradient; e * g - g * g / 2 is the loss in both branches
    y, c = _reduce(g * (e - 0.5 * g), reduction)
    return y, (lambda dy: unbroadcast(g * (dy * c), x.shape), lambda dy: unbroadcast(g * (dy * -c), target.shape))


def binary_cross_entropy_with_logits(z: Array, target: Array, reduction: str = "mean") -> Op:
    """-target * log(p) - (1 - target) * log(1 - p) of p = sigmoid(z), finite for any z."""
    xp = namespace(z)
    y, c = _reduce(xp.maximum(z, 0.0) - z * target + xp.log1p(xp.exp(-xp.abs(z))), reduction)
    return y, (lambda dy: (logistic(z) - target) * (dy * c), lambda dy: z * (dy * -c))


def binary_cross_entropy(p: Array, target: Array, reduction: str = "mean") -> Op:
    """Cross-entropy of probabilities; logarithms are kept above -100, as in PyTorch."""
    xp, q = namespace(p), 1.0 - p

    def log(v: Array) -> Array:
        some = v > 0.0
        return xp.where(some, xp.maximum(xp.log(xp.where(some, v, 1.0)), -100.0), -100.0)

    y, c = _reduce(-target * log(p) - (1.0 - target) * log(q), reduction)

    def dp(dy: Array) -> Array:
        return (p - target) / xp.maximum(p * q, 1e-12) * (dy * c)

    return y, (dp, lambda dy: (log(q) - log(p)) * (dy * c))


def cross_entropy(z: Array, target: Array, reduction: str = "mean") -> Op:
    """Cross-entropy of logits (n, c, ...) with class indices (n, ...) or probabilities (n, c, ...), averaged over n."""
    if len(target.shape) < len(z.shape):
        return _cross_entropy_of_classes(z, target, reduction)
    xp = namespace(z)
    z = z - constant(xp.max(z, axis=1, keepdims=True))
    e = xp.exp(z)
    s = xp.sum(e, axis=1, keepdims=True)
    log_p = z - xp.log(s)
    per = -xp.sum(target * xp.where(target != 0.0, log_p, 0.0), axis=1)  # the logit of probability 0 may be -inf
    y, c = _reduce(per, reduction)

    def each(dy: Array) -> Array:
        return namespace(dy).expand_dims(dy, axis=1) * c if reduction == "none" else dy * c

    def dz(dy: Array) -> Array:
        return (e / s * xp.sum(target, axis=1, keepdims=True) - target) * each(dy)

    return y, (dz, lambda dy: -log_p * each(dy))


def _cross_entropy_of_classes(z: Array, target: Array, reduction: str) -> Op:
    per, *kept = softmax_loss(z, target)
    y, c = _reduce(per, reduction)
    return y, (lambda dy: softmax_loss_back(z, target, dy, c, *kept), None)


def nll_loss(log_p: Array, target: Array, reduction: str = "mean") -> Op:
    """Minus the log-probability (n, c, ...) of the class index (n, ...)."""
    y, c = _reduce(picked(log_p, target), reduction)

    def dlog_p(dy: Array) -> Array:
        return hot(target, log_p) * (-c * (namespace(dy).expand_dims(dy, axis=1) if reduction == "none" else dy))

    return y, (dlog_p, None)


def kl_div(x: Array, target: Array, log_target: bool = False, reduction: str = "mean") -> Op:
    """The divergence target * (log(target) - x) of log-probabilities x; 0 where the target is 0."""
    xp = namespace(x)
    some = None if log_target else target != 0.0
    p = xp.exp(target) if log_target else target
    log_p = target if some is None else xp.log(xp.where(some, target, 1.0))
    d = log_p - x if some is None else log_p - xp.where(some, x, 0.0)
    y, c = _reduce(p * d, reduction)

    def dtarget(dy: Array) -> Array:
        slope = p * (d + 1.0) if some is None else xp.where(some, d + 1.0, 0.0)
        return slope * (dy * c)

    return y, (lambda dy: p * (dy * -c), dtarget)
