"""Weights that are computed from other parameters."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import nnbackend as nb
from nnbackend import nn, optim
from nnbackend.errors import ShapeError
from nnbackend.nn.utils import parameters_to_vector, parametrize, vector_to_parameters
from nnbackend.nn.utils.parametrizations import spectral_norm, weight_norm
from nnbackend.tensor import Tensor

BOTH = pytest.mark.parametrize("make", [weight_norm, spectral_norm])


def layer(seed: int = 0) -> nn.Linear:
    return nn.Linear(5, 3, dtype="float64").init(seed)


def data() -> Tensor:
    return nb.tensor(np.random.default_rng(0).standard_normal((7, 5)), dtype="float64")


@pytest.mark.parametrize("dim", [0, 1, -1, None])
def test_weight_norm_is_length_and_direction(dim: int | None) -> None:
    plain, net = layer(), weight_norm(layer(), dim=dim)
    np.testing.assert_allclose(net.weight.numpy(), plain.weight.numpy())
    entry: Any = net.parametrizations.weight
    axis = {0: 1, 1: 0}.get(-1 if dim is None else dim)
    length = np.sqrt(np.sum(plain.weight.numpy() ** 2, axis=axis, keepdims=axis is not None))
    np.testing.assert_allclose(entry.original0.numpy(), length)
    entry.original1.assign(entry.original1 * 2.0)
    np.testing.assert_allclose(net.weight.numpy(), plain.weight.numpy())
    entry.original0.assign(entry.original0 * 2.0)
    np.testing.assert_allclose(net.weight.numpy(), 2.0 * plain.weight.numpy())


def test_spectral_norm_divides_by_the_largest_singular_value() -> None:
    net = spectral_norm(layer(), n_power_iterations=50)
    net(data())
    values = np.linalg.svd(net.parametrizations.weight.original.numpy())[1]
    np.testing.assert_allclose(np.linalg.svd(net.weight.numpy())[1], values / values[0])
    bias = layer().bias.numpy()
    np.testing.assert_allclose(spectral_norm(layer(), "bias").bias.numpy(), bias / np.linalg.norm(bias))


def test_power_iteration_is_for_training() -> None:
    net = spectral_norm(layer())
    net.parametrizations.weight.original.assign(nb.tensor(np.arange(15.0).reshape(3, 5)))
    before = net.parametrizations.weight.state_dict()
    net.eval()(data())
    assert (net.parametrizations.weight.state_dict()["0._u"] == before["0._u"]).all()
    net.train()(data())
    assert not (net.parametrizations.weight.state_dict()["0._u"] == before["0._u"]).all()


def test_names_are_pytorchs() -> None:
    where = "parametrizations.weight"
    assert list(weight_norm(layer()).state_dict()) == ["bias", f"{where}.original0", f"{where}.original1"]
    assert list(spectral_norm(layer()).state_dict()) == ["bias", f"{where}.original", f"{where}.0._u", f"{where}.0._v"]
    assert [n for n, _ in spectral_norm(layer()).named_parameters()] == ["bias", f"{where}.original"]
    assert "ParametrizedLinear" in repr(weight_norm(layer()))
    assert isinstance(weight_norm(layer()), nn.Linear)


@BOTH
def test_copies_pickles_and_state_dicts(make: Any) -> None:
    net = make(layer()).eval()
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert type(twin) is type(net)
        np.testing.assert_array_equal(twin.weight.numpy(), net.weight.numpy())
    other = make(layer(1)).eval()
    other.load_state_dict(net.state_dict())
    np.testing.assert_array_equal(other(data()).numpy(), net(data()).numpy())
    with nb.no_grad():
        for p in twin.parameters():
            p.assign(p * 0.5)
    assert not np.array_equal(twin(data()).numpy(), net(data()).numpy())


@BOTH
def test_init_draws_what_the_layer_would(make: Any) -> None:
    net, plain = make(layer()).init(3), layer(3)
    if make is weight_norm:
        np.testing.assert_allclose(net.weight.numpy(), plain.weight.numpy())
    np.testing.assert_array_equal(net.weight.numpy(), make(layer(3)).weight.numpy())
    net.parametrizations.weight.assign(nb.ones((3, 5), dtype="float64"))
    before = net.weight.numpy()
    np.testing.assert_array_equal(net.init(4, only_fresh=True).weight.numpy(), before)


@BOTH
def test_an_optimizer_trains_the_originals_also_recorded(make: Any) -> None:
    def train(compiled: bool) -> tuple[list[float], dict[str, Any]]:
        net = make(layer())
        adam = optim.Adam(net.parameters(), lr=0.1)

        def step(x: Tensor) -> Tensor:
            adam.zero_grad()
            loss = nb.mean((net(x) - 1.0) ** 2)
            loss.backward()
            adam.step()
            return loss

        run = nb.compile(step) if compiled else step
        return [float(run(data())) for _ in range(6)], net.state_dict()

    (losses, state), (replayed, end) = train(False), train(True)
    assert losses[-1] < losses[0]
    np.testing.assert_allclose(replayed, losses)
    for key, value in state.items():
        np.testing.assert_allclose(end[key].numpy(), value.numpy(), atol=1e-12)


@BOTH
def test_removing(make: Any) -> None:
    net = make(layer()).eval()
    weight = net.weight.numpy()
    assert parametrize.is_parametrized(net)
    assert parametrize.is_parametrized(net, "weight")
    assert not parametrize.is_parametrized(net, "bias")
    parametrize.remove_parametrizations(net, "weight")
    assert type(net) is nn.Linear
    assert sorted(net.state_dict()) == ["bias", "weight"]
    np.testing.assert_array_equal(net.weight.numpy(), weight)
    np.testing.assert_array_equal(net.init(0).weight.numpy(), layer().weight.numpy())


def test_two_tensors_of_one_layer_and_the_original_back() -> None:
    net = spectral_norm(weight_norm(layer()), "bias")
    original = net.parametrizations.bias.original.numpy()
    parametrize.remove_parametrizations(net, "bias", leave_parametrized=False)
    np.testing.assert_array_equal(net.bias.numpy(), original)
    assert parametrize.is_parametrized(net, "weight")
    net.weight = nb.ones((3, 5), dtype="float64")
    np.testing.assert_allclose(net.parametrizations.weight.original0.numpy(), np.full((3, 1), 5.0**0.5))


def test_refused() -> None:
    net = weight_norm(layer())
    with pytest.raises(ValueError, match="'weight' again"):
        weight_norm(net)
    with pytest.raises(ValueError, match="name of a parameter, got 'other'"):
        weight_norm(layer(), "other")
    with pytest.raises(ValueError, match="got 'other'"):
        spectral_norm(layer(), "other")
    with pytest.raises(ValueError, match="n_power_iterations >= 1"):
        spectral_norm(layer(), n_power_iterations=0)
    with pytest.raises(ValueError, match=r"expected dim in -2\.\.1"):
        spectral_norm(layer(), dim=2)
    with pytest.raises(ValueError, match="leave_parametrized=True"):
        parametrize.remove_parametrizations(net, "weight", leave_parametrized=False)
    with pytest.raises(ValueError, match="got 'bias'"):
        parametrize.remove_parametrizations(net, "bias")


def test_vectors() -> None:
    net = layer()
    vector = parameters_to_vector(net.parameters())
    assert vector.shape == (18,)
    vector_to_parameters(vector.detach() * 2.0, net.parameters())
    np.testing.assert_array_equal(net.weight.numpy(), 2.0 * layer().weight.numpy())
    with pytest.raises(ShapeError, match="expected 18 elements"):
        vector_to_parameters(vector[:-1], net.parameters())
