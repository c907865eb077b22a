"""Averages of weights, and batch norm's statistics for them."""

import copy
import pickle

import numpy as np
import pytest
from compiled_twins import BATCHES, LABELS, agree, compared, setting, trained, with_step
from frozen import DEVICE1, PLACES
from test_optim import close, equal, parameters

import nnbackend as nb
from nnbackend import nn, optim
from nnbackend.errors import DataError, IncompatibleCheckpointError, NotFittedError

rng = np.random.default_rng(8)
SERIES = [[rng.standard_normal(shape) for shape in ((2, 3), (3,), ())] for _ in range(12)]
KINDS = {
    "EMA": lambda params: optim.EMA(params, decay=0.8),
    "small decay": lambda params: optim.EMA(params, 0.3),
    "SWA": optim.SWA,
}


def assign(params, values):
    for p, value in zip(params, values, strict=True):
        p.assign(nb.tensor(value.astype(p.dtype), device=p.device))


def averages(series, kind):
    """As the papers have it; PyTorch's first update copies."""
    if kind == "SWA":
        return [np.mean(values, axis=0) for values in zip(*series, strict=True)]
    decay, (found, *later) = {"EMA": 0.8, "small decay": 0.3}[kind], series
    for values in later:
        found = [decay * a + (1 - decay) * w for a, w in zip(found, values, strict=True)]
    return found


def shown(average, params):
    with average.applied():
        return [p.numpy().copy() for p in params]


@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_averages(kind, place):
    params = parameters(*SERIES[0], place=place)
    params[1].requires_grad_(False)  # frozen ones have an average too
    average = KINDS[kind](params)
    for n, values in enumerate(SERIES, start=1):
        assign(params, values)
        with nb.testing.no_synchronization():
            average.update()
        for got, want in zip(shown(average, params), averages(SERIES[:n], kind), strict=True):
            close(got, want, 1e-13, 1e-13)
        for p, value in zip(params, values, strict=True):
            equal(p.numpy(), value)
    average.apply()
    for p, want in zip(params, averages(SERIES, kind), strict=True):
        close(p.numpy(), want, 1e-13, 1e-13)


def test_one_array_for_all_parameters():
    params = parameters(*SERIES[0])
    optimizer, ema = optim.SGD(params, lr=0.1), optim.EMA(params)
    for p in params:
        p.grad = np.ones(p.shape)
    optimizer.step()
    ema.update()
    assert [run.slots["average"].shape for _, run in ema._runs] == [(10,)]
    equal(ema._runs[0][1].slots["average"].numpy(), params[0].home.numpy())


def test_what_is_applied_goes_back_exactly():
    params = parameters(*SERIES[0])
    ema = optim.EMA(params, 0.5)
    for values in SERIES[:2]:
        assign(params, values)
        ema.update()

    @ema.applied()
    def interrupted():
        equal(params[1].numpy(), (SERIES[0][1] + SERIES[1][1]) / 2)
        for refused in (ema.update, ema.apply, lambda: ema.applied().__enter__()):
            with pytest.raises(ValueError, match=r"expected the weights themselves, got averages. Leave applied\(\)"):
                refused()
        assign(params, SERIES[3])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    for p, value in zip(params, SERIES[1], strict=True):
        equal(p.numpy(), value)
    with ema.applied():
        nn.ParameterList(params).to("float32")  # moved meanwhile
    for p, value in zip(params, SERIES[1], strict=True):
        equal(p.numpy(), value.astype("float32"))


def test_a_graph_from_before_does_not_go_back_through_other_weights():
    params = parameters(*SERIES[0])
    ema = optim.EMA(params)
    ema.update()
    loss = (params[0] ** 2).sum()
    ema.update()  # only reads
    loss.backward()
    loss = (params[0] ** 2).sum()
    with ema.applied(), pytest.raises(RuntimeError, match="changed"):
        loss.backward()


def moved(params, average):
    params[0].move(nb.device(DEVICE1))
    params[0].move(nb.device("cpu"))


def narrowed(params, average):
    params[1].move(dtype="float32")
    params[1].move(dtype="float64")


def laid_out_again(params, average):
    optim.SGD(params[::-1]).zero_grad()
    for p in params:
        p.rehome(p.array.copy())


def copied(params, average):
    return copy.deepcopy((params, average))


def pickled(params, average):
    return pickle.loads(pickle.dumps((params, average)))


def saved(params, average):
    fresh = KINDS["EMA"](params) if isinstance(average, optim.EMA) else optim.SWA(params)
    fresh.load_state_dict(average.state_dict())
    return params, fresh


@pytest.mark.parametrize("kind", ["EMA", "SWA"])
@pytest.mark.parametrize("event", [moved, narrowed, laid_out_again, copied, pickled, saved])
def test_averages_outlive_what_happens_to_parameters(event, kind):
    params = parameters(*SERIES[0])
    average = KINDS[kind](params)
    for n, values in enumerate(SERIES):
        assign(params, values)
        if n == 5:
            params, average = event(params, average) or (params, average)
        average.update()
    loose = 1e-6 if event is narrowed else 1e-13
    for got, want in zip(shown(average, params), averages(SERIES, kind), strict=True):
        close(got, want, loose, loose)


