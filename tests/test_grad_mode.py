"""no_grad and enable_grad: nested, reused, as decorators, and apart in every thread and task."""

import asyncio
import gc
import inspect
import threading
import weakref

import pytest

import nnbackend as nb
from nnbackend.grad_mode import recording


def records():
    """Is history kept, by the flag and in fact?"""
    x = nb.tensor(1.0, requires_grad=True)
    assert (x * 2.0).requires_grad == recording.get()
    return recording.get()


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    assert records()
    yield
    assert records()


def test_nested_and_after_errors():
    with nb.no_grad():
        assert not records()
        with nb.enable_grad():
            assert records()
            with nb.no_grad(), pytest.raises(ZeroDivisionError), nb.enable_grad():
                1 / (not records())
            assert records()
        assert not records()


def test_one_object_again_and_again_one_inside_the_other():
    off, on = nb.no_grad(), nb.enable_grad()
    for _ in range(2):
        with off:
            with off, on, off, on:
                assert records()
            assert not records()
        assert records()


def test_leaves_may_change_only_inside():
    x = nb.tensor([1.0], requires_grad=True)
    with nb.no_grad():
        x += 1.0
        with nb.enable_grad(), pytest.raises(nb.errors.GraphError):
            x += 1.0
    assert (x.tolist(), x.is_leaf) == ([2.0], True)


def test_functions():
    @nb.no_grad()
    def predict(x, depth=1):
        """Says what it does."""
        return [records(), *(predict(x, depth=depth - 1) if depth else [])]

    assert predict(1.0) == [False, False]
    assert (predict.__name__, predict.__doc__) == ("predict", "Says what it does.")
    with nb.no_grad():
        assert nb.enable_grad()(records)()
        assert not records()

    @nb.no_grad()
    def fails():
        raise KeyError("x")

    with pytest.raises(KeyError):
        fails()


# -- generators ------------------------------------------------------------------------------------


def test_generators_run_in_the_mode_and_their_callers_do_not():
    seen = []

    @nb.no_grad()
    def numbers(n):
        for i in range(n):
            seen.append(records())
            got = yield i
            seen.append((records(), got))
        return "done"

    assert inspect.isgeneratorfunction(numbers)
    g = numbers(2)
    assert next(g) == 0
    assert records()
    with nb.no_grad():  # another scope around the next step
        assert g.send("a") == 1
        assert not records()
    with pytest.raises(StopIteration) as stop:
        g.send("b")
    assert stop.value.value == "done"
    assert seen == [False, (False, "a"), False, (False, "b")]

    def around():
        return (yield from numbers(1))

    assert list(around()) == [0]


def test_errors_thrown_into_generators():
    @nb.no_grad()
    def patient():
        while True:
            try:
                yield records()
            except KeyError as error:
                yield (str(error), records())

    g = patient()
    assert next(g) is False
    assert g.throw(KeyError("x")) == ("'x'", False)
    assert next(g) is False
    with pytest.raises(ZeroDivisionError):
        g.throw(ZeroDivisionError())
    with pytest.raises(StopIteration):
        next(g)


def test_closing_generators_runs_their_end_in_the_mode():
    ends = []

    @nb.no_grad()
    def careful(stubborn=False):
        try:
            yield 1
        finally:
            ends.append(records())
            if stubborn:
                yield 2

    g = careful()
    next(g)
    g.close()
    g.close()
    for _ in careful():
        break
    gc.collect()
    assert ends == [False, False]
    g = careful(stubborn=True)
    next(g)
    with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
        g.close()


def test_a_generator_lets_go_of_errors():
    @nb.no_grad()
    def loses(kept):
        yield 1

    class Kept:
        pass

    gc.collect()
    gc.disable()
    try:
        kept = Kept()
        ref = weakref.ref(kept)
        g = loses(kept)
        next(g)
        with pytest.raises(ZeroDivisionError):
            g.throw(ZeroDivisionError())
        del g, kept
        assert ref() is None
    finally:
        gc.enable()


# -- async -----------------------------------------------------------------------------------------


def test_tasks_do_not_disturb_each_other():
    order = []

    @nb.no_grad()
    async def frozen(name, pause):
        for _ in range(3):
            order.append((name, records()))
            await asyncio.sleep(pause)
        return records()

    async def free(name, pause):
        for _ in range(3):
            order.append((name, records()))
            await asyncio.sleep(pause)
        with nb.no_grad():
            await asyncio.sleep(pause)
            return records()

    async def main():
        result = await asyncio.gather(frozen("a", 0.001), free("b", 0.002), frozen("c", 0.003), free("d", 0.001))
        return [*result, records()]

    assert inspect.iscoroutinefunction(frozen)
    assert asyncio.run(main()) == [False, False, False, False, True]
    assert len(order) == 12
    assert all(mode == (name in "bd") for name, mode in order)
    assert [name for name, _ in order] != sorted(name for name, _ in order)  # they did take turns


def test_an_error_in_a_coroutine():
    @nb.no_grad()
    async def fails():
        await asyncio.sleep(0)
        raise KeyError

    async def main():
        with pytest.raises(KeyError):
            await fails()
        return records()

    assert asyncio.run(main())


def test_async_generators():
    seen = []

    @nb.no_grad()
    async def stream(n):
        try:
            for i in range(n):
                await asyncio.sleep(0)
                try:
                    got = yield i
                    seen.append((records(), got))
                except KeyError:
                    seen.append((records(), "thrown"))
        finally:
            await asyncio.sleep(0)
            seen.append((records(), "end"))

    async def main():
        async for _ in stream(2):
            assert records()
        s = stream(5)
        assert await anext(s) == 0
        assert await s.asend("sent") == 1
        assert await s.athrow(KeyError()) == 2
        assert records()
        await s.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(s)
        s = stream(1)
        await anext(s)
        with pytest.raises(ZeroDivisionError):
            await s.athrow(ZeroDivisionError())
        return records()

    assert inspect.isasyncgenfunction(stream)
    assert asyncio.run(main())
    end = (False, "end")
    assert seen == [(False, None), (False, None), end, (False, "sent"), (False, "thrown"), end, end]


# -- threads ---------------------------------------------------------------------------------------


def test_threads_do_not_disturb_each_other_not_even_with_one_object():
    off, meet, seen, errors = nb.no_grad(), threading.Barrier(3, timeout=10), [], []

    def frozen(first):
        try:
            if first:
                off.__enter__()
            meet.wait()
            if not first:
                off.__enter__()
            meet.wait()
            seen.append(records())
            meet.wait()
            if first:
                off.__exit__(None, None, None)
            meet.wait()
            if not first:
                off.__exit__(None, None, None)
            seen.append(recording.get())
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=frozen, args=(first,)) for first in (True, False)]
    for thread in threads:
        thread.start()
    for _ in range(4):
        meet.wait()
        assert records()
    for thread in threads:
        thread.join(10)
    assert errors == []
    assert seen == [False, False, True, True]
