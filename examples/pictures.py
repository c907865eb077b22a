"""Pictures of what came out, drawn by matplotlib: pip install "nnbackend[plot]"."""

from nnbackend import plots
from nnbackend.plots.figure import figure as empty


def grid(path, images, titles=(), columns=10):
    """Grey images (n, height, width) on one scale, dark where high, in rows of `columns`, with a title each."""
    save(path, plots.images, images, titles if len(titles) else None, columns)


def curves(path, x, lines, xlabel, ylabel, log=False):
    """One line for each name in `lines`, over the common `x`."""
    save(path, _curves, x, lines, xlabel, ylabel, log)


def _curves(x, lines, xlabel, ylabel, log):
    figure = empty(6, 4)
    axes = figure.add_subplot()
    for name, y in lines.items():
        axes.plot(x, y, label=name)
    axes.set(xlabel=xlabel, ylabel=ylabel, yscale="log" if log else "linear")
    axes.legend()
    return figure


def save(path, draw, *args, dpi=150, **settings):
    """Write the figure that `draw` makes."""
    try:
        figure = draw(*args, **settings)
    except ImportError as error:
        raise SystemExit(str(error)) from None
    figure.savefig(path, dpi=dpi)
    print(f"picture: {path}")
