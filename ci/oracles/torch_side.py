"""PyTorch's side of a case: its arguments in plain values, its state, its outputs, its gradients. All in float64."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.testing._internal.common_modules import ModuleErrorEnum, ModuleInput, module_db

from tests.torch_case import THROUGH, Call, Case, Function, Leaf, flat

from .more_modules import MORE

torch.set_default_dtype(torch.float32)
torch.set_num_threads(1)


class Ask(NamedTuple):
    """A module, what it is made of and called with, and what is done to it between."""

    cls: type
    given: ModuleInput
    training: bool = True
    then: str = ""
    construction: bool = False  # whether that must fail


def _listed(function: Any, m: Any, requires_grad: bool, training: bool) -> list[Any]:
    torch.manual_seed(0)
    return list(function(m, device="cpu", dtype=torch.float64, requires_grad=requires_grad, training=training))


def module_cases(names: list[str]) -> Iterator[Ask]:
    """The whole database and what it lacks, or these modules of it."""
    for training in (True, False):
        for m in module_db:
            if not names or m.module_cls.__name__ in names:
                for given in _listed(m.module_inputs_func, m, True, training):
                    yield Ask(m.module_cls, given, training)
        for name, settings, inputs, then in MORE:
            if not names or name in names:
                yield Ask(getattr(torch.nn, name), ModuleInput(settings, inputs), training, then)


def error_cases(names: list[str]) -> Iterator[Ask]:
    """The declared errors of all modules, or of these."""
    for m in module_db:
        if m.module_error_inputs_func and (not names or m.module_cls.__name__ in names):
            for e in _listed(m.module_error_inputs_func, m, False, True):
                construction = e.error_on is ModuleErrorEnum.CONSTRUCTION_ERROR
                yield Ask(m.module_cls, e.module_error_input, construction=construction)


class Foreign(Exception):
    """An argument that has no counterpart here."""


def plain(x: Any) -> Any:
    """A PyTorch argument as a value of a `Case`."""
    if isinstance(x, torch.Tensor):
        if x.is_nested or x.layout is not torch.strided:
            raise Foreign("a nested or sparse tensor")
        array = x.detach().numpy().copy()
        return Leaf(array) if x.requires_grad else array
    if isinstance(x, torch.dtype):
        return str(x).removeprefix("torch.")
    if isinstance(x, torch.device):
        return str(x)
    if isinstance(x, torch.nn.utils.rnn.PackedSequence):
        raise Foreign("a PackedSequence")
    if isinstance(x, torch.nn.Module):
        return _layer(x)
    if isinstance(x, tuple | list):
        return type(x)(plain(v) for v in x) if type(x) in (tuple, list) else tuple(plain(v) for v in x)
    if callable(x):
        return Function(x.__name__)
    return x


def _layer(x: torch.nn.Module) -> Call:
    """The call that makes such a layer again, for the two that stacks of layers are made of."""
    name, norm = type(x).__name__, getattr(x, "norm1", None)
    if name not in ("TransformerEncoderLayer", "TransformerDecoderLayer"):
        if isinstance(x, torch.nn.LayerNorm):
            return Call((x.normalized_shape,), {"eps": x.eps, "bias": x.bias is not None}, name)
        if not list(x.parameters()) and not x.__dict__.keys() - torch.nn.Module().__dict__.keys() - {"inplace"}:
            return Call(layer=name)
        raise Foreign(f"a {name} as an argument")
    attention = x.self_attn
    args = (attention.embed_dim, attention.num_heads, x.linear1.out_features)
    kw = {"dropout": x.dropout.p, "activation": plain(x.activation), "layer_norm_eps": norm.eps}
    kw |= {"batch_first": attention.batch_first, "norm_first": x.norm_first, "bias": x.linear1.bias is not None}
    return Call(args, kw, name)


def call(given: Any) -> Call:
    """A FunctionInput as a Call; the first argument comes first, whatever it is called."""
    if given is None:
        return Call()
    named = {k: plain(v) for k, v in given.kwargs.items()}
    first = () if given.args else tuple(named.pop(k) for k in ("input",) if k in named)
    return Call((*first, *(plain(v) for v in given.args)), named)


def fresh(x: Any) -> Any:
    """The same arguments as leaves of their own."""
    if isinstance(x, torch.Tensor):
        return x.detach().clone().requires_grad_(x.requires_grad)
    if isinstance(x, tuple | list) and type(x) in (tuple, list):
        return type(x)(fresh(v) for v in x)
    return {k: fresh(v) for k, v in x.items()} if isinstance(x, dict) else deepcopy(x)


def asked(ask: Ask) -> Case:
    """The case without the answers."""
    settings, inputs = call(ask.given.constructor_input), call(ask.given.forward_input)
    return Case(ask.cls.__name__, settings, inputs, ask.training, str(ask.given.desc or ""), ask.then)


def _host(x: Any) -> Any:
    return None if x is None else x.detach().numpy().copy()


def answered(case: Case, ask: Ask) -> Case:
    """The case with PyTorch's answers. Parameters and statistics are moved a little from their first values."""
    torch.manual_seed(1)
    rng = np.random.default_rng(1)
    made, given = ask.given.constructor_input, ask.given.forward_input
    net = ask.cls(*fresh(made.args), **fresh(made.kwargs))
    net = getattr(torch.nn.utils.parametrizations, ask.then)(net) if ask.then else net
    net.to(torch.float64).train(case.training)
    args, kw = fresh(given.args), fresh(given.kwargs)
    with torch.no_grad():
        for x in net.state_dict().values():
            if x.is_floating_point():
                x += 0.1 * torch.tensor(np.abs(rng.standard_normal(x.shape)))
    case.state = {k: _host(v) for k, v in net.state_dict().items()}
    leaves = [x for x in flat([args, list(kw.values())]) if getattr(x, "requires_grad", False)]
    if case.name in THROUGH:
        args = (getattr(torch.nn.functional, THROUGH[case.name])(args[0], -1), *args[1:])
    y = net(*args, **kw)
    outputs = list(flat(y))
    case.outputs = [_host(x) for x in outputs]
    wanted = [x is not None and x.requires_grad for x in outputs]
    case.weights = [rng.standard_normal(x.shape) if w else None for x, w in zip(outputs, wanted, strict=True)]
    total = [(x * torch.tensor(w)).sum() for x, w in zip(outputs, case.weights, strict=True) if w is not None]
    if total:
        sum(total).backward()
    case.gradients = [_host(x.grad) for x in leaves]
    case.parameters = {name: _host(p.grad) for name, p in net.named_parameters()}
    case.after = {k: _host(v) for k, v in net.state_dict().items()}
    return case
