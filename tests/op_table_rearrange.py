"""Lines of the op table: padding, and the same elements in other places."""

import numpy as np
from op_line import line, normal

MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def np_pad(x, pad, mode="constant", value=None):
    """Cut off, then padded by NumPy."""
    pairs = [(0, 0)] * (x.ndim - len(pad) // 2) + [pad[i : i + 2] for i in range(len(pad) - 2, -1, -2)]
    x = x[tuple(slice(max(-a, 0), n - max(-b, 0)) for n, (a, b) in zip(x.shape, pairs, strict=True))]
    extra = {"constant_values": value or 0.0} if mode == "constant" else {}
    return np.pad(x, [(max(a, 0), max(b, 0)) for a, b in pairs], MODES[mode], **extra)


for pad in ((1, 2), (0, 3, 2, 1), (-1, 2, 1, -1), (1, 0, 0, 0, 0, 2)):
    line("pad", normal(2, 3, 4, 5), ref=np_pad, pad=pad)
line("pad", normal(2, 3), ref=np_pad, pad=(-1, -1), view=True)
line("pad", normal(2, 0, 3), ref=np_pad, pad=(1, 1), value=1.5)
for mode in ("reflect", "replicate", "circular"):
    for shape, pad in (((2, 5), (1, 3)), ((2, 3, 4), (2, 0)), ((2, 3, 4, 5), (3, 1, 2, -1)), ((0, 2, 3), (1, 2))):
        line("pad", normal(*shape), ref=np_pad, pad=pad, mode=mode)
    line("pad", normal(2, 3, 4, 3, 3), ref=np_pad, pad=(1, 1, 2, 0, 0, 1), mode=mode)


def np_pixel_shuffle(x, upscale_factor):
    r = upscale_factor
    y = np.zeros((*x.shape[:-3], x.shape[-3] // r**2, x.shape[-2] * r, x.shape[-1] * r))
    for i in range(r):
        for j in range(r):
            y[..., i::r, j::r] = x[..., i * r + j :: r * r, :, :]
    return y


def np_pixel_unshuffle(x, downscale_factor):
    r = downscale_factor
    y = np.zeros((*x.shape[:-3], x.shape[-3] * r**2, x.shape[-2] // r, x.shape[-1] // r))
    for i in range(r):
        for j in range(r):
            y[..., i * r + j :: r * r, :, :] = x[..., i::r, j::r]
    return y


for shape in ((2, 8, 3, 2), (4, 2, 3), (2, 1, 4, 1, 2), (0, 4, 2, 2)):
    line("pixel_shuffle", normal(*shape), ref=np_pixel_shuffle, upscale_factor=2, view=True)
for shape in ((2, 3, 4, 6), (2, 4, 2), (2, 1, 1, 2, 2), (0, 1, 2, 4)):
    line("pixel_unshuffle", normal(*shape), ref=np_pixel_unshuffle, downscale_factor=2, view=True)
for shape in ((2, 6, 3, 2), (2, 6, 3), (0, 3, 1, 1, 2)):
    line("channel_shuffle", normal(*shape), groups=3, view=True,
         ref=lambda x, groups: np.concatenate([x[:, i :: x.shape[1] // groups] for i in range(x.shape[1] // groups)],
                                              axis=1))  # fmt: skip
