"""The life of alerts: raised, repeated, escalated, acknowledged, muted, resolved. Owns identity and states; refuses to
know topics.

One stream has at most one alert open; further alarms of it are counted, and sent only where they make it worse. An
alert ends when its effect has been trivial for three units (days, or blocks of rows) in a row, or when the new level
has been accepted: the detector compares with what came since, so the alert would stand for ever otherwise.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from stream import codec
from stream.events import Alert, Command, RankedFeature, Since
from stream.windows import words
from stream.windows.cells import Cells
from stream.windows.evidence import Found, Group
from stream.windows.statistics import describe, psi_all
from stream.windows.words import Change, Impact

CALM_UNITS: Final = 3
ACCEPTED_S: Final = 14 * 86_400.0
"""After so much event time the new level is the normal one: as long as the detectors need to learn it."""

ACCEPTED_ROWS_MAX: Final = 65_536
"""Where event time spans less than days: as many rows as came before the change, or this many, the detectors' bag."""

FEATURES_MAX: Final = 10
"""Features named in an alert, the most changed first."""

MUTES_MAX: Final = 1000

TOGETHER_S: Final = 86_400.0
"""Faults that begin within a day of each other are taken for one."""

NEXT: Final = {
    "data_quality": "look at the source of {name} first: learning from broken data spoils the model",
    "covariate_drift": "check whether {name} has changed in the world or on its way; compare errors since then",
    "prediction_drift": "compare with the features that changed; errors will tell once labels have come",
    "label_drift": "check how labels are made, then retrain or adjust the threshold",
    "concept_drift": "start a challenger on examples since then, and compare it in shadow",
}


class OpenAlert(msgspec.Struct):
    """An alert that stands. `before`: its stream before the change, against which its effect is measured."""

    alert: Alert
    group: str
    stream: int
    before: Cells
    before_n: int
    at_s: float
    since_s: float
    rows: int = 0
    calm: int = 0
    again: int = 0


class Muted(msgspec.Struct):
    """Who must not be told of a stream (or `*`), until when in event time."""

    stream: str
    until_s: float


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


class Book(msgspec.Struct):
    """All alerts of one model."""

    open: dict[str, OpenAlert] = {}
    by_kind: dict[str, int] = {}
    resolved: int = 0
    repeated: int = 0
    suppressed: int = 0
    unknown: int = 0
    muted: list[Muted] = []

    def raise_alert(self, group_name: str, group: Group, found: Found, context: Context) -> Alert | None:
        """A detector has alarmed: the alert to send, or None where the same is already known."""
        change = change_of(group, found)
        alert = make(change, found, context, self.broken_data(found.alarm.since_s))
        known = self.open.get(alert.fingerprint)
        if known is not None:
            known.again += 1
            self.repeated += 1
            return self._escalate(known, alert)
        self.by_kind[alert.kind] = self.by_kind.get(alert.kind, 0) + 1
        if any(m.stream in (alert.stream, "*") and found.alarm.at_s < m.until_s for m in self.muted):
            alert.status = "suppressed"
            self.suppressed += 1
        self.open[alert.fingerprint] = OpenAlert(
            alert, group_name, found.alarm.stream, found.own,
            found.own.n, found.alarm.at_s, found.alarm.since_s,
        )  # fmt: skip
        return msgspec.structs.replace(alert)

    def _escalate(self, known: OpenAlert, alert: Alert) -> Alert | None:
        if words.SEVERITIES.index(alert.severity) <= words.SEVERITIES.index(known.alert.severity):
            return None
        known.alert = msgspec.structs.replace(
            known.alert, severity=alert.severity, summary=alert.summary, at=alert.at, statistics=alert.statistics,
            impact=alert.impact, window=alert.window, features=alert.features,
            evidence={**alert.evidence, "escalated_from": known.alert.severity},
        )  # fmt: skip
        return msgspec.structs.replace(known.alert)

    def broken_data(self, since_s: float) -> tuple[str | None, str | None]:
        """The alert of broken data that stands first, if one does: errors may be its effect. And the first that began
        with this change, within a day: several columns of one source fail together."""
        broken = [each for each in self.open.values() if each.alert.kind == "data_quality"]
        first = next((each.alert.alert_id for each in broken), None)
        near = (each.alert.alert_id for each in broken if abs(each.since_s - since_s) <= TOGETHER_S)
        return first, next(near, None)

    def count(self, group_name: str, rows: int) -> None:
        for each in self.open.values():
            if each.group == group_name:
                each.rows += rows

    def judge(self, group_name: str, group: Group, unit: Cells, at: float) -> list[Alert]:
        """A unit of the group's rows is over: which alerts have ended with it."""
        ended = []
        for fingerprint, each in list(self.open.items()):
            if each.group != group_name or each.at_s >= at:
                continue
            j = each.stream
            calm = trivial(group, j, each.before, unit)
            each.calm = each.calm + 1 if calm else 0
            wanted = min(max(each.before_n, 1), ACCEPTED_ROWS_MAX)
            accepted = at - each.at_s >= ACCEPTED_S if group.state.by_days else each.rows >= wanted
            if each.calm >= CALM_UNITS:
                reason = (
                    f"its effect was trivial for {CALM_UNITS} {'days' if group.state.by_days else 'blocks'} in a row"
                )
            elif accepted:
                reason = "the new level has lasted so long that it is the normal one now"
                group.rebase(j, each.since_s)
            else:
                continue
            evidence = {**each.alert.evidence, "resolved_because": reason, "alarms_while_open": each.again}
            summary = f"{each.alert.summary}; over: {reason}"
            ended.append(
                msgspec.structs.replace(
                    each.alert, status="resolved", at=words.moment(at), evidence=evidence, summary=summary
                )
            )
            del self.open[fingerprint]
            self.resolved += 1
        return ended

    def command(self, command: Command) -> Alert | None:
        """A person acknowledges an alert, or mutes a stream until a time; others' commands are not for us."""
        if command.action == "acknowledge":
            wanted = str(command.arguments.get("alert_id", ""))
            for each in self.open.values():
                if each.alert.alert_id == wanted:
                    each.alert.status = "acknowledged"
                    each.alert.evidence = {**each.alert.evidence, "acknowledged_by": command.issued_by}
                    return msgspec.structs.replace(each.alert)
            self.unknown += 1
        elif command.action == "mute":
            until = command.arguments.get("until")
            stream = str(command.arguments.get("stream", "*"))
            if not isinstance(until, (int, float)) or len(self.muted) >= MUTES_MAX:
                self.unknown += 1
                return None
            self.muted = [m for m in self.muted if m.stream != stream] + [Muted(stream, float(until))]
        return None

    def figures(self) -> dict[str, Any]:
        return {
            "firing": len(self.open),
            "resolved": self.resolved,
            "repeated": self.repeated,
            "suppressed": self.suppressed,
            "unknown_commands": self.unknown,
            "by_kind": dict(self.by_kind),
        }


