"""Lines of the op table: linear algebra."""

import math

import numpy as np
from op_line import drawing, line, normal, spaced

import nnbackend as nb

linalg = nb.linalg
matrix = drawing(lambda rng, shape: rng.standard_normal(shape) + 3.0 * np.eye(shape[-1]))  # far from singular


def positive_definite(xp, x):
    """From any matrix: what a Cholesky factor may be taken of."""
    return xp.matmul(x, xp.matrix_transpose(x)) + xp.matmul(xp.matrix_transpose(x), x)


for shape in ((3, 3), (2, 4, 4), (1, 1), (0, 2, 2)):
    line("inv", matrix(*shape), op=linalg.inv, ref=np.linalg.inv, equal=False)
    line("det", matrix(*shape), op=linalg.det, ref=np.linalg.det, equal=False)
    line(
        "slogdet", matrix(*shape), op=lambda x: linalg.slogdet(x)[1], ref=lambda x: np.linalg.slogdet(x)[1], equal=False
    )
    for upper in (False, True):
        line("cholesky", matrix(*shape), upper=upper, equal=False,
             op=lambda x, upper: linalg.cholesky(positive_definite(nb, x), upper=upper),
             ref=lambda x, upper: np.linalg.cholesky(positive_definite(np, x), upper=upper))  # fmt: skip
SOLVED = [((3, 3), (3, 2)), ((3, 3), (3,)), ((2, 3, 3), (2, 3, 1)), ((2, 3, 3), (3, 2)), ((3, 3), (2, 3, 2))]
for a, b in [*SOLVED, ((2, 3, 3), (3,)), ((3, 3, 3), (3,))]:
    line("solve", matrix(*a), normal(*b), op=linalg.solve, ref=np.linalg.solve, equal=False)
for ord in (2.0, 1, 3.0, 1.5, math.inf, -math.inf):
    for axis, keepdims in ((None, False), (1, True), ((0, 2), False)):
        line("vector_norm", spaced(2, 3, 4), op=linalg.vector_norm, ref=np.linalg.vector_norm,
             ord=ord, axis=axis, keepdims=keepdims)  # fmt: skip
for ord in ("fro", 1, -1, math.inf, -math.inf):
    line("matrix_norm", spaced(2, 3, 4), op=linalg.matrix_norm, ref=np.linalg.matrix_norm, ord=ord)
    line("matrix_norm", spaced(3, 2, 4), op=linalg.matrix_norm, ord=ord, axis=(0, 2), keepdims=True,
         ref=lambda x, **kw: np.linalg.norm(x.astype(float), **kw).astype(x.dtype))  # fmt: skip
for ord, axis in ((None, None), (1, None), (None, 0), (math.inf, (0, 1)), (3.0, 1)):
    line("norm", spaced(3, 4), op=linalg.norm, ref=np.linalg.norm, ord=ord, axis=axis)
for n in (0, 2, 5, -1, -2):
    line("matrix_power", matrix(2, 3, 3), n, op=linalg.matrix_power, ref=np.linalg.matrix_power, equal=False)
for offset in (0, 1, -1, 3, -5):
    line("diagonal", normal(2, 3, 4), op=linalg.diagonal, ref=np.linalg.diagonal, offset=offset, view=True)
    line("trace", normal(2, 3, 4), op=linalg.trace, ref=np.linalg.trace, offset=offset)
for offset in (0, 2, -1):
    line("diag", normal(3), offset, op=nb.diag, ref=np.diag)
    line("diag", normal(3, 4), offset, op=nb.diag, ref=np.diag, view=True)
line("outer", normal(3), normal(2), op=linalg.outer, ref=np.outer)
line("cross", normal(2, 3), normal(2, 3), op=linalg.cross, ref=np.cross)
line("cross", normal(3, 2), normal(3, 2), op=linalg.cross, axis=0, ref=lambda a, b, axis: np.cross(a, b, axis=axis))
