"""The rules: each looks at the facts and says what is probably a mistake, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ...errors import GraphError
from . import data_rules, loss_rules, step_rules
from .facts import Facts
from .words import Said


class Rule(NamedTuple):
    """A code, what it is about, and who looks for it."""

    code: str
    title: str
    look: Callable[[Facts], Said]


RULES = (
    Rule("NB101", "constant columns", data_rules.constant_columns),
    Rule("NB102", "unscaled features", data_rules.unscaled_features),
    Rule("NB103", "the target among the features", data_rules.leaked_target),
    Rule("NB104", "unscaled targets", data_rules.unscaled_targets),
    Rule("NB105", "one class only", data_rules.one_class),
    Rule("NB201", "probabilities for a loss of logits", loss_rules.probabilities),
    Rule("NB202", "logits for a loss of probabilities", loss_rules.logits),
    Rule("NB203", "outputs and labels that do not fit", loss_rules.outputs_and_labels),
    Rule("NB204", "(n,) against (n, 1)", loss_rules.row_against_column),
    Rule("NB205", "targets that the last activation cannot give", loss_rules.cut_off),
    Rule("NB301", "a batch larger than the data", step_rules.large_batch),
    Rule("NB302", "batch norm of one row", step_rules.batch_of_one),
    Rule("NB303", "evaluation mode", step_rules.evaluation_mode),
    Rule("NB304", "nearly all dropped", step_rules.much_dropout),
    Rule("NB401", "a learning rate that explodes", step_rules.exploding),
    Rule("NB402", "nothing to train", step_rules.nothing_learns),
    Rule("NB403", "parameters that the optimizer does not have", step_rules.strange_parameters),
    Rule("NB404", "parameters without a gradient", step_rules.no_gradient),
    Rule("NB501", "dead units", step_rules.dead_units),
    Rule("NB502", "saturated units", step_rules.saturated_units),
)
FAILS = "NB001", "training that would fail"


def code_of(error: Exception, facts: Facts) -> str:
    """The code of what training would raise."""
    code: str | None = None
    if facts.probe.where == "loss":
        code = loss_rules.code_of(error, facts)
    elif facts.probe.where == "step" and isinstance(error, GraphError):
        code = "NB403" if step_rules.lost(facts) else "NB404"
    return code or FAILS[0]
