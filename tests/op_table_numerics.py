"""Lines of the op table: running results, picking along an axis, windows and what else the standard lacks."""

import numpy as np
from op_line import Draw, line, normal, spaced, whole

import nnbackend as nb

zeros = Draw((2, 4, 3), lambda rng, s: rng.standard_normal(s) * (rng.random(s) > 0.4))  # with one and with more zeros

# -- running results ------------------------------------------------------------------------------------------------

for axis, include_initial in ((0, False), (1, True), (-1, False)):
    line("cumulative_prod", normal(2, 4, 3), axis=axis, include_initial=include_initial)
line("cumulative_prod", normal(5))
line("cumulative_prod", normal(0, 3), axis=0)
line("cumulative_prod", normal(1, 3), axis=0)
line("cumulative_prod", zeros, axis=1)
for axis in (0, 1, -1):
    line("logcumsumexp", normal(2, 5, 3), axis=axis, ref=lambda x, axis: np.logaddexp.accumulate(x, axis=axis))
    line("cummax", spaced(2, 5, 3), axis=axis, op=lambda x, axis: nb.cummax(x, axis)[0],
         ref=lambda x, axis: np.maximum.accumulate(x, axis=axis))  # fmt: skip
    line("cummin", spaced(2, 5, 3), axis=axis, op=lambda x, axis: nb.cummin(x, axis)[0],
         ref=lambda x, axis: np.minimum.accumulate(x, axis=axis))  # fmt: skip

# -- picking --------------------------------------------------------------------------------------------------------

for k, axis, largest in ((2, -1, True), (3, 0, True), (1, 1, False), (0, -1, True)):

    def best(x, k, axis, largest):
        order = np.sort(-x if largest else x, axis=axis).take(range(k), axis)
        return -order if largest else order

    line("topk", spaced(3, 4, 5), k=k, axis=axis, largest=largest, op=lambda x, **kw: nb.topk(x, **kw)[0], ref=best)


def put(x, i, v, axis, add=False):
    y = x.copy()
    for place in np.ndindex(i.shape):
        row = (*place[:axis], i[place], *place[axis + 1 :])
        y[row] = np.broadcast_to(v, i.shape)[place] + (y[row] if add else 0.0)
    return y


distinct = Draw((3, 2), lambda rng, s: np.stack([rng.permutation(4)[: s[1]] for _ in range(s[0])]))
line("put_along_axis", normal(3, 4), distinct, normal(3, 2), axis=1, ref=put, strict=False)
line("put_along_axis", normal(3, 4), distinct, normal(3, 1), axis=1, ref=put, strict=False)
for axis in (0, 1):

    def added(x, i, v, axis):
        return put(x, i, v, axis, add=True)

    line("add_along_axis", normal(3, 3), whole(3, 3, 3), normal(3, 3), axis=axis, ref=added)
line("add_along_axis", normal(2, 3), whole(3, 2, 5, negative=True), normal(1, 5), axis=1, ref=added)
line("index_select", normal(3, 4), 1, whole(4, 6), ref=lambda x, axis, i: np.take(x, i, axis))
line("index_add", normal(3, 4), 1, whole(4, 6), normal(3, 6), alpha=0.5,
     ref=lambda x, axis, i, v, alpha: x + alpha * v @ np.eye(4)[i])  # fmt: skip

# -- shapes and values ----------------------------------------------------------------------------------------------

line("lerp", normal(2, 3), normal(2, 3), 0.3, ref=lambda a, b, w: (1 - w) * a + w * b)
line("nan_to_num", normal(2, 3))
line("swapaxes", normal(2, 3, 4), 0, -1, view=True)
for chunks, axis, cuts in ((2, 0, [2]), (2, 1, [3]), (5, 1, [1, 2, 3, 4])):
    line("chunk", normal(3, 5), op=lambda x, n=chunks, axis=axis: nb.chunk(x, n, axis)[-1], view=True,
         ref=lambda x, cuts=cuts, axis=axis: np.split(x, cuts, axis)[-1])  # fmt: skip
for size, step in ((3, 1), (2, 2), (2, 3), (7, 1)):
    line("unfold", normal(2, 7, 3), 1, size, step, op=nb.unfold,
         ref=lambda x, a, n, s: np.lib.stride_tricks.sliding_window_view(x, n, a)[:, ::s])  # fmt: skip
for subscripts, *shapes in (
    ("...ij,...jk->...ik", (2, 3, 4), (4, 2)), ("...i,...i", (2, 1, 3), (4, 3)), ("i...->...", (3, 2)),
):  # fmt: skip
    line("einsum", *(normal(*s) for s in shapes), op=lambda *x, s=subscripts: nb.einsum(s, *x),
         ref=lambda *x, s=subscripts: np.einsum(s, *x))  # fmt: skip
