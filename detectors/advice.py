"""Who carries a change whose kind is known, and what to do next. Owns names and advice; refuses to judge the kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from detectors.attribution import Attribution
from detectors.case import Evidence, Kind, Share
from detectors.explanation import Explanation

NEXT: Final[dict[Kind, str]] = {
    "data_quality": "repair the source of {name} first; hold learning back until it is sound",
    "covariate": "check whether {name} has moved in the world or on its way; retrain on rows since then if errors rose",
    "label": "check how labels are made; then move the decision threshold, or retrain, for the new share of {name}",
    "concept": "start a challenger on examples since then and compare it in shadow; the old rule for {name} is over",
    "delayed_labels": "wait until labels are as complete as before, and look at the delay of {name}: no retraining now",
}
MODEL_NEXT: Final = "roll back {name}: inputs and labels are as before, the model is not"
UNSHARED_NEXT: Final = "label rows of {name} that the reference does not have: nothing can be compared there yet"

CARRIERS_MAX: Final = 10
"""Names in an alert; more are not read."""

FAULT_PSI: Final = 0.02
"""Of a broken feature whose values have not moved by themselves, as those that are present when some are missing."""

LEVEL_PLAIN: Final = 0.5
"""More than this part of what changed in labels given inputs is their level alone: the base rate, not the rule."""


def features_of(evidence: Evidence, kind: Kind) -> list[Share]:
    """Who carries the change, the largest share first: broken features, classes of the label, or inputs."""
    return _features(evidence, kind)[:CARRIERS_MAX]


def _features(evidence: Evidence, kind: Kind) -> list[Share]:
    found = evidence.found
    if kind == "data_quality" and evidence.faults:
        return shared({name: evidence.psi.get(name, FAULT_PSI) for name in evidence.faults}, "psi", evidence.name)
    if found is None:
        alarmed = {evidence.name: 0.0} if evidence.name else {}
        return shared({**alarmed, **evidence.psi}, "psi", evidence.name)
    if kind in ("label", "delayed_labels"):
        return shared(found.label, "points")
    if kind == "concept":
        return concept_shares(found, evidence.explanation)
    return [
        Share(each.name, each.share, {"psi": each.psi, "loss": each.loss})
        for each in sorted(found.features, key=lambda x: (-x.share, x.name))
        if each.share > 0
    ]


def concept_shares(found: Attribution, explanation: Explanation | None) -> list[Share]:
    """Inputs for which labels have changed most; what has changed for all alike is its slice's, if it has one."""
    own = {each.name: (1 - found.level) * each.concept for each in found.features}
    if explanation is not None and explanation.place is not None and found.level > LEVEL_PLAIN:
        own[explanation.place.name] = found.level
    return shared(own, "concept")


def shared(sizes: Mapping[str, float], statistic: str, first: str = "") -> list[Share]:
    """By size, with their parts of the sum; the one that alarmed stands first, whatever its size."""
    total = sum(sizes.values())
    order = sorted(sizes, key=lambda name: (name != first, -sizes[name], name))
    kept = [name for name in order if sizes[name] > 0 or name == first]
    return [Share(name, sizes[name] / total if total else 0.0, {statistic: sizes[name]}) for name in kept]


def slices_of(evidence: Evidence) -> list[Share]:
    if evidence.explanation is None:
        return []
    return [
        Share(each.name, each.share, {"inside": each.inside, "outside": each.outside, "sure": each.sure})
        for each in evidence.explanation.slices
    ]


def action_of(evidence: Evidence, kind: Kind, features: list[Share], unshared: bool) -> str:
    name = features[0].name if features else evidence.name or evidence.stream
    if kind == "data_quality" and not evidence.faults:
        return MODEL_NEXT.format(name=f"version {evidence.version}")
    return (UNSHARED_NEXT if unshared else NEXT[kind]).format(name=name)
