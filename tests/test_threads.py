"""Threads: how many, what they change in results, and many of them calling one compiled step."""

import os
import signal
import threading
import time
import warnings

import numpy as np
import pytest
from compiled_twins import training as usual_step

import nnbackend as nb
from nnbackend import nn, optim
from nnbackend.backend import threads
from nnbackend.backend.threads import Pool, _blas, num_threads, one_blas_thread, set_num_threads, spread
from nnbackend.program.replay_numpy import blocks, schedule


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    before = num_threads()
    monkeypatch.setattr(schedule, "SMALL", 256)
    monkeypatch.setattr(blocks, "BYTES", 256)
    monkeypatch.setattr(blocks, "ALONE", 0)
    yield
    set_num_threads(before)


def test_the_count_can_be_set_and_is_seen():
    for n in (1, 2, 1, 3):
        nb.set_num_threads(n)
        assert nb.num_threads() == n
    for n in (0, -1):
        with pytest.raises(ValueError, match="number >= 1"):
            nb.set_num_threads(n)
    assert nb.num_threads() == 3


def training(lr=0.05):
    net = nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Dropout(0.2), nn.Linear(16, 3)).to("float64").init(0)
    opt = optim.Adam(net.parameters(), lr=lr)

    return net, nb.compile(usual_step(net, opt))


X = nb.tensor(np.random.default_rng(0).standard_normal((64, 10)))
Y = nb.tensor(np.arange(64) % 3)


def trained(counts):
    net, step = training()
    losses = []
    for n in counts:
        set_num_threads(n)
        losses.append(step(X, Y).item())
    assert step.why is None
    assert step.recordings == 3
    return np.array([*losses, *(v for p in net.parameters() for v in p.numpy().ravel())]), step


def test_results_repeat_to_the_bit_for_a_count_and_agree_between_counts():
    one, two = trained([1] * 12), trained([2] * 12)
    assert two[1]._latest.replay.threaded
    np.testing.assert_array_equal(one[0], trained([1] * 12)[0])
    for _ in range(5):
        np.testing.assert_array_equal(two[0], trained([2] * 12)[0])
    np.testing.assert_allclose(one[0], two[0], rtol=1e-9, atol=1e-12)


def test_another_count_between_calls_makes_another_plan_and_no_recording():
    mixed, step = trained([1, 1, 1, 1, 2, 2, 1, 3, 3, 1, 2, 1])
    np.testing.assert_allclose(mixed, trained([1] * 12)[0], rtol=1e-9, atol=1e-12)
    set_num_threads(2)
    for _ in range(2):  # the other net is a change of structure
        step(X, Y)
    assert step._latest.threads == 2


@pytest.mark.parametrize("count", [1, 2])
def test_many_threads_predict_with_one_net_while_another_is_trained(count):
    set_num_threads(count)
    net, step = training()
    constant = nn.Sequential(nn.Linear(10, 16), nn.Sigmoid(), nn.Linear(16, 3)).to("float64").init(1)
    for p in constant.parameters():
        p.assign(np.full(p.shape, 0.01))
    predict = nb.compile(lambda x: constant(x).detach())
    under_way = nb.compile(lambda x: net(x).detach())
    net.eval()
    inputs = [nb.tensor(np.full((64, 10), float(i))) for i in range(8)]
    wanted = [constant(x).numpy() for x in inputs]
    problems, stop = [], threading.Event()

    def ask(i):
        try:
            while not stop.is_set():
                np.testing.assert_allclose(predict(inputs[i]).numpy(), wanted[i], rtol=1e-12)
                assert np.isfinite(under_way(inputs[i]).numpy()).all()
        except BaseException as error:
            problems.append(error)

    askers = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
    for t in askers:
        t.start()
    end = time.monotonic() + 1.0
    while time.monotonic() < end and not problems:
        step(X, Y)
    stop.set()
    for t in askers:
        t.join(20)
    assert not problems
    assert not any(t.is_alive() for t in askers)
    assert predict.why is under_way.why is step.why is None


