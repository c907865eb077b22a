"""Faults of threads and processes: models that are trained and asked at the same time, and forks in between."""

import multiprocessing
import os
import signal
import threading
import time

import numpy as np
import pytest

import nnbackend as nb
from nnbackend import nn, optim, tape
from nnbackend.backend.threads import num_threads, set_num_threads


@pytest.fixture(autouse=True)
def restored():
    before = num_threads()
    yield
    set_num_threads(before)


def data(seed=0, n=96):
    X = np.random.default_rng(seed).standard_normal((n, 6), np.float32)
    return X, (X[:, 0] > X[:, 1]).astype("int64") + (X[:, 2] > 1.0)


def network(width=16):
    return nn.Sequential(
        nn.Linear(6, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.3), nn.Linear(width, width), nn.Tanh(),
        nn.Dropout(0.1), nn.Linear(width, 3),
    )  # fmt: skip


def trainer(seed, width=16):
    return nb.Trainer(network(width), "cross_entropy", optim.Adam(lr=0.01), ["accuracy"], device="cpu", seed=seed)


def contents(net):
    """All that a model is: bytes of parameters and buffers, and the flag of every module."""
    state = {name: value.numpy().tobytes() for name, value in net.state_dict().items()}
    return state, [(name, module.training) for name, module in net.named_modules()]


def trained(seed, epochs=6, width=16, **settings):
    """Losses, accuracies, weights, statistics and moments after training."""
    run = trainer(seed, width)
    X, y = data(seed)
    history = run.fit(X, y, epochs=epochs, validation_data=data(seed + 100), report_every=2, verbose=False, **settings)
    moments = [
        value.numpy().tobytes()
        for entry in run.optimizer.state_dict()["state"].values()
        for value in entry.values()
        if isinstance(value, nb.Tensor)
    ]
    assert len(moments) == 2 * len(list(run.net.parameters()))
    return list(history), contents(run.net), moments, run.predict(X).tobytes()


def side_by_side(*jobs):
    """Run the functions in threads that start together, and raise what one of them raised."""
    start, errors = threading.Barrier(len(jobs)), []

    def work(job):
        try:
            start.wait(10)
            job()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(job,), daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
    assert not any(thread.is_alive() for thread in threads)
    if errors:
        raise errors[0]


# -- threads ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blas", [1, 2])
def test_models_trained_at_once_are_those_trained_in_turn(blas):
    """Line 131: with dropout, batch norm, Adam and seeds of their own."""
    set_num_threads(blas)
    alone = [trained(seed) for seed in range(3)]
    assert len({str(result) for result in alone}) == 3
    assert [trained(seed) for seed in range(3)] == alone
    together = {}

    def job(seed):
        return lambda: together.setdefault(seed, trained(seed))

    for _ in range(2):
        together.clear()
        side_by_side(*map(job, range(3)))
        assert [together[seed] for seed in range(3)] == alone


def test_eight_threads_ask_a_model_while_another_is_trained():
    """Line 132: answers are those of one thread, the training too, and nobody who asks changes the model."""
    X, _ = data(7, 700)
    run = trainer(0)
    run.fit(*data(0), epochs=2, verbose=False)
    assert run.net.training
    before, alone = contents(run.net), trained(5)
    modules = [(m, dict(vars(m))) for m in run.net.modules()]
    asked, found, done = [], {}, threading.Event()

    def ask():
        answers = []
        while not done.is_set() or len(answers) < 3:
            answers.append(run.predict(X, batch_size=64).tobytes())
            assert contents(run.net) == before
        asked.extend(answers)

    def train():
        try:
            found["training"] = trained(5)
        finally:
            done.set()

    want = run.predict(X, batch_size=64).tobytes()
    side_by_side(train, *[ask] * 8)
    assert len(asked) >= 24
    assert set(asked) == {want}
    assert found["training"] == alone
    assert contents(run.net) == before
    for module, attributes in modules:
        assert vars(module).keys() == attributes.keys()
        assert all(vars(module)[name] is value for name, value in attributes.items())


