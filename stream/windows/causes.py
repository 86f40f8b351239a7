"""Which alarms come of one cause, and which of them says best what it is. Pure rules over two alerts.

A change in the world moves many streams: a feature, its pairs with others, the score, the errors. People are told once.
Two alarms are of one cause if their changes began together, as far as can be told, and the later kind can follow from
the earlier (or the other way round, where effects are found before their cause).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from stream.events import Alert, RankedFeature
from stream.windows import words

DAY_S: Final = 86_400.0
"""Where days are the unit of evidence, the beginning of a change is known to about a day."""

FOLLOWS: Final = {
    "data_quality": frozenset({"data_quality", "covariate_drift", "prediction_drift", "concept_drift", "label_drift"}),
    "covariate_drift": frozenset({"covariate_drift", "prediction_drift"}),
    "prediction_drift": frozenset({"prediction_drift"}),
    "concept_drift": frozenset({"concept_drift", "label_drift", "business_drift"}),
    "label_drift": frozenset({"label_drift", "business_drift"}),
    "label_delay": frozenset({"label_delay"}),
    "business_drift": frozenset({"business_drift"}),
    "fairness": frozenset({"fairness"}),
}
"""What a change of each kind brings with it. Errors that rise with the inputs are an alert of their own: whether the
model is wrong because of them, or beside them, is what a person must know."""

NEAREST: Final = (
    "data_quality", "covariate_drift", "concept_drift", "label_drift", "business_drift",
    "label_delay", "prediction_drift", "fairness",
)  # fmt: skip
"""Kinds from cause to effect: the nearest one names the alert."""

FEATURES_MAX: Final = 10
"""Features named in an alert, the most changed first."""

CARRIES: Final = 0.5
"""A slice with more than this part of an increase is where it happens."""


def joins(known: Alert, span: tuple[float, float], new: Alert, new_span: tuple[float, float], slack_s: float) -> bool:
    """Whether `new` is of the cause of `known`. Spans are (earliest, latest) event time of the beginnings; each end is
    uncertain itself, so the spans may miss each other by the longer one's length, or by the slack."""
    related = new.kind in FOLLOWS.get(known.kind, ()) or known.kind in FOLLOWS.get(new.kind, ())
    if not related or _apart(known, new):
        return False
    slack_s = max(slack_s, span[1] - span[0], new_span[1] - new_span[0])
    return max(span[0], new_span[0]) - min(span[1], new_span[1]) <= slack_s


def _apart(known: Alert, new: Alert) -> bool:
    """Two slices of one declaration that differ are two places, until all of them are one."""
    return bool(known.slice and new.slice and known.slice != new.slice and known.slice.keys() == new.slice.keys())


def leads(new: Alert, known: Alert) -> bool:
    """Whether `new` says better than `known` what has happened: nearer to the cause, or of the same rank and worse; or
    the one slice that carries most of it."""
    if new.kind == known.kind == "data_quality" and new.severity != "information":
        explains = _explains(new), _explains(known)
        alike = _feature(new) == _feature(known) or words.DUPLICATE in (new.stream, known.stream)
        if alike and explains[0] != explains[1]:
            return explains[0] < explains[1]
    if new.kind == known.kind and new.slice and not known.slice:
        name = ",".join(f"{key}={value}" for key, value in new.slice.items())
        return float(known.evidence.get("carried_by", {}).get(name, 0.0)) > CARRIES
    return _rank(new) < _rank(known)


def _feature(alert: Alert) -> str:
    return alert.stream.partition("/")[2]


def _explains(alert: Alert) -> int:
    """The place of an alert's fault among those of one feature."""
    fault = alert.evidence.get("fault")
    return words.EXPLAINS.index(fault) if fault in words.EXPLAINS else len(words.EXPLAINS)


def is_joint(stream: str) -> bool:
    """Whether a stream is made of several features."""
    return stream.startswith("pair/") or stream in ("distance", words.STRANGE)


def _rank(alert: Alert) -> tuple[int, int, int, int]:
    joint = is_joint(alert.stream) or alert.stream == "calibration"  # the loss says it in terms of harm
    trivial = alert.severity == "information"  # what is hardly there leads nobody
    return int(trivial), NEAREST.index(alert.kind), int(joint), -words.SEVERITIES.index(alert.severity)


def ranked(features: Sequence[RankedFeature]) -> list[RankedFeature]:
    """Features of several alarms with shares that add up to one, largest first."""
    total = sum(feature.share for feature in features) or 1.0
    scaled = [msgspec.structs.replace(feature, share=feature.share / total) for feature in features]
    return sorted(scaled, key=lambda feature: (-feature.share, feature.name))[:FEATURES_MAX]
