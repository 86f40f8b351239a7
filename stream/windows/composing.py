"""An alert in full, from an alarm and what stands around it. Owns what an alert holds; refuses to know which alerts are
open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import numpy as np

from stream import codec
from stream.events import Alert, RankedFeature, Since
from stream.windows import breaches, causes, words
from stream.windows.breaches import Breach
from stream.windows.evidence import Found, Group
from stream.windows.explaining import Case
from stream.windows.statistics import describe, psi_all
from stream.windows.words import Change, Impact

OF_FEATURE: Final = ("missing/", "invalid/")
"""Streams that tell of a feature what its values do not show."""

NEXT: Final = {
    "data_quality": "look at the source of {name} first: learning from broken data spoils the model",
    "covariate_drift": "check whether {name} has changed in the world or on its way; compare errors since then",
    "prediction_drift": "compare with the features that changed; errors will tell once labels have come",
    "label_drift": "check how labels are made, then retrain or adjust the threshold",
    "label_delay": "look at what brings the labels: figures of late windows rest on those that came early",
    "business_drift": "compare {name} by version and slice since then; the errors say whether the model is the cause",
    "concept_drift": "start a challenger on examples since then, and compare it in shadow",
    "fairness": "compare errors and features by {name} since then; whether the gap is justified is for people to say",
}


class Context(msgspec.Struct):
    """What an alert says beside its own stream: the model, and the state of its other groups."""

    model: str
    version: str | None
    reference_id: str | None
    budget: str
    features: dict[str, float]
    """Debiased PSI of every feature since the change."""

    slices: list[RankedFeature]
    """For losses: slices that carry the increase, with their part of it."""

    place: dict[str, str]
    n: int
    n_labelled: int
    breaches: dict[str, Breach] = {}
    """By stream of data quality, what is broken there."""

    by_label: bool = False
    """Whether moments are those of labels."""

    psi: dict[str, float] = {}
    """As `features`, a missing value being a value."""

    faults: dict[str, str] = {}
    """Features that are known to be broken, and how."""

    strange: tuple[list[RankedFeature], list[str]] = ([], [])
    """What makes strange rows since the change strange, by share, and some of them in words."""


def change_of(group: Group, found: Found, broken: Mapping[str, Breach]) -> Change:
    """The change that an alarm speaks of: of its own stream; or, where features have changed that this stream is made
    of, of the most changed one. Where values leave a learned range because all of them have moved, it is of the values.
    `broken`: what is broken, by stream of data quality."""
    j = found.alarm.stream
    if causes.is_joint(found.alarm.name):
        j = _moved_alone(group, found)
    breach = broken.get(group.state.streams[j].name)
    if breach is not None and breach.values:
        own = _values(group, breach.values)
        k = group.state.bins[own].size
        # The block of the change lies across it; the newest rows do not.
        now = found.newest if found.newest.share(j) >= breaches.LEFT else found.current
        beyond = int(now.bins(j)[1])
        if breaches.moved(found.before.bins(own)[:k], now.bins(own)[:k], beyond, now.mean(own), breach.bounds):
            j, breach = own, None
    psi = psi_all(found.before.counts[[j], 1:], found.current.counts[[j], 1:])
    sides = found.before, found.current, found.newest, found.widest
    return Change(group.state.streams[j], group.state.bins[j], j, *sides, float(psi[0]), breach)


def _values(group: Group, feature: str) -> int:
    """The stream of a feature's own values, which stand before all others."""
    return [stream.name.partition("/")[2] for stream in group.state.streams].index(feature)


def _moved_alone(group: Group, found: Found) -> int:
    """The feature, or its missing share, that has changed most, beyond chance and triviality; else the alarmed one."""
    psi = psi_all(found.before.counts[:, 1:], found.current.counts[:, 1:])
    noise = group.psi_noise(found.before, found.current)
    single = [stream.name.startswith(("feature/", "missing/", "length/")) for stream in group.state.streams]
    moved = np.where(single & (psi > noise) & (psi >= words.PSI_GATE), psi, 0.0)
    return int(np.argmax(moved)) if moved.any() else found.alarm.stream


def fingerprint_of(model: str, place: dict[str, str], stream: str) -> str:
    return codec.digest(codec.canonical([model, place, stream]))


