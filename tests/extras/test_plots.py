"""Figures: what is in them, from what, and what cannot be drawn."""

import io
import math
import pickle
import sys

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib.figure import Figure
from PIL import Image

import nnbackend as nb
from nnbackend import callbacks, data, nn, plots
from nnbackend.errors import DataError, LabelError, ShapeError

ROWS = [
    {"epoch": 1, "loss": 3.0},
    {"epoch": 2, "loss": 2.0, "accuracy": 0.5, "val_loss": 2.5, "val_accuracy": 0.4, "note": "x"},
    {"epoch": 3, "loss": 0.5, "accuracy": 0.75, "val_loss": 2.75, "val_accuracy": 0.5},
]
X = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [2.0, 2.0]])


@pytest.fixture(autouse=True)
def no_windows():
    yield
    assert "matplotlib.pyplot" not in sys.modules


@pytest.fixture
def history():
    made = nb.History()
    for row in ROWS:
        made.append(row)
    return made


def drawn(figure):
    """It can be drawn, with no complaint about its layout."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=30)
    assert buffer.getvalue().startswith(b"\x89PNG")
    return figure


def fitted(epochs=2, **given):
    points, y = data.moons(40)
    trainer = nb.Trainer(nn.MLP([2, 8, 2]), "cross_entropy", nb.optim.Adam(lr=0.05), device="cpu", seed=0)
    trainer.fit(points, y, epochs, verbose=False, **given)
    return trainer, points, y


def test_learning_curves(history):
    figure = drawn(history.plot())
    assert isinstance(figure, Figure)
    losses, accuracies = figure.axes
    assert [panel.get_title() for panel in figure.axes] == ["loss", "accuracy"]
    lines = {line.get_label(): line for line in losses.lines}
    assert list(lines) == ["loss", "val_loss", "best val_loss 2.5, epoch 2"]
    assert lines["val_loss"].get_xydata().tolist() == [[2, 2.5], [3, 2.75]]
    assert list(lines["best val_loss 2.5, epoch 2"].get_xdata()) == [2, 2]
    assert lines["loss"].get_color() != lines["val_loss"].get_color()
    assert (losses.get_yscale(), losses.get_xlabel()) == ("linear", "epoch")
    assert len(accuracies.lines) == 3
    assert [t.get_text() for t in accuracies.get_legend().get_texts()] == ["accuracy", "val_accuracy"]


def test_learning_curves_of_columns():
    figure = plots.history({"loss": [100.0, math.nan, 1.0, None], "lr": [1, 1, 1, 1]}, names=["loss"])
    (panel,) = figure.axes
    assert panel.get_yscale() == "log"
    assert panel.lines[0].get_xdata().tolist() == [1, 2, 3]
    assert panel.lines[1].get_label() == "best loss 1, epoch 3"
    assert len(plots.history({f"m{i}": [1, 2] for i in range(5)}).axes) == 5
    with pytest.raises(ValueError, match="Call fit first"):
        plots.history(nb.History())


def test_notebooks_show_figures_and_pickles_keep_them(history):
    figure = history.plot()
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert len(pickle.loads(pickle.dumps(figure))._repr_png_()) > 1000


def test_confusion_matrix():
    counts = [[8, 2], [0, 0]]
    figure = drawn(plots.confusion_matrix(counts, ["cat", "a long name"]))
    axes = figure.axes[0]
    assert [t.get_text() for t in axes.texts] == ["8", "2", "0", "0"]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["cat", "a long name"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    assert axes.get_title() == "8 of 10 right (80.0%)"
    np.testing.assert_allclose(axes.images[0].get_array(), [[0.8, 0.2], [0, 0]])
    assert axes.texts[0].get_color() == "white"
    many = plots.confusion_matrix([[1_234_567, 0.25], [0, 0]]).axes[0]
    assert [t.get_text() for t in many.texts] == ["1,234,567", "0.25", "0", "0"]
    shares = plots.confusion_matrix(nb.tensor(counts), normalize=True).axes[0]
    assert [t.get_text() for t in shares.texts] == ["80%", "20%", "0%", "0%"]


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        (([[1, 2]],), ShapeError, r"\(classes, classes\), got \(1, 2\)"),
        (([[1, 2], [3]],), ShapeError, "unequal lengths"),
        (([[1, -2], [3, 4]],), ValueError, "negative"),
        (([[1, 2], [3, 4]], ["a"]), ShapeError, "2 labels, got 1"),
    ],
)
def test_confusion_matrix_refuses(args, error, message):
    with pytest.raises(error, match=message):
        plots.confusion_matrix(*args)


def regions(figure):
    """The colours of the regions at the data, and of the points, by label."""
    axes = figure.axes[0]
    (image,) = axes.images
    left, right, bottom, top = image.get_extent()
    pixels, found = image.get_array(), {}
    for points in axes.collections:
        if points.get_label().startswith("_") or not len(points.get_offsets()):
            continue
        where = (np.asarray(points.get_offsets()) - [left, bottom]) / [right - left, top - bottom]
        rows, columns = (where * len(pixels)).astype(int).T[::-1]
        paper = 1 - np.asarray(points.get_facecolor())[0, :3]
        under = 1 - pixels[rows, columns]
        found[points.get_label()] = under @ paper / np.linalg.norm(under, axis=1) / np.linalg.norm(paper)
    return found


class Sign:
    """An estimator: above the diagonal x + y = 1.5 is "b"."""

    classes_ = np.array(["a", "b"])

    def predict(self, points):
        return self.classes_[(points.sum(axis=1) > 1.5).astype(int)]


class Sure(Sign):
    def predict_proba(self, points):
        p = 1 / (1 + np.exp(1.5 - points.sum(axis=1)))
        return np.stack([1 - p, p], axis=1)


class Far(Sign):
    def decision_function(self, points):
        return points.sum(axis=1) - 1.5


def net():
    linear = nn.Linear(2, 1)
    linear.load_state_dict({"weight": nb.tensor([[1.0, 1.0]]), "bias": nb.tensor([-1.0])})
    return linear


TEXT = ["a", "a", "a", "b"]
MODELS = {
    "predict": (Sign(), TEXT),
    "predict_proba": (Sure(), TEXT),
    "decision_function": (Far(), TEXT),
    "module": (net(), [0, 0, 0, 1]),
    "function": (lambda points: points @ np.array([[0.0, 1.0]] * 2) - [1.5, 3.0], [0, 0, 0, 1]),
    "one output": (lambda points: points[:, :1] / 2, [0.0, 0.0, 0.0, 1.0]),
    "one-hot": (
        lambda points: np.stack([1.5 - points.sum(axis=1), points.sum(axis=1) - 1.5], axis=1),
        np.eye(2)[[0, 0, 0, 1]],
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_points_lie_on_their_own_colour(name):
    model, y = MODELS[name]
    figure = plots.decision_boundary(model, X, y, resolution=40)
    found = regions(figure)
    assert list(found) == (["a", "b"] if y is TEXT else ["0", "1"])
    assert all((alike > 0.99).all() for alike in found.values())


def test_the_boundary_of_a_trainer_names_classes_and_features():
    trainer, points, y = fitted(30)
    names = ["up", "down"]
    figure = drawn(plots.decision_boundary(trainer, points, y, labels=names, features=["x", "y"]))
    axes = figure.axes[0]
    assert [t.get_text() for t in axes.get_legend().get_texts()] == names
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x", "y")
    right = trainer.predict(points).argmax(axis=1) == y
    found = np.concatenate([regions(figure)[n] for n in names])
    right = np.concatenate([right[y == k] for k in (0, 1)])
    assert right.sum() >= 30
    assert ((found > 0.9) == right).mean() > 0.95  # but for those beside the line


@pytest.mark.parametrize("loss", ["bce_with_logits", nn.BCEWithLogitsLoss()], ids=["name", "layer"])
def test_logits_have_their_boundary_at_zero(loss):
    trainer = nb.Trainer(net(), loss, device="cpu")
    axes = plots.decision_boundary(trainer, X, [0, 0, 0, 1], resolution=41).axes[0]
    (line,) = (c for c in axes.collections if hasattr(c, "levels"))
    np.testing.assert_allclose(np.concatenate(line.allsegs[0]).sum(axis=1), 1, atol=1e-5)


def test_tensors_and_float32_stay_what_they_are():
    kinds = []

    def model(points):
        kinds.append((type(points), points.dtype))
        return points[:, 0] / 2

    for given in (nb.tensor(X, "float32"), X.astype("float32"), X.tolist()):
        plots.decision_boundary(model, given, [0, 0, 1, 1], resolution=10)
    assert kinds == [(nb.Tensor, np.float32), (np.ndarray, np.float32), (np.ndarray, np.float64)]


def test_dropout_is_off_in_pictures():
    net = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.9))
    a, b = (plots.decision_boundary(net, X, [0, 0, 1, 1], resolution=20).axes[0].images[0].get_array() for _ in "ab")
    np.testing.assert_array_equal(a, b)
    assert net.training


def test_a_regression_is_a_map_of_values():
    y = [0.5, 1.5, 0.25, 4.0]
    figure = drawn(plots.decision_boundary(lambda points: points.sum(axis=1), X, y, resolution=30))
    axes, bar = figure.axes
    image, points = axes.images[0], axes.collections[-1]
    assert image.get_array()[0, 0] == pytest.approx(2 * (-0.16 + 2.32 / 60))
    assert points.get_array().tolist() == y
    assert image.get_clim() == points.get_clim() == (0.25, 4.0)
    assert bar.get_label() == "<colorbar>"
    whole = plots.decision_boundary(lambda points: points.sum(axis=1), X, [0, 1, 1, 4], classes=False, resolution=10)
    assert len(whole.axes) == 2


def test_more_classes_than_the_palette_has():
    y = np.arange(12)
    points = np.stack([y, y % 3], axis=1)
    figure = plots.decision_boundary(lambda p: -np.abs(p[:, :1] - y), points, y, resolution=40)
    assert len(regions(figure)) == 12


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: plots.decision_boundary(Sign(), np.ones((4, 3)), TEXT), ShapeError, r"two features, got \(4, 3\)"),
        (lambda: plots.decision_boundary(Sign(), X * math.nan, TEXT), DataError, "finite numbers"),
        (lambda: plots.decision_boundary(Sign(), X, X + 0.5), ShapeError, "one target a row, or one-hot rows"),
        (lambda: plots.decision_boundary(Sign(), X, TEXT[:3]), ShapeError, r"row of X \(4\), got 3"),
        (lambda: plots.decision_boundary(Sign(), X, ["a", "a", "a", "c"]), LabelError, r"model \(a, b\), got c too"),
        (lambda: plots.decision_boundary(Sign(), X, TEXT, labels="abc"), ShapeError, "labels: expected 2, got 3"),
        (lambda: plots.decision_boundary(Sign(), X, TEXT, features="x"), ValueError, "two names, got 1"),
        (lambda: plots.decision_boundary(Sign(), X, TEXT, resolution=1), ValueError, "at least 2"),
        (lambda: plots.decision_boundary("net", X, TEXT), TypeError, "a Trainer or a function, got str"),
        (lambda: plots.decision_boundary(lambda p: p[:3], X, TEXT), ShapeError, "outputs .* for 40000 rows"),
        (lambda: plots.decision_boundary(lambda p: p, X, ["a", "b", "c", "a"]), LabelError, "2 classes, .* got 3"),
        (lambda: plots.BoundaryFrames(X, TEXT).save("x.gif"), ValueError, "Call add"),
    ],
)
def test_boundaries_refuse(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_weights():
    net = nn.Sequential(nn.Conv2d(1, 5, 3), nn.Conv2d(5, 20, 2), nn.Flatten(), nn.Linear(6, 4)).init(0)
    figure = drawn(plots.weights(net))
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert [p.get_title() for p in panels] == [
        "0.weight\n5 x 1 x 3 x 3",
        "1.weight\n20 x 5 x 2 x 2, part",
        "3.weight\n4 x 6",
    ]
    first, second, last = (p.images[0].get_array() for p in panels)
    assert (first.shape, second.shape) == ((7, 11), (47, 14))
    np.testing.assert_array_equal(first[4:, 4:7], net[0].weight.numpy()[4, 0])
    np.testing.assert_array_equal(last, net[3].weight.numpy())
    low, high = panels[2].images[0].get_clim()
    assert low == -high
    with pytest.raises(ValueError, match="weight matrices, got ReLU"):
        plots.weights(nn.ReLU())


def test_activations():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)).double()
    net.load_state_dict({
        "0.weight": nb.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]), "0.bias": nb.tensor([0.0, -1.0, 0.0]),
        "2.weight": nb.tensor([[1.0, 1.0, 1.0]]), "2.bias": nb.tensor([0.0]),
    })  # fmt: skip
    panels = [axes for axes in drawn(plots.activations(net, X)).axes if axes.get_title()]
    assert [p.get_title() for p in panels] == [
        "0 Linear\n3 units, 33% dead", "1 ReLU\n3 units, 33% dead", "2 Linear\n1 units, 0% dead",
    ]  # fmt: skip
    np.testing.assert_array_equal(panels[1].images[0].get_array(), [[0, 0, 0], [1, 0, 0], [0, 0, 1], [2, 0, 2]])
    counted = plots.activations(net, X.astype("float32"), "histogram").axes
    assert [sum(bar.get_height() for bar in axes.patches) for axes in counted] == [12, 12, 4]
    with pytest.raises(ValueError, match="image, histogram, got 'bars'"):
        plots.activations(net, X, "bars")


def test_activations_of_images_are_tiles():
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(12, 2)).init(0)
    x = np.random.default_rng(0).normal(size=(2, 1, 4, 4)).astype("float32")
    panels = [axes for axes in plots.activations(net, x).axes if axes.get_title()]
    np.testing.assert_array_equal(panels[0].images[0].get_array()[:2, 3:5], net[0](x).numpy()[0, 1])
    assert np.isnan(panels[0].images[0].get_array()[3:, 3:].data).all()


def test_images():
    x = np.random.default_rng(0).uniform(size=(4, 4, 5))
    figure = drawn(plots.images(x, range(4)))
    assert [axes.get_title() for axes in figure.axes] == [str(i) for i in range(4)]
    assert {axes.images[0].get_clim() for axes in figure.axes} == {(x.min(), x.max())}
    np.testing.assert_array_equal(figure.axes[3].images[0].get_array(), x[3])
    assert len(plots.images(nb.tensor(x[:, None])).axes) == 4
    coloured = plots.images(np.moveaxis(np.stack([x] * 3, axis=-1), -1, 1)).axes[0].images[0].get_array()
    assert coloured.shape == (4, 5, 3)
    with pytest.raises(ShapeError, match=r"X\.reshape\(-1, 8, 8\)"):
        plots.images(np.ones((3, 64)))
    with pytest.raises(ShapeError, match="4 labels, got 1"):
        plots.images(x, [1])


def test_without_matplotlib_the_extra_is_named(history, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for call in (
        history.plot,
        lambda: plots.confusion_matrix([[1]]),
        lambda: plots.decision_boundary(Sign(), X, TEXT),
        lambda: plots.weights(nn.Linear(2, 1)),
        lambda: callbacks.LivePlot(tmp_path / "a.png"),
        lambda: callbacks.BoundaryAnimation(X, TEXT, tmp_path / "a.gif"),
    ):
        with pytest.raises(ImportError, match=r'expected matplotlib, got none\. .*pip install "nnbackend\[plot\]"'):
            call()
    assert "loss" in history.chart()


def test_frames_of_a_loop_of_ones_own(tmp_path):
    frames = plots.BoundaryFrames(X, [0.0, 1.0, 2.0, 4.0])
    for factor in (0, 1, 2):
        frames.add(lambda points, factor=factor: factor * points.sum(axis=1), title=str(factor))
    frames.save(tmp_path / "values.gif", seconds=0.5, last=1)
    assert len(frames) == 3
    with Image.open(tmp_path / "values.gif") as gif:
        assert (gif.n_frames, gif.info["duration"]) == (3, 500)