def change_of(group: Group, found: Found) -> Change:
    j = found.alarm.stream
    psi = psi_all(found.before.counts[[j], 1:], found.current.counts[[j], 1:])
    return Change(
        group.state.streams[j], group.state.bins[j], j, found.before, found.current, found.newest, float(psi[0])
    )


def trivial(group: Group, j: int, own: Cells, unit: Cells) -> bool:
    """Whether the unit differs from the time before the change by no more than what F09 calls trivial."""
    now, before = unit.total().bins(j), own.mixed(unit.weights()).bins(0)
    if not now.sum() or not before.sum():
        return False
    if group.state.streams[j].kind in ("rate", "loss"):
        return abs(float(now[1] / now.sum() - before[1] / before.sum())) < words.SHARE_GATE
    psi = psi_all(before[None, :], now[None, :])
    return float(psi[0]) < words.PSI_GATE


def fingerprint_of(model: str, place: dict[str, str], stream: str) -> str:
    return codec.digest(codec.canonical([model, place, stream]))


def make(change: Change, found: Found, context: Context, broken_data: tuple[str | None, str | None]) -> Alert:
    """The alert of an alarm, in full."""
    alarm, stream = found.alarm, change.stream.name
    broken = words.fault(change)
    kind = words.kind(change, broken)
    impact = words.impact_of(change)
    fingerprint = fingerprint_of(context.model, context.place, stream)
    since = words.moment(alarm.since_s)
    tail = codec.digest(fingerprint.encode(), repr((alarm.at_s, alarm.since_s)).encode())[:4]
    where = ",".join(context.place.values()) or stream
    name = stream.partition("/")[2] or stream
    return Alert(
        alert_id=f"{context.model}/{where}/{kind.removesuffix('_drift')}/{since}/{tail}",
        fingerprint=fingerprint,
        status="firing",
        kind=kind,
        severity=words.severity(change, broken, impact),
        model=context.model,
        summary=words.summary(context.model, change, broken, impact, context.place, alarm.since_s),
        at=words.moment(alarm.at_s),
        model_version=context.version,
        slice=context.place,
        stream=stream,
        detector=found.detector,
        features=rank(stream, kind, context),
        statistics=describe(change),
        evidence=_evidence(found, context, broken),
        threshold=alarm.threshold,
        reference_id=context.reference_id,
        window={
            "start": since, "end": words.moment(alarm.at_s), "n": context.n, "n_labelled": context.n_labelled,
            "maturity": round(min(context.n_labelled / context.n, 1.0), 4) if context.n else 1.0,
        },
        since=Since(since, (words.moment(alarm.since_low_s), words.moment(alarm.since_high_s))),
        impact=_impact(impact),
        actions=[{"suggested": NEXT[kind].format(name=name)}],
        causation_id=broken_data[1] if kind == "data_quality" else broken_data[0],
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
    return {**said, "fault": broken} if broken else said


def _impact(impact: Impact | None) -> dict[str, Any] | None:
    if impact is None:
        return None
    return {
        "metric": impact.metric, "before": impact.before, "now": impact.now, "delta": impact.delta,
        "interval": [impact.low, impact.high],
    }  # fmt: skip


def rank(stream: str, kind: str, context: Context) -> list[RankedFeature]:
    """Who carries the change. The alarmed feature first, then others by debiased PSI, shares of their sum; for losses
    the slices by their part of the increase, where there are slices."""
    if kind == "concept_drift" and context.slices:
        return context.slices[:FEATURES_MAX]
    own = stream.partition("/")[2]
    psi = {name: value for name, value in context.features.items() if value >= words.PSI_GATE or name == own}
    total = sum(psi.values())
    order = sorted(psi, key=lambda name: (name != own, -psi[name], name))[:FEATURES_MAX]
    return [RankedFeature(name, psi[name] / total if total else 0.0, {"psi": psi[name]}) for name in order]