def test_parameters_that_come_later_have_averages_of_their_own():
    params = parameters(*SERIES[0])
    swa = optim.SWA(params[:1])
    for n, values in enumerate(SERIES):
        assign(params, values)
        if n == 4:
            swa.add_param_group({"params": params[1:]})
            equal(shown(swa, params)[1], values[1])  # none yet
        swa.update()
    early, late = averages(SERIES, "SWA"), averages(SERIES[4:], "SWA")
    for got, want in zip(shown(swa, params), [early[0], *late[1:]], strict=True):
        close(got, want, 1e-13)


def test_averages_of_float16_are_in_float32():
    p = nn.Parameter(np.full(3, 1.0, "float16"))
    ema = optim.EMA([p], decay=0.999)
    ema.update()
    p.assign(np.full(3, 2.0, "float16"))
    for _ in range(100):
        ema.update()  # in float16, each of the first updates would be rounded to 0.00098
    state = ema.state_dict()["state"][0]
    assert state["average"].dtype == "float32"
    close(state["average"].numpy(), 2 - 0.999**100, 1e-5)
    with ema.applied():
        equal(p.numpy(), np.full(3, 2 - 0.999**100, "float16"))
    equal(p.numpy(), np.full(3, 2.0, "float16"))


def averaged(kind):
    def make():
        s = setting()
        s.ema = KINDS[kind](s.net.parameters())
        s.optimizer = s.opt

        def step(x, y):
            s.opt = s.optimizer
            loss = trained(s, x, y)
            s.ema.update()
            s.opt = s.ema  # whose state is compared too
            return loss

        return with_step(s, step)

    return make


def decay(s, turn):
    if isinstance(s.ema, optim.EMA):
        s.ema.param_groups[0]["decay"] = 1 - 0.5**turn


@pytest.mark.parametrize("kind", ["EMA", "SWA"])
def test_recorded_updates(kind):
    compared(averaged(kind), decay, turns=10)


def test_recorded_evaluation_with_averages():
    s = averaged("EMA")()

    def evaluate(x):
        with s.ema.applied(), nb.no_grad(), nn.evaluating():
            return s.net(x)

    compiled = nb.compile(evaluate, fallback=False)
    for x, y in zip(BATCHES, LABELS, strict=True):
        s.step(nb.tensor(x), nb.tensor(y))
        before = [p.numpy().copy() for p in s.net.parameters()]
        agree(compiled(nb.tensor(x)), evaluate(nb.tensor(x)))
        for p, w in zip(s.net.parameters(), before, strict=True):
            equal(p.numpy(), w)
    assert compiled.recordings < len(BATCHES)


def test_what_averages_refuse():
    params = parameters(*SERIES[0])
    ema = optim.EMA(params)
    for use in (ema.apply, lambda: ema.applied().__enter__()):
        with pytest.raises(NotFittedError, match=r"expected an average, got none. Call EMA.update\(\)"):
            use()
    for bad in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match="decay: expected a number from 0 to 1"):
            optim.EMA(params, bad)
    ema.update()
    state = ema.state_dict()
    state["state"][0] = {"step": 1, "average": np.zeros(7)}
    with pytest.raises(IncompatibleCheckpointError, match="for parameter 0"):
        ema.load_state_dict(state)
    equal(ema.state_dict()["state"][0]["average"].numpy(), SERIES[0][0])


# -- update_bn ------------------------------------------------------------------------------------------------------


def normed(place="cpu", **kw):
    layers = [
        nn.BatchNorm2d(2, **kw),
        nn.Tanh(),
        nn.Flatten(),
        nn.BatchNorm1d(8, track_running_stats=False),
        nn.Dropout(),
    ]
    net = nn.Sequential(*layers).to("float64").to(device=place).init(0)
    net[0].running_mean[...] = 7.0
    return net


@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize("form", ["arrays", "tuples"])
@pytest.mark.parametrize("momentum", [0.3, None])
def test_update_bn(momentum, form, place):
    batches = [rng.standard_normal((n, 2, 2, 2)) for n in (4, 4, 3)]
    net = normed(place, momentum=momentum).eval()
    net[3].train()
    loader = ([nb.tensor(x), None] if form == "tuples" else x for x in batches)
    with nn.evaluating():
        nn.utils.update_bn(loader, net, device=place)
    close(net[0].running_mean.numpy(), np.mean([x.mean((0, 2, 3)) for x in batches], axis=0), 1e-12)
    close(net[0].running_var.numpy(), np.mean([x.var((0, 2, 3), ddof=1) for x in batches], axis=0), 1e-12)
    assert int(net[0].num_batches_tracked) == 3
    assert net[0].momentum == momentum
    assert [m.training for m in net.modules()] == [False, False, False, False, True, False]


def test_update_bn_and_what_goes_wrong():
    net = normed()
    with pytest.raises(DataError, match="expected batches, got none"):
        nn.utils.update_bn([], net)
    equal(net[0].running_mean.numpy(), [7.0, 7.0])
    with pytest.raises(ValueError, match="expected input of 4 axes"):
        nn.utils.update_bn([np.ones((3, 2))], net)
    assert (net[0].momentum, net.training) == (0.1, True)
    nn.utils.update_bn(iter(()), nn.Linear(2, 2))  # nothing to do
