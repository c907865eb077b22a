"""Checks of many points in one test: none is left out, and the failing ones are named."""

import pytest
from op_run import PLACES, by_op
from op_table import TABLE

ADD, EXP = ([case for case in TABLE if case.name == name] for name in ("add", "exp"))


def test_every_point_is_checked_and_failures_are_named():
    seen, bad = [], (ADD[1], PLACES[0])

    @by_op((case, place) for case in (*ADD, *EXP) for place in PLACES[:2])
    def test_something(case, place):
        """What it is."""
        seen.append((case, place))
        assert (case, place) != bad, "this one"

    assert (test_something.__name__, test_something.__doc__) == ("test_something", "What it is.")
    (mark,) = test_something.pytestmark
    assert list(mark.args[1]) == ["add", "exp"]
    test_something("exp")
    assert seen == [(case, place) for case in EXP for place in PLACES[:2]]
    seen.clear()
    with pytest.raises(ExceptionGroup) as failed:
        test_something("add")
    assert seen == [(case, place) for case in ADD for place in PLACES[:2]]
    name = f"at {ADD[1].id} [cpu float64]"
    assert failed.value.message == f"add: 1 of {2 * len(ADD)} points fail\n  {name}"
    (error,) = failed.value.exceptions
    assert "this one" in str(error)
    assert error.__notes__ == [name]
