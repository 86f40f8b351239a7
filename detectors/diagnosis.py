"""What kind of thing an alarm is (F19). Owns the rules, one table, read from the top; refuses to learn anything and to
know where the evidence came from.

Each rule says how much it claims of what the rules before it left open. Broken data comes first, as it spoils all other
evidence; then the model, then the way of the labels, and what is still open is the world's: covariate, label and
concept share it by how well each alone explains the labelled rows, and by what is usual for the stream that alarmed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from detectors import advice
from detectors.attribution import Attribution
from detectors.case import KINDS, Evidence, Kind, Share
from detectors.decomposition import Part

FAULT_SURE: Final = 0.95
FAULT_BESIDE: Final = 0.4
"""A fault is hardly ever anything else. Where labels given the sound inputs have surely changed too, it is one of two
faults, and the lesser one of an alarm of the loss."""

STANDS: Final = 3.0
"""An explanation that costs less than so many standard deviations of chance stands, one that costs more falls, as
1 / (1 + (cost / STANDS)^2): at this cost it is half believed, and from here on the change may be a mixed one."""

STILL: Final = 0.5
"""Belief in nothing having changed from which no kind of change is decided."""

FALLEN: Final = 0.1
"""An explanation believed less than this is none."""

PSI_TRIVIAL: Final = 0.02
PSI_PLAIN: Final = 0.10
"""Inputs of all predictions stand still below the first and have plainly moved at the second (Siddiqi 2006)."""

DELAY_PSI_USUAL: Final = 0.10
DELAY_PSI_PLAIN: Final = 0.25
MATURITY_USUAL: Final = 0.02
MATURITY_PLAIN: Final = 0.10
"""How far the time of labels, and the share of predictions that have one, move without saying anything, and from where
they say it plainly."""

UNDECIDED: Final = 0.5
"""A kind with less probability is a guess."""

USUAL: Final[dict[str, dict[Kind, float]]] = {
    "feature": {"covariate": 0.8, "label": 0.1, "concept": 0.1},
    "missing": {"covariate": 0.8, "label": 0.1, "concept": 0.1},
    "score": {"covariate": 0.7, "label": 0.2, "concept": 0.1},
    "prediction": {"covariate": 0.7, "label": 0.2, "concept": 0.1},
    "label": {"covariate": 0.2, "label": 0.5, "concept": 0.3},
    "loss": {"covariate": 0.3, "label": 0.2, "concept": 0.5},
}
"""By the stream that alarmed, before any labelled row has been looked at: inputs cannot show a change of concept, and a
loss rises by a new concept more often than by anything else."""


APART: Final[dict[Kind, float]] = {"covariate": 0.6, "label": 0.1, "concept": 0.3}
"""Where the two times share too few inputs: those have moved for sure, and what else has, nobody can tell."""

BASE_RATE: Final = 3.0
"""Where label and concept both stand, as inputs say little of the label, a change of its level alone, whatever the
inputs, is so many times likelier one of the labels' shares: one number has moved, not a rule that happens to shift for
all inputs alike."""

WORLD: Final[dict[Kind, str]] = {
    "covariate": "labels hardly tell the two times apart once the inputs are known: inputs have moved, not the rule",
    "label": "inputs hardly tell the two times apart once the label is known: the shares of the labels have moved",
    "concept": "inputs alone hardly tell the two times apart, inputs and labels together do: the rule has moved",
}
NO_LABELS: Final = "too few labels have come since: judged by which stream alarmed"
NOTHING: Final = "labelled rows do not show yet that anything has changed: judged by which stream alarmed"
UNSHARED: Final = "the two times share too few inputs to tell other inputs from another rule"


class Diagnosis(msgspec.Struct):
    """probabilities: by kind, sum 1. decided: whether one kind stands out and the two times can be compared. because:
    the reasons of the rules that claimed something. loss: `total` change and its parts `covariate` and `concept`."""

    kind: Kind
    probabilities: dict[Kind, float]
    decided: bool
    features: list[Share]
    slices: list[Share]
    action: str
    because: list[str]
    loss: dict[str, Part] = {}


class Rule(NamedTuple):
    kind: Kind
    because: str
    claim: Callable[[Evidence], float]


def diagnose(evidence: Evidence) -> Diagnosis:
    """Kind, carriers and next action; the same evidence gives the same answer."""
    probabilities: dict[Kind, float] = dict.fromkeys(KINDS, 0.0)
    open_, because = 1.0, []
    for rule in RULES:
        claim = rule.claim(evidence)
        if claim > 0:
            because.append(rule.because)
        probabilities[rule.kind] += open_ * claim
        open_ *= 1 - claim
    for kind, share in world(evidence).items():
        probabilities[kind] += open_ * share
    kind = max(KINDS, key=lambda each: probabilities[each])
    found = evidence.found
    unshared = found is not None and not found.decided
    still = found is not None and stands(found, "nothing") >= STILL
    decided = probabilities[kind] >= UNDECIDED and not (kind in WORLD and (unshared or still))
    if kind in WORLD:
        because.append(NO_LABELS if found is None else UNSHARED if unshared else NOTHING if still else WORLD[kind])
    features, slices = advice.features_of(evidence, kind), advice.slices_of(evidence)
    action = advice.action_of(evidence, kind, features, unshared and kind in WORLD)
    return Diagnosis(kind, probabilities, decided, features, slices, action, because, loss_of(found))


def loss_of(found: Attribution | None) -> dict[str, Part]:
    parts = ("total", "covariate", "concept")
    return {} if found is None else {name: getattr(found.loss, name) for name in parts}


def broken(evidence: Evidence) -> float:
    """A feature's alarm is about that feature; outputs and losses suffer from any. Labels are made elsewhere."""
    if evidence.stream == "label" or not evidence.faults:
        return 0.0
    if evidence.stream in ("feature", "missing"):
        return FAULT_SURE if evidence.name in evidence.faults else 0.0
    found = evidence.found
    also = evidence.stream == "loss" and found is not None and found.decided and stands(found, "covariate") < FALLEN
    return FAULT_BESIDE if also else FAULT_SURE


