"""Rules about training: batches, modes, the learning rate, parameters, units."""

from __future__ import annotations

import math

from ... import functional as F
from ...backend import NUMPY
from ...nn import BatchNorm1d, BatchNorm2d, BatchNorm3d, Dropout, Module
from .facts import Facts
from .probe import Output
from .words import BINARY, INDEXED, NUMERIC, Said, some

xp = NUMPY.xp

DEFAULT_BATCH = 32  # what nobody asked for
MODAL = (Dropout, BatchNorm1d, BatchNorm2d, BatchNorm3d)  # behave differently in training
DROPPED = 0.9
GROWN, TIMES = 10.0, 100.0  # of a loss that goes on growing; of any
DEAD, SATURATED = 0.9, 0.9  # shares of a layer
STUCK = 0.99


def large_batch(facts: Facts) -> Said:
    """More than there are rows, if somebody asked for it."""
    if facts.rows and facts.batch_size and facts.batch_size > max(facts.rows, DEFAULT_BATCH):
        yield (
            f"batch_size: expected at most the {facts.rows} rows there are, got {facts.batch_size}.",
            "Use batch_size=None for all rows at once.",
        )


def batch_of_one(facts: Facts) -> Said:
    """Batch norm that sees one row now and then, and has nothing to compare it with."""
    if facts.probe.alone:
        which = "each batch" if facts.batch_size == 1 else "the last batch of each epoch"
        yield f"batch_size {facts.batch_size} leaves one row in {which}: {facts.probe.alone}", "Use another batch_size."


def evaluation_mode(facts: Facts) -> Said:
    """`net.eval()` before a fit."""
    if not facts.net._training:
        kinds = {type(m).__name__: None for m in facts.net.modules() if isinstance(m, MODAL)}
        if kinds:
            yield f"net: expected training mode for {', '.join(kinds)}, got evaluation mode.", "Call net.train()."


def much_dropout(facts: Facts) -> Said:
    """Nearly everything is dropped."""
    for m in facts.net.modules():
        if isinstance(m, Dropout) and m.p >= DROPPED:
            yield (
                f"{m.path} = {type(m).__name__}: expected a probability below {DROPPED}, got {m.p:g}.",
                "It is the share that is dropped, not the share that is kept.",
            )


def exploding(facts: Facts) -> Said:
    """The loss of the same rows after one step and after two, against before and against a constant answer."""
    probe = facts.probe
    if len(probe.losses) < 2 or not math.isfinite(first := probe.losses[0]):
        return
    later = probe.losses[1:]
    base = max(first, sum(map(_constant, probe.outputs)))
    lost = not all(map(math.isfinite, later))
    grown = base > 0 and (max(later) > TIMES * base or (later[-1] > GROWN * base and later[-1] > later[0] > first))
    stuck = [x for x in probe.layers if x.before < 0.5 and x.after > STUCK]
    if lost or grown or stuck:
        then = f"the loss went from {first:.3g} to {' and '.join(f'{x:.3g}' for x in later)}"
        if not (lost or grown):
            then = f"the units of {stuck[0].path or stuck[0].op} got stuck"
        lr = facts.optimizer.param_groups[0].get("lr")
        yield f"learning rate: expected one that lowers the loss, got {lr}: in two steps {then}.", "Lower it."


def nothing_learns(facts: Facts) -> Said:
    """No step can change anything."""
    rates = [group.get("lr") for group in facts.optimizer.param_groups]
    if not facts.trainable:
        yield "net: expected parameters to train, got none that requires a gradient.", "Call net.requires_grad_()."
    elif rates and all(rate == 0 for rate in rates) and not facts.scheduled:
        yield "learning rate: expected one above 0, got 0.", "Raise it."


def strange_parameters(facts: Facts) -> Said:
    """New parameters that the optimizer does not have: of those, nobody has wanted to keep the values."""
    if names := lost(facts):
        yield (
            f"optimizer: expected all parameters of the net, got it without {some(names)}.",
            "Give it net.parameters(), or a template: optim.SGD(lr=0.1).",
        )
    own = {id(p) for p in facts.net.parameters()}
    for m in facts.net.modules():
        for name, value in vars(m).items():
            parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
            if any(isinstance(part, Module) and {id(p) for p in part.parameters()} - own for part in parts):
                yield (
                    f"{m.path}.{name}".lstrip(".") + ": expected layers that the net knows of, got some in a plain "
                    f"{type(value).__name__}, which are not trained.",
                    "Use nn.ModuleDict." if isinstance(value, dict) else "Use nn.ModuleList.",
                )


def no_gradient(facts: Facts) -> Said:
    """Parameters that the loss does not depend on."""
    probe = facts.probe
    if probe.missing:
        yield (
            f"net: expected a gradient for each parameter, got none for {some(probe.missing)}.",
            "Use them in forward, or freeze them with requires_grad_(False).",
        )
    dead = any(layer.before > STUCK for layer in probe.layers)
    dead = dead or any(o.made_by == "relu" and not o.values.any() for o in probe.outputs)
    if probe.still and not dead and probe.losses and probe.losses[0] != 0:
        yield (
            f"net: expected gradients that are not 0, got 0 for {some(probe.still)}.",
            "What comes after lets nothing through: look at activations, masks, detach() and starting values of 0.",
        )


def dead_units(facts: Facts) -> Said:
    """ReLUs that give 0 for every row; of a narrow layer on features of one sign, half may by chance."""
    found = [x for x in facts.probe.layers if x.op == "relu" and x.before > DEAD]
    if found and facts.rows >= 4:
        yield (
            f"{found[0].path or 'relu'}: expected units that answer to some rows, got 0 for all from "
            f"{found[0].before:.0%} of them.",
            "Scale the features, look at the biases, or use LeakyReLU.",
        )


def saturated_units(facts: Facts) -> Said:
    """Sigmoids and tanhs at their ends, where they are flat."""
    found = [x for x in facts.probe.layers if x.op != "relu" and x.before > SATURATED]
    if found:
        yield (
            f"{found[0].path or found[0].op}: expected values where a {found[0].op} has a slope, got "
            f"{found[0].before:.0%} of them at its ends.",
            "Scale the features, or start with smaller weights.",
        )


def _constant(out: Output) -> float:
    """About the loss of the best answer that is always the same; 0 if that is not known."""
    if out.loss in NUMERIC and out.target.size:
        return float(out.target.astype(xp.float64).var()) if out.loss is F.mse_loss else float(out.target.std())
    if out.loss in INDEXED and out.values.ndim > 1:
        return math.log(max(2, out.values.shape[1]))
    return math.log(2.0) if out.loss in BINARY else 0.0


def lost(facts: Facts) -> list[str]:
    """Parameters that the optimizer should have: new ones, or all if it has none."""
    held = {id(p) for group in facts.optimizer.param_groups for p in group.params}
    own = [(name, p) for name, p in facts.net.named_parameters() if p.requires_grad]
    left = [(name, p) for name, p in own if id(p) not in held]
    return [name for name, p in left if p.fresh or len(left) == len(own)]