def test_a_model_in_training_mode_stays_in_it_for_those_who_train_while_others_predict():
    """Line 132: evaluation is a matter of the thread that asks; what another thread does with the model is training."""
    net, stop = network().init(0), threading.Event()
    asking = nb.Trainer(net, "cross_entropy", optim.SGD(lr=0.0), device="cpu")
    x = nb.tensor(data()[0])

    def ask():
        while not stop.is_set():
            asking.predict(x)

    def look():
        try:
            for _ in range(200):
                assert net.training
                assert all(module.training for module in net.modules())
        finally:
            stop.set()

    side_by_side(look, ask, ask)


# -- processes --------------------------------------------------------------------------------------------------------

WIDTH = 160  # so that two threads are worth it


def answer(pipe, threads, seed):
    """In a child: train, and send the results."""
    set_num_threads(threads)
    pipe.send(trained(seed, 2, WIDTH, batch_size=96))
    pipe.close()


def waited(process, pipe, seconds=30):
    """What the child sends; a child that hangs is killed, and fails the test."""
    try:
        assert pipe.poll(seconds), "the child hangs"
        return pipe.recv()
    finally:
        process.join(5)
        if process.is_alive():
            process.kill()
            process.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("threads", [1, 2])
def test_a_fork_of_a_process_that_has_trained_with_threads_trains_too(threads):
    """Line 133: no deadlock (numpy#30092 is one), and the numbers are those of the parent."""
    set_num_threads(threads)
    want = trained(3, 2, WIDTH, batch_size=96)
    for _ in range(3):
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            status = 1
            try:
                signal.alarm(30)
                os.write(writing, b"same" if trained(3, 2, WIDTH, batch_size=96) == want else b"other")
                status = 0
            finally:
                os._exit(status)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            assert ended(child) == 0
            assert pipe.read() == b"same"
    assert trained(3, 2, WIDTH, batch_size=96) == want  # the parent is none the worse


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_in_the_middle_of_training_in_another_thread():
    """Line 133: the child has only the thread that forked; locks that others held must not stop it.

    With one thread for matrix products: OpenBLAS hangs where a process forks while threads of its own compute one.
    """
    set_num_threads(1)
    want, stop, forked = trained(3, 2, WIDTH, batch_size=96), threading.Event(), []

    def train():
        while not stop.is_set():
            trained(4, 1, WIDTH, batch_size=96)

    def fork():
        try:
            for _ in range(5):
                time.sleep(0.01)
                child = os.fork()
                if not child:
                    try:
                        signal.alarm(30)
                        os._exit(0 if trained(3, 2, WIDTH, batch_size=96) == want else 2)
                    finally:
                        os._exit(1)
                forked.append(ended(child))
        finally:
            stop.set()

    side_by_side(train, fork)
    assert forked == [0] * 5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_lock_that_another_thread_holds_at_a_fork_does_not_stop_the_child():
    """Line 133: the lock of growing gradients was waited for without end."""
    held, release, w = threading.Event(), threading.Event(), nb.tensor([1.0], requires_grad=True)

    def hold():
        with tape.adding:
            held.set()
            release.wait(40)

    holder = threading.Thread(target=hold, daemon=True)
    holder.start()
    held.wait(10)
    child = os.fork()
    if not child:
        try:
            (w * 2.0).backward(nb.tensor([1.0]))
            os._exit(0 if w.grad.tolist() == [2.0] else 2)
        finally:
            os._exit(1)
    try:
        assert ended(child, 10) == 0
    finally:
        release.set()
        holder.join()


def ended(child, seconds=30):
    """The exit status of a child; killed, and negative, if it hangs."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -signal.SIGKILL


@pytest.mark.parametrize("threads", [1, 2])
def test_a_spawned_process_trains_to_the_same_numbers(threads):
    """Line 133: the way that needs no fork."""
    set_num_threads(threads)
    want = trained(3, 2, WIDTH, batch_size=96)
    context = multiprocessing.get_context("spawn")
    reading, writing = context.Pipe(duplex=False)
    process = context.Process(target=answer, args=(writing, threads, 3))
    process.start()
    writing.close()
    assert waited(process, reading) == want
    assert process.exitcode == 0
    reading.close()
