"""Products of matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..backend import Array, affine, namespace, product, total
from ..errors import ShapeError
from .core import Op, axis_of, unbroadcast


def matmul(a: Array, b: Array) -> Op:
    """`a @ b` in all ranks: vectors, matrices, and stacks of matrices that broadcast."""
    y = product(a, b)
    if len(a.shape) == 2 and len(b.shape) == 2:
        return y, (lambda dy: product(dy, b.mT), lambda dy: product(a.mT, dy))

    def matrices(dy: Array) -> tuple[Array, Array, Array]:
        xp = namespace(dy)
        am = xp.reshape(a, (1, *a.shape)) if len(a.shape) == 1 else a
        bm = xp.reshape(b, (*b.shape, 1)) if len(b.shape) == 1 else b
        dy = xp.expand_dims(dy, axis=-1) if len(b.shape) == 1 else dy
        return am, bm, xp.expand_dims(dy, axis=-2) if len(a.shape) == 1 else dy

    def da(dy: Array) -> Array:
        am, bm, dy = matrices(dy)
        return namespace(dy).reshape(unbroadcast(product(dy, bm.mT), am.shape), a.shape)

    def db(dy: Array) -> Array:
        am, bm, dy = matrices(dy)
        return namespace(dy).reshape(unbroadcast(product(am.mT, dy), bm.shape), b.shape)

    return y, (da, db)


def linear(x: Array, w: Array, b: Array | None = None) -> Op:
    """Affine map (..., i), (o, i), (o,) -> (..., o): `x @ w.T + b`."""

    def rows(z: Array) -> Array:
        return namespace(z).reshape(z, (math.prod(z.shape[:-1]), z.shape[-1])) if len(z.shape) != 2 else z

    if not x.shape or x.shape[-1] != w.shape[-1]:
        raise ShapeError(f"expected input (..., {w.shape[-1]}), got {x.shape}")
    y = affine(rows(x), w, b)  # a stack of matrices as one: one large product
    if len(x.shape) == 2:
        return y, (lambda dy: product(dy, w), lambda dy: product(dy.T, x), lambda dy: total(dy, 0))
    return namespace(x).reshape(y, (*x.shape[:-1], w.shape[0])), (
        lambda dy: namespace(dy).reshape(product(rows(dy), w), x.shape),
        lambda dy: product(rows(dy).T, rows(x)),
        lambda dy: total(rows(dy), 0),
    )


def vecdot(a: Array, b: Array, axis: int = -1) -> Op:
    """Sum of products along `axis`."""

    def spread(dy: Array, other: Array, shape: tuple[int, ...]) -> Array:
        return unbroadcast(namespace(dy).expand_dims(dy, axis=axis) * other, shape)

    return namespace(a).vecdot(a, b, axis=axis), (
        lambda dy: spread(dy, b, a.shape),
        lambda dy: spread(dy, a, b.shape),
    )


# The two below are compositions: on Tensors the gradient comes from their parts.


def tensordot(a: Array, b: Array, axes: int | tuple[Sequence[int], Sequence[int]] = 2) -> Array:
    """Sum of products over `axes`: the last n of `a` with the first n of `b`, or two lists of axes."""
    na, nb = len(a.shape), len(b.shape)
    left, right = (range(na - axes, na), range(axes)) if isinstance(axes, int) else axes
    left, right = [axis_of(i, na) for i in left], [axis_of(i, nb) for i in right]
    if [a.shape[i] for i in left] != [b.shape[i] for i in right]:
        raise ShapeError(f"tensordot: expected equal lengths along the axes {axes}, got {a.shape} and {b.shape}")
    free_a, free_b = [i for i in range(na) if i not in left], [i for i in range(nb) if i not in right]
    xp, k = namespace(a), math.prod(a.shape[i] for i in left)
    shape = (*(a.shape[i] for i in free_a), *(b.shape[i] for i in free_b))
    rows = xp.reshape(xp.permute_dims(a, (*free_a, *left)), (math.prod(a.shape[i] for i in free_a), k))
    columns = xp.reshape(xp.permute_dims(b, (*right, *free_b)), (k, math.prod(b.shape[i] for i in free_b)))
    return xp.reshape(product(rows, columns), shape)


def einsum(subscripts: str, *operands: Array) -> Array:
    """Einstein summation, `"bij,bjk->bik"`: letters that do not appear in the result are summed over.

    Repeated letters in one operand take its diagonal; `...` stands for leading axes that broadcast.
    """
    if "..." in subscripts:
        return einsum(*_spelled_out(subscripts.replace(" ", ""), operands))
    inputs, output = _subscripts(subscripts, operands)
    terms = [_diagonal(x, letters) for x, letters in zip(operands, inputs, strict=True)]
    x, letters = terms[0]
    for i, (other, new) in enumerate(terms[1:], start=2):
        still_needed = set(output).union(*(later for _, later in terms[i:]))
        x, letters = _contract(x, letters, other, new, still_needed)
    xp = namespace(x)
    gone = tuple(i for i, c in enumerate(letters) if c not in output)
    x, letters = (xp.sum(x, axis=gone), "".join(c for c in letters if c in output)) if gone else (x, letters)
    return xp.permute_dims(x, tuple(letters.index(c) for c in output)) if letters != output else x


def _spelled_out(subscripts: str, operands: Sequence[Array]) -> tuple[Any, ...]:
    """Letters in place of `...`; an operand whose axis of length 1 broadcasts goes without it."""
    left, arrow, output = subscripts.partition("->")
    terms = left.split(",")
    extra = [len(x.shape) - len(t.replace("...", "")) for t, x in zip(terms, operands, strict=False)]
    free = [c for c in map(chr, range(ord("A"), ord("z") + 1)) if c.isalpha() and c not in subscripts]
    letters = "".join(free[: max(n for n, t in zip(extra, terms, strict=False) if "..." in t)])
    if not arrow:
        named = left.replace("...", "").replace(",", "")
        output = "..." + "".join(sorted(c for c in set(named) if named.count(c) == 1))
    spelled = [t.replace("...", letters[len(letters) - n :]) for t, n in zip(terms, extra, strict=False)]
    longest: dict[str, int] = {}
    for t, x in zip(spelled, operands, strict=False):
        for c, n in zip(t, x.shape, strict=False):
            longest[c] = max(n, longest.get(c, 1))
    slim = []
    for i, x in enumerate(operands):
        keep = [not (c in letters and n == 1 < longest[c]) for c, n in zip(spelled[i], x.shape, strict=False)]
        shape = tuple(n for n, k in zip(x.shape, keep, strict=False) if k)
        slim.append(x if all(keep) else namespace(x).reshape(x, shape))
        spelled[i] = "".join(c for c, k in zip(spelled[i], keep, strict=False) if k)
    return ",".join(spelled) + "->" + output.replace("...", letters), *slim


def _subscripts(subscripts: str, operands: Sequence[Array]) -> tuple[list[str], str]:
    left, arrow, output = subscripts.replace(" ", "").partition("->")
    inputs = left.split(",")
    if not all(c.isalpha() for c in "".join(inputs) + output):
        raise ValueError(f'einsum: expected letters, "," and "->", got {subscripts!r}.')
    if not arrow:
        output = "".join(sorted(c for c in set(left) - {","} if left.count(c) == 1))
    if len(inputs) != len(operands):
        raise ValueError(f"einsum: expected {len(inputs)} operands for {subscripts!r}, got {len(operands)}.")
    if len(set(output)) < len(output) or not set(output) <= set(left):
        raise ValueError(f"einsum: expected distinct letters of the inputs in the result, got {subscripts!r}.")
    lengths: dict[str, int] = {}
    for letters, x in zip(inputs, operands, strict=True):
        if len(letters) != len(x.shape) or any(
            lengths.setdefault(c, n) != n for c, n in zip(letters, x.shape, strict=True)
        ):
            shapes = ", ".join(str(x.shape) for x in operands)
            raise ShapeError(f"einsum: expected shapes that fit {subscripts!r}, got {shapes}")
    return inputs, output


def _diagonal(x: Array, letters: str) -> tuple[Array, str]:
    """Bring repeated letters together and keep every (n + 1)-th element of the two axes seen as one."""
    xp = namespace(x)
    for c in dict.fromkeys(letters):
        while letters.count(c) > 1:
            i = letters.index(c)
            j = letters.index(c, i + 1)
            n = x.shape[i]
            rest = [k for k in range(len(letters)) if k not in (i, j)]
            x = xp.permute_dims(x, (*rest, i, j))
            x = xp.reshape(x, (*x.shape[:-2], n * n))[..., :: n + 1]
            letters = "".join(letters[k] for k in rest) + c
    return x, letters


def _contract(a: Array, la: str, b: Array, lb: str, needed: set[str]) -> tuple[Array, str]:
    """One matrix product of two operands: shared letters still needed are its batch, the others are summed over."""
    xp = namespace(a)
    for_good_a = tuple(i for i, c in enumerate(la) if c not in lb and c not in needed)
    for_good_b = tuple(i for i, c in enumerate(lb) if c not in la and c not in needed)
    a = xp.sum(a, axis=for_good_a) if for_good_a else a
    b = xp.sum(b, axis=for_good_b) if for_good_b else b
    la = "".join(c for i, c in enumerate(la) if i not in for_good_a)
    lb = "".join(c for i, c in enumerate(lb) if i not in for_good_b)
    batch = [c for c in la if c in lb and c in needed]
    summed = [c for c in la if c in lb and c not in needed]
    rows, columns = [c for c in la if c not in lb], [c for c in lb if c not in la]
    length = {**dict(zip(la, a.shape, strict=True)), **dict(zip(lb, b.shape, strict=True))}

    def arranged(x: Array, letters: str, *blocks: list[str]) -> Array:
        order = tuple(letters.index(c) for block in blocks for c in block)
        return xp.reshape(xp.permute_dims(x, order), tuple(math.prod(length[c] for c in block) for block in blocks))

    y = product(arranged(a, la, batch, rows, summed), arranged(b, lb, batch, summed, columns))
    letters = batch + rows + columns
    return xp.reshape(y, tuple(length[c] for c in letters)), "".join(letters)
