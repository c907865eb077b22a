"""Pictures of what came out, drawn by matplotlib: pip install "nnbackend[plot]"."""

import math


def grid(path, images, titles=(), columns=10):
    """Grey images (n, height, width) on one scale, dark where high, in rows of `columns`, with a title each."""
    low, high = images.min(), images.max()
    rows = math.ceil(len(images) / columns)
    figure = _figure(columns, 1.3 * rows)
    for i, image in enumerate(images):
        axes = figure.add_subplot(rows, columns, i + 1)
        axes.imshow(image, cmap="gray_r", vmin=low, vmax=high)
        axes.set_axis_off()
        axes.set_title(titles[i] if len(titles) else "", fontsize=8)
    _save(figure, path)


def curves(path, x, lines, xlabel, ylabel, log=False):
    """One line for each name in `lines`, over the common `x`."""
    figure = _figure(6, 4)
    axes = figure.add_subplot()
    for name, y in lines.items():
        axes.plot(x, y, label=name)
    axes.set(xlabel=xlabel, ylabel=ylabel, yscale="log" if log else "linear")
    axes.legend()
    _save(figure, path)


def _figure(width, height):
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise SystemExit('--picture: expected matplotlib. Install it: pip install "nnbackend[plot]"') from None
    return Figure(figsize=(width, height), layout="constrained")


def _save(figure, path):
    figure.savefig(path, dpi=150)
    print(f"picture: {path}")