def another_model(evidence: Evidence) -> float:
    found = evidence.found
    if evidence.version is None or found is None or evidence.stream != "loss" or not found.loss.concept.sure:
        return 0.0
    return stands(found, "nothing")


def labels_late(evidence: Evidence) -> float:
    explanation = evidence.explanation
    if explanation is None or evidence.stream not in ("label", "loss"):
        return 0.0
    delay = max(explanation.delays)
    other = max(
        ramp(delay, DELAY_PSI_USUAL, DELAY_PSI_PLAIN),
        ramp(evidence.maturity_before - evidence.maturity, MATURITY_USUAL, MATURITY_PLAIN),
    )
    still = 1 - ramp(max(evidence.psi.values(), default=0.0), PSI_TRIVIAL, PSI_PLAIN)
    chosen = max(stands(explanation.whole, "label"), stands(explanation.whole, "covariate"))
    return FAULT_SURE * other * still * min(2 * chosen, 1.0)


RULES: Final = (
    Rule(
        "data_quality",
        "a feature is broken, and what breaks from one row to the next is a feed and not the world",
        broken,
    ),
    Rule(
        "data_quality",
        "only one model version errs more, while inputs and labels together are as before: the model was changed",
        another_model,
    ),
    Rule(
        "delayed_labels",
        "labels come at another pace and the inputs of all predictions stand still; only the choice of rows that are "
        "labelled already has changed, by label or by input",
        labels_late,
    ),
)
"""From the top. Their claims are documented by their reasons; `world` shares out what they leave."""


def world(evidence: Evidence) -> dict[Kind, float]:
    """Covariate, label and concept, which sum to 1. Covariate stands where labels do not tell the two times apart given
    inputs; label, where inputs do not given the label; concept, where inputs alone do not. A change that is none of
    them purely is shared out by its parts of the loss, if it is the loss that alarmed."""
    usual, found = USUAL[evidence.stream], evidence.found
    if found is None:
        return dict(usual)
    if not found.decided:
        return dict(APART)
    pure = {kind: stands(found, kind) * usual[kind] for kind in WORLD}
    if found.level > advice.LEVEL_PLAIN:
        pure["label"] *= BASE_RATE
    mixed = 1 - min(2 * max(stands(found, kind) for kind in WORLD), 1.0)
    parts = mixture(evidence, found)
    scores = {kind: pure[kind] + mixed * parts[kind] for kind in WORLD}
    total = sum(scores.values())
    return {kind: score / total for kind, score in scores.items()}


def mixture(evidence: Evidence, found: Attribution) -> dict[Kind, float]:
    """How a change that is of no pure kind is shared out: by the parts of the loss where it has surely changed, else by
    which explanation costs least."""
    if evidence.stream == "loss" and found.loss.total.sure:
        sign = 1.0 if found.loss.total.value > 0 else -1.0
        covariate, concept = (max(sign * part.value, 0.0) for part in (found.loss.covariate, found.loss.concept))
        both = covariate + concept
        if both > 0:
            return {"covariate": covariate / both, "label": 0.0, "concept": concept / both}
    cost = {kind: 1 / max(found.misfit[kind].excess, 1.0) for kind in WORLD}
    total = sum(cost.values())
    return {kind: value / total for kind, value in cost.items()}


def stands(found: Attribution, kind: str) -> float:
    """From 1, the kind explains all rows, towards 0."""
    return 1 / (1 + (max(found.misfit[kind].excess, 0.0) / STANDS) ** 2)


def ramp(value: float, low: float, high: float) -> float:
    """0 up to `low`, 1 from `high`, straight between.

    >>> ramp(0.05, 0.0, 0.1)
    0.5
    """
    return min(max((value - low) / (high - low), 0.0), 1.0)
