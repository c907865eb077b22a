"""Lines of the op table: recurrent."""

from collections.abc import Callable
from typing import Any

import numpy as np
from op_line import Draw, line, nonzero, normal

import nnbackend as nb
from nnbackend import functional as F
from nnbackend.nn.utils.rnn import pad_sequence


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def rnn(act: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, h, w, v, b=0, d=0: (act(x @ w.T + b + h @ v.T + d),)


def gru(x: Any, h: Any, w: Any, v: Any, b: Any = 0, d: Any = 0) -> Any:
    (r, u, c), (mr, mu, m) = np.split(x @ w.T + b, 3, axis=-1), np.split(h @ v.T + d, 3, axis=-1)
    u = sigmoid(u + mu)
    return ((1 - u) * np.tanh(c + sigmoid(r + mr) * m) + u * h,)


def lstm(x: Any, h: Any, c: Any, w: Any, v: Any, b: Any = 0, d: Any = 0, p: Any = 1) -> Any:
    i, f, g, o = np.split(x @ w.T + b + h @ v.T + d, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
    return (h if isinstance(p, int) else h @ p.T), c


def over_time(step: Callable[..., Any], states: int) -> Callable[..., Any]:
    """Sequence by sequence, step by step: outputs and last states, one after the other."""

    def run(x: Any, *args: Any, reverse: bool = False, lengths: Any = None) -> Any:
        first, weights = args[:states], [0 if w is None else w for w in args[states:]]
        y, last = np.zeros((*x.shape[:2], first[0].shape[1])), [np.zeros(s.shape) for s in first]
        for k, end in enumerate(lengths or [len(x)] * x.shape[1]):
            now = [s[k : k + 1] for s in first]
            for t in range(end)[:: -1 if reverse else 1]:
                now = list(step(x[t, k : k + 1], *now, *weights))
                y[t, k] = now[0][0]
            for s, new in zip(last, now, strict=True):
                s[k] = new[0]
        return np.concat([v.ravel() for v in (y, *last)])

    return run


def flat(f: Callable[..., Any], states: int) -> Callable[..., Any]:
    """All results of a function of tensors, one after the other; two states are given as a pair."""

    def run(x: Any, *args: Any, **settings: Any) -> Any:
        hx, weights = args[:states], args[states:]
        results = f(x, hx if states > 1 else hx[0], *weights, **settings)
        leaves: list[Any] = []
        for y in results if isinstance(results, tuple) else (results,):
            leaves += y if isinstance(y, tuple) else (y,)
        return nb.concat([nb.reshape(y, (-1,)) for y in leaves])

    return run


def cell(step: Callable[..., Any], states: int) -> Callable[..., Any]:
    return lambda x, *args: np.concat([y.ravel() for y in step(x, *args[:states], *args[states:])])


def weights(gates: int, h: int = 2, p: int = 2, biases: bool = True) -> list[Draw]:
    rows = gates * h
    return [normal(rows, 3), normal(rows, p), *([normal(rows), normal(rows)] if biases else [])]


KINDS = (("rnn_tanh", rnn(np.tanh), 1, 1), ("gru", gru, 3, 1), ("lstm", lstm, 4, 2))
for name, step, gates, states in KINDS:
    for settings in ({}, {"reverse": True}, {"lengths": [1, 4, 3]}, {"lengths": [1, 4, 3], "reverse": True}):
        both = {"op": flat(getattr(F, name), states), "ref": over_time(step, states)}
        line(name, normal(4, 3, 3), *[normal(3, 2)] * states, *weights(gates), **both, **settings)
    line(name, normal(3, 2, 3), *[normal(2, 2)] * states, *weights(gates, biases=False), **both)
    line(name, normal(2, 0, 3), *[normal(0, 2)] * states, *weights(gates), **both)
    both = {"op": flat(getattr(F, f"{name}_cell"), states), "ref": cell(step, states)}
    line(f"{name}_cell", normal(5, 3), *[normal(5, 2)] * states, *weights(gates), **both)
    line(f"{name}_cell", normal(0, 3), *[normal(0, 2)] * states, *weights(gates, biases=False), **both)
both = {"op": flat(F.lstm, 2), "ref": over_time(lstm, 2)}
for settings in ({}, {"reverse": True}):
    line("lstm", normal(4, 2, 3), normal(2, 1), normal(2, 2), *weights(4, p=1), normal(1, 2), **both, **settings)


def relu(x: Any) -> Any:
    return np.maximum(x, 0)


both = {"op": flat(F.rnn_relu, 1), "ref": over_time(rnn(relu), 1)}
line("rnn_relu", nonzero(2, 3, 3), nonzero(3, 2), *weights(1), **both, reverse=True)
both = {"op": flat(F.rnn_relu_cell, 1), "ref": cell(rnn(relu), 1)}
line("rnn_relu_cell", nonzero(5, 3), nonzero(5, 2), *weights(1), **both)


def np_pad_sequence(*parts: Any, batch_first: bool = False, padding_value: float = 0.0) -> Any:
    y = np.full((max(map(len, parts)), len(parts), *parts[0].shape[1:]), padding_value)
    for k, part in enumerate(parts):
        y[: len(part), k] = part
    return np.swapaxes(y, 0, 1) if batch_first else y


for settings in ({}, {"batch_first": True, "padding_value": 1.5}):
    line("pad_sequence", normal(2, 3), normal(4, 3), normal(1, 3), ref=np_pad_sequence,
         op=lambda *parts, **kw: pad_sequence(parts, **kw), **settings)  # fmt: skip