def case_of(change: Change, found: Found, context: Context) -> Case:
    """The alarm as evidence."""
    alarm, broken = found.alarm, words.fault(change)
    own = change.stream.name.partition("/")[2]
    faults = {**context.faults, own: broken} if broken and own else context.faults
    place = ",".join(f"{key}={value}" for key, value in context.place.items()) or None
    moments = alarm.since_low_s, alarm.since_s, alarm.since_high_s
    return Case(change.stream.name, *moments, context.by_label, place, faults, context.psi)


def make(change: Change, found: Found, context: Context, causation: str | None) -> Alert:
    """The alert of an alarm, in full; `causation` is the alert of broken data that stands, if one does."""
    alarm, stream = found.alarm, change.stream.name
    broken = words.fault(change)
    kind = words.kind(change, broken)
    impact = words.impact_of(change)
    fingerprint = fingerprint_of(context.model, context.place, stream)
    since = words.moment(alarm.since_s)
    tail = codec.digest(fingerprint.encode(), repr((alarm.at_s, alarm.since_s)).encode())[:4]
    where = ",".join(context.place.values()) or stream
    name = stream.partition("/")[2] or stream
    by, examples = context.strange if stream == words.STRANGE else ([], [])
    carried = f", {words.percent(by[0].share)} of them by {by[0].name}" if by else ""
    return Alert(
        alert_id=f"{context.model}/{where}/{kind.removesuffix('_drift')}/{since}/{tail}",
        fingerprint=fingerprint,
        status="firing",
        kind=kind,
        severity=words.severity(change, broken, impact),
        model=context.model,
        summary=words.summary(context.model, change, broken, impact, context.place, alarm.since_s) + carried,
        at=words.moment(alarm.at_s),
        model_version=context.version,
        slice=context.place,
        stream=stream,
        detector=found.detector,
        features=by[: causes.FEATURES_MAX] or rank(stream, kind, context, change.psi),
        statistics=describe(change),
        evidence={**_evidence(found, context, broken), **({"examples": examples} if examples else {})},
        threshold=alarm.threshold,
        reference_id=context.reference_id,
        window={
            "start": since, "end": words.moment(alarm.at_s), "n": context.n, "n_labelled": context.n_labelled,
            "maturity": round(min(context.n_labelled / context.n, 1.0), 4) if context.n else 1.0,
        },
        since=Since(since, (words.moment(alarm.since_low_s), words.moment(alarm.since_high_s))),
        impact=_impact(impact),
        actions=[{"suggested": NEXT[kind].format(name=name)}],
        causation_id=None if kind == "data_quality" else causation,
    )  # fmt: skip


def _evidence(found: Found, context: Context, broken: str | None) -> dict[str, Any]:
    alarm = found.alarm
    said: dict[str, Any] = {
        "detector": found.detector,
        "judge": alarm.judge,
        "what": alarm.what,
        "value": alarm.evidence,
        "threshold": alarm.threshold,
        "false_alarm_budget": context.budget,
        **alarm.details,
    }
    if context.slices:  # it stays when labelled rows say which features carry the change
        said["carried_by"] = {each.name: round(each.share, 4) for each in context.slices[: causes.FEATURES_MAX]}
    return {**said, "fault": broken} if broken else said


def _impact(impact: Impact | None) -> dict[str, Any] | None:
    if impact is None:
        return None
    return {
        "metric": impact.metric, "before": impact.before, "now": impact.now, "delta": impact.delta,
        "interval": [impact.low, impact.high],
    }  # fmt: skip


def rank(stream: str, kind: str, context: Context, size: float) -> list[RankedFeature]:
    """Who carries the change: features by debiased PSI, shares of their sum, whichever of them alarmed first; broken
    data is the alarmed feature's, which comes before what moved beside it. For losses the slices by their part of the
    increase, where there are slices. `size`: the PSI of the stream itself."""
    if kind == "concept_drift" and context.slices:
        return context.slices[: causes.FEATURES_MAX]
    own = stream.partition("/")[2]
    psi = {name: value for name, value in context.features.items() if value >= words.PSI_GATE or name == own}
    if stream.startswith(OF_FEATURE):
        psi[own] = max(psi.get(own, 0.0), size)
    if not psi and own:  # a pair of which neither has moved by itself, or values that are missing
        names = words.pair_of(stream) if stream.startswith("pair/") else [own]
        return [RankedFeature(name, 1.0 / len(names)) for name in names]
    total = sum(psi.values())
    first = own if kind == "data_quality" else ""
    order = sorted(psi, key=lambda name: (name != first, -psi[name], name))[: causes.FEATURES_MAX]
    return [RankedFeature(name, psi[name] / total if total else 0.0, {"psi": psi[name]}) for name in order]
