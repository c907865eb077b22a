"""Nets of several inputs and outputs: by name or place."""

import pytest
from feed_case import X, Y, fitted, random

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn, optim
from nnbackend.errors import ShapeError


class Two(nn.Module):
    def __init__(self):
        self.of_x, self.of_c = nn.Linear(4, 8), nn.Embedding(5, 8)
        self.kind, self.value = nn.Linear(8, 2), nn.Linear(8, 1)

    def forward(self, x, c):
        h = F.relu(self.of_x(x) + self.of_c(c))
        return {"kind": self.kind(h), "value": self.value(h)}


CATEGORY = random.integers(0, 5, 90)
TARGETS = {"kind": Y, "value": X[:, :1] * 2}


def two(**settings):
    losses = {"kind": "cross_entropy", "value": "mse"}
    return nb.Trainer(Two(), losses, optim.Adam(lr=0.01), {"kind": ["accuracy"]}, device="cpu", seed=0, **settings)


def test_inputs_by_name_or_place_outputs_by_name():
    a = fitted(two(loss_weights={"value": 0.5}), {"x": X, "c": CATEGORY}, TARGETS, validation_split=0.2)
    b = fitted(two(loss_weights={"value": 0.5}), (X, CATEGORY), TARGETS, validation_split=0.2)
    assert a.history.rows == b.history.rows
    row = a.evaluate((X, CATEGORY), TARGETS)
    assert list(row) == ["loss", "kind_loss", "value_loss", "kind_accuracy"]
    assert row["loss"] == pytest.approx(row["kind_loss"] + 0.5 * row["value_loss"], rel=1e-6)
    predicted = a.predict({"x": X, "c": CATEGORY})
    assert {name: y.shape for name, y in predicted.items()} == {"kind": (90, 2), "value": (90, 1)}


def test_one_input_by_name_and_one_of_the_outputs():
    class Named(nn.Linear):
        def forward(self, *, features):
            return {"kind": super().forward(features), "rest": ()}

    run = nb.Trainer(Named(4, 2), {"kind": "cross_entropy"}, metrics={"kind": "accuracy"}, device="cpu", seed=0)
    fitted(run, {"features": X}, {"kind": Y}, validation_data=({"features": X}, {"kind": Y}))
    assert run.history.columns[-2:] == ["val_kind_loss", "val_kind_accuracy"]
    assert run.predict({"features": X})["rest"] == ()


def test_several_outputs_train_on_the_sum_of_their_losses():
    def loss(output, target):
        return F.cross_entropy(output["kind"], target["kind"]) + 0.5 * F.mse_loss(output["value"], target["value"])

    own = nb.Trainer(Two(), loss, optim.Adam(lr=0.01), device="cpu", seed=0)
    fitted(own, (X, CATEGORY), TARGETS)
    named = fitted(two(loss_weights={"value": 0.5}), (X, CATEGORY), TARGETS)
    assert own.history["loss"] == pytest.approx(named.history["loss"], rel=1e-6)


def test_resume_with_several_outputs_is_exact(tmp_path):
    whole = fitted(two(clip_norm=0.5), (X, CATEGORY), TARGETS, epochs=4)
    part = two(clip_norm=0.5)
    fitted(part, (X, CATEGORY), TARGETS, epochs=2)
    part.save_checkpoint(tmp_path / "c.safetensors")
    again = nb.Trainer.resume(tmp_path / "c.safetensors", net=Two(), device="cpu")
    assert again.clip_norm == 0.5
    fitted(again, (X, CATEGORY), TARGETS, epochs=2)
    assert again.history["loss"] == whole.history["loss"]


def test_what_does_not_fit_the_outputs_is_named():
    with pytest.raises(ValueError, match=r"targets for 'kind', 'value', got 'kind'"):
        fitted(two(), (X, CATEGORY), {"kind": Y}, check=False)
    with pytest.raises(ShapeError, match="as many targets as rows"):
        fitted(two(), (X, CATEGORY[:50]), TARGETS)
    with pytest.raises(ValueError, match="loss_weights: expected weights of 'kind', 'value'"):
        two(loss_weights={"size": 1.0})