def test_threads_that_call_with_other_numbers_of_arguments():
    step = nb.compile(lambda *xs: sum(xs[1:], xs[0]) * 2)
    problems = []

    def ask(n):
        x = nb.tensor(np.full((4, 4), float(n)))
        try:
            for _ in range(150):
                np.testing.assert_array_equal(step(*[x] * n).numpy(), np.full((4, 4), 2.0 * n * n))
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=ask, args=(n,)) for n in (1, 2, 3, 4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(20)
    assert not problems


# -- the pool -------------------------------------------------------------------------------------------------------


def test_the_pool_runs_jobs_side_by_side_and_raises_their_errors():
    pool, seen, meet = Pool(), [], threading.Barrier(3)

    def job(i):
        meet.wait(10)  # all three at once
        seen.append(i)

    pool.run(job, [(0,), (1,), (2,)])
    assert sorted(seen) == [0, 1, 2]

    def fails(i):
        if i:
            raise KeyError(i)
        seen.append("done")

    for _ in range(3):
        with pytest.raises(KeyError):
            pool.run(fails, [(0,), (1,)])
        with pytest.raises(KeyError):
            pool.run(fails, [(1,), (0,)])
    pool.run(job, [(3,), (4,), (5,)])
    assert sorted(x for x in seen if x != "done") == [0, 1, 2, 3, 4, 5]
    assert pool._threads == 2


def test_jobs_may_spread_their_work_again():
    set_num_threads(2)
    meet, seen = threading.Barrier(2), []

    def outer(items):
        meet.wait(10)  # both threads are at work
        spread(seen.extend, [(i, j) for i in items for j in range(3)])

    caller = threading.Thread(target=spread, args=(outer, [0, 1]), daemon=True)
    caller.start()
    caller.join(10)
    assert not caller.is_alive()
    assert sorted(seen) == [(i, j) for i in range(2) for j in range(3)]


def test_the_count_is_the_same_while_others_come_and_go():
    set_num_threads(2)
    stop, found = threading.Event(), set()

    def come_and_go():
        while not stop.is_set():
            with one_blas_thread():
                pass

    others = [threading.Thread(target=come_and_go) for _ in range(2)]
    for t in others:
        t.start()
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        found.add(num_threads())
    stop.set()
    for t in others:
        t.join()
    assert found == {2}


def test_floating_point_errors_of_a_block_are_handled_as_the_caller_says():
    set_num_threads(2)
    step = nb.compile(lambda x: 1.0 / (x - 1.0) + 1.0)
    x = nb.tensor(np.full((64, 8), 3.0))
    for _ in range(4):
        step(x)
    assert step._latest.replay.threaded
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        step(nb.tensor(np.ones((64, 8))))
    with np.errstate(divide="ignore"):
        assert np.isinf(step(nb.tensor(np.ones((64, 8)))).numpy()).all()
    np.testing.assert_array_equal(step(x).numpy(), np.full((64, 8), 1.5))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_process_has_threads_of_its_own():
    _, step = training()
    set_num_threads(2)
    for _ in range(5):
        step(X, Y)
    assert step._latest.replay.threaded
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: fork with threads
        with one_blas_thread():  # as a thread may have it that the child lacks
            child = os.fork()
    if not child:
        try:
            step(X, Y)
            os._exit(0 if (_blas("get") or num_threads)() == 2 else 2)
        finally:
            os._exit(1)
    end = time.monotonic() + 20
    while not (done := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            pytest.fail("the child hangs")
        time.sleep(0.01)
    assert os.waitstatus_to_exitcode(done[1]) == 0


def test_what_another_thread_builds_does_not_unsettle_a_recording():
    """Making models elsewhere is a change of structure, but not one that the step has made."""
    net = nn.Linear(2, 1)
    elsewhere = []

    def step(x):
        thread = threading.Thread(target=lambda: elsewhere.append(nn.Linear(1, 1)))
        thread.start()
        thread.join()
        return net(x).detach()

    compiled = nb.compile(step, fallback=False)
    x = nb.ones((3, 2))
    for _ in range(8):
        np.testing.assert_array_equal(compiled(x).numpy(), net(x).numpy())
    assert compiled.why is None


def test_models_made_elsewhere_leave_replays_alone_and_changes_made_elsewhere_are_seen():
    net = nn.Sequential(nn.Linear(2, 3), nn.LeakyReLU(0.1)).init(0)
    compiled = nb.compile(lambda x: net(x).detach())
    x = nb.tensor([[1.0, -2.0], [-3.0, 4.0]])
    for _ in range(4):
        compiled(x)
    recordings = compiled.recordings

    def elsewhere(change):
        thread = threading.Thread(target=change)
        thread.start()
        thread.join()
        np.testing.assert_array_equal(compiled(x).numpy(), net(x).numpy())

    elsewhere(lambda: nn.Linear(1, 1))
    assert compiled.recordings == recordings
    elsewhere(lambda: setattr(net[1], "negative_slope", 0.5))
    assert compiled.recordings == recordings + 1


def test_a_recording_does_not_take_another_threads_updates_for_its_own():
    """Somebody trains the net while another thread records what it predicts."""
    net = nn.Linear(2, 1).init(0)

    def step(x):
        y = net(x).detach()
        thread = threading.Thread(target=lambda: net.weight.assign(np.ones((1, 2), "float32")))
        thread.start()
        thread.join()
        return y

    compiled = nb.compile(step, fallback=False)
    for _ in range(4):
        compiled(nb.ones((3, 2)))
    assert compiled.program is not None
    assert compiled.program.written == []


@pytest.mark.parametrize("shapes", [((3, 4), (4, 5)), ((2048, 64), (64, 16)), ((50, 30), (30, 20)), ((1, 9), (9, 1))])
@pytest.mark.parametrize("turned", [False, True])
def test_products_by_threads_of_ours(shapes, turned, monkeypatch):
    monkeypatch.setattr(threads, "WORTH_THREADS", 1000)
    monkeypatch.setattr(threads, "num_threads", lambda: 3)
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(s[::-1]).T if turned else rng.standard_normal(s) for s in shapes)
    out = np.empty((len(a), b.shape[1]))
    threads.dot(a, b, out)
    np.testing.assert_allclose(out, a @ b, rtol=1e-12, atol=1e-12)
