"""The life of alerts: raised, joined by others of the same cause, escalated, acknowledged, muted, resolved.

Owns identity and states; refuses to know topics.

**One cause, one alert.** One stream has at most one alert open, and an alarm of another stream that began with it, and
can come of the same cause, joins it (`causes`): the alert then lists that stream too, and is sent again as `revised`
where it has become worse or its cause has become clearer. An alert ends when each of its streams of its own kind has
ended, and effects end with their cause. A stream ends when its effect has been trivial for three units (days, or blocks
of rows) in a row, or when the new level has been accepted: the detector compares with what came since, so the alert
would stand for ever otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from stream.events import Alert, Command
from stream.windows import causes, words
from stream.windows.cells import Cells
from stream.windows.composing import Context, case_of, change_of, fingerprint_of, make
from stream.windows.context import moves
from stream.windows.evidence import Found, Group
from stream.windows.explaining import Case, Explaining, explained
from stream.windows.statistics import psi_all

CALM_UNITS: Final = 3
ACCEPTED_S: Final = 14 * 86_400.0
"""After so much event time the new level is the normal one: as long as the detectors need to learn it."""

ACCEPTED_ROWS_MAX: Final = 65_536
"""Where event time spans less than days: as many rows as came before the change, or this many, the detectors' bag."""

MUTES_MAX: Final = 1000

LOOKS: Final = (100, 400, 1_600)
"""Labelled rows since a change at which it is looked at again: fewer say nothing, more say nothing new."""

RELATED_MAX: Final = 50
"""Streams named in an alert beside its own; with pairs of features they may be many, and they are counted."""

AGAIN: Final = "what led it had ended, and has changed again: the next alert tells of that"
"""Why an alert ends that only stood for what had joined it."""


class Member(msgspec.Struct):
    """One stream of an alert. `before`: the stream before the change, against which its effect is measured."""

    group: str
    stream: int
    name: str
    kind: str
    before: Cells
    before_n: int
    at_s: float
    since_s: float
    rows: int = 0
    calm: int = 0


class OpenAlert(msgspec.Struct):
    """An alert that stands: its own stream and those that joined it, as long as they have not ended."""

    alert: Alert
    since_low_s: float
    since_high_s: float
    members: list[Member]
    again: int = 0
    case: Case | None = None
    looks: int = 0
    """How often labelled rows have answered what it is."""
    asked: int = 0
    """How many had come since the change when they were asked last and could not answer."""


class Muted(msgspec.Struct):
    """Who must not be told of a stream (or `*`), until when in event time."""

    stream: str
    until_s: float


class Book(msgspec.Struct):
    """All alerts of one model."""

    open: dict[str, OpenAlert] = {}
    by_kind: dict[str, int] = {}
    resolved: int = 0
    repeated: int = 0
    joined: int = 0
    suppressed: int = 0
    unknown: int = 0
    muted: list[Muted] = []

    def raise_alert(
        self, group_name: str, group: Group, found: Found, context: Context, explaining: Explaining | None = None
    ) -> list[Alert]:
        """A detector has alarmed: the alerts to send, none where all of it is known already."""
        alarm = found.alarm
        context.faults = self.faults()
        change = change_of(group, found, context.breaches)
        alert = make(change, found, context, self.broken_data())
        case = case_of(change, found, context)
        known = self._of_stream(group_name, change.j)
        if known is not None:
            known.again += 1
            self.repeated += 1
            if not _worse(alert, known.alert):
                return []
            was, own = known.alert, alert.stream == known.alert.stream
            worse = msgspec.structs.replace(
                alert, kind=was.kind, diagnosis=was.diagnosis, features=was.features, actions=was.actions
            )
            escalated = {**was.evidence, **alert.evidence, "escalated_from": was.severity}
            return [_sent(known, worse, "firing" if own else "revised", escalated)]
        if explaining is not None:
            answer = explaining.diagnose(case)
            alert = alert if answer is None else explained(alert, *answer)
        before = found.cells.only(change.j)
        member = Member(
            group_name, change.j, change.stream.name, alert.kind, before, before.n, alarm.at_s, alarm.since_s
        )  # fmt: skip
        slack_s = causes.DAY_S if group.state.by_days else 0.0
        over = self.open.get(alert.fingerprint)  # this stream has left it, and others have not
        for each in self.open.values():
            span = (each.since_low_s, each.since_high_s)
            led = each is over and each.alert.stream != alert.stream  # it was this stream's, and tells of another now
            if led or causes.joins(each.alert, span, alert, (alarm.since_low_s, alarm.since_high_s), slack_s):
                told = self._join(each, member, alert, case)
                return [] if told is None else [told]
        new = OpenAlert(alert, alarm.since_low_s, alarm.since_high_s, [member], case=case)
        if over is None:
            return [self._open(new)]
        new.members += over.members
        alert.related = list(dict.fromkeys(each.name for each in over.members))[:RELATED_MAX]
        return [self._end(over, AGAIN, alarm.at_s), self._open(new)]

    def _open(self, new: OpenAlert) -> Alert:
        alert, at_s = new.alert, new.members[0].at_s
        self.by_kind[alert.kind] = self.by_kind.get(alert.kind, 0) + 1
        if any(m.stream in (alert.stream, "*") and at_s < m.until_s for m in self.muted):
            alert.status = "suppressed"
            self.suppressed += 1
        self.open[alert.fingerprint] = new
        return msgspec.structs.replace(alert)

    def raise_finding(self, alert: Alert, since_s: float, at_s: float) -> Alert | None:
        """A gap between groups is beyond what is tolerated, or the future leaks into the past: the alert to send, or
        None where it is known and no worse. It is no change of a stream, so it joins nothing, and only `end_finding`
        ends it."""
        known = self.open.get(alert.fingerprint)
        if known is None:
            member = Member(alert.kind, 0, alert.stream, alert.kind, Cells({}), 0, at_s, since_s)
            return self._open(OpenAlert(alert, since_s, since_s, [member]))
        known.again += 1
        self.repeated += 1
        if not _worse(alert, known.alert):
            return None
        return _sent(known, alert, "firing", {"escalated_from": known.alert.severity})

    def end_finding(self, model: str, stream: str, reason: str, at: float) -> Alert | None:
        """What was found is so no more; None where no alert speaks of it."""
        known = self.open.get(fingerprint_of(model, {}, stream))
        return None if known is None else self._end(known, reason, at)

    def _end(self, known: OpenAlert, reason: str, at: float) -> Alert:
        del self.open[known.alert.fingerprint]
        self.resolved += 1
        return msgspec.structs.replace(
            known.alert, status="resolved", at=words.moment(at), summary=f"{known.alert.summary}; over: {reason}",
            evidence={**known.alert.evidence, "resolved_because": reason, "alarms_while_open": known.again},
        )  # fmt: skip

    def withdraw(self, watched: Callable[[str, str], bool], reason: str, at: float) -> list[Alert]:
        """Streams, by group and name, that nothing watches any more: those that joined an alert leave it, and an alert
        that has no other of its own kind ends."""
        ended = []
        for each in list(self.open.values()):
            left = [member for member in each.members if watched(member.group, member.name)]
            if len(left) == len(each.members):
                continue
            each.members = left
            if not any(member.kind == each.alert.kind for member in left):
                ended.append(self._end(each, reason, at))
        return ended

    def _of_stream(self, group: str, stream: int) -> OpenAlert | None:
        for each in self.open.values():
            if any((member.group, member.stream) == (group, stream) for member in each.members):
                return each
        return None

    def _join(self, known: OpenAlert, member: Member, alert: Alert, case: Case) -> Alert | None:
        """Another stream of the same cause: sent again where it says more than what is known."""
        known.members.append(member)
        self.joined += 1
        before = known.alert
        own = [] if alert.stream == before.stream else [alert.stream]
        related = [*before.related, *own][:RELATED_MAX]
        if causes.leads(alert, before):
            names = dict.fromkeys([before.stream, *related])
            related = [name for name in names if name != alert.stream][:RELATED_MAX]
            answer = _sent(known, alert, "revised", {"revised_from": before.summary})
            known.alert.related = answer.related = related
            known.case, known.looks, known.asked = case, 0, 0
            return answer
        if alert.stream == before.stream:
            return None
        before.related = related
        named = {feature.name for feature in before.features}
        new = [feature for feature in alert.features if feature.name not in named]
        harm = alert.impact is not None and before.impact is None and alert.severity != "information"
        if not harm and (alert.severity == "information" or not new):
            return None
        if harm:
            before.impact = alert.impact
        elif new:
            before.features = causes.ranked([*before.features, *new])
        before.at = alert.at
        return msgspec.structs.replace(before, status="revised")

    def reconsider(self, explaining: Explaining, predictions: Group, at: float) -> list[Alert]:
        """Labels have come: what is known of the open alerts, where they say more or something else than before."""
        said = []
        for each in self.open.values():
            if each.case is None or each.looks >= len(LOOKS) or not explaining.looks:
                continue
            labels = explaining.labels_since(each.case)
            if labels < (each.asked + LOOKS[0] if each.asked else LOOKS[each.looks]):
                continue
            each.case.psi, each.case.faults = moves(predictions, predictions.around(each.case.since_s)), self.faults()
            answer = explaining.diagnose(each.case)
            if answer is None or not answer[1]:
                each.asked = labels
                continue
            each.asked = 0
            each.looks += 1
            before, each.alert = each.alert, explained(each.alert, *answer)
            each.alert.at = words.moment(at)
            for member in each.members:  # what held the alert open under its old name still does
                member.kind = each.alert.kind if member.kind == before.kind else member.kind
            if each.alert.status != "suppressed" and _says_other(each.alert, before):
                said.append(msgspec.structs.replace(each.alert, status="revised"))
        return said

    def faults(self) -> dict[str, str]:
        """Features whose data is known to be broken, and how."""
        found: dict[str, str] = {}
        for each in self.open.values():
            for member in each.members if each.alert.kind == "data_quality" else ():
                group, _, name = member.name.partition("/")
                if name and member.kind == "data_quality":
                    found[name] = "missing" if group == "missing" else str(each.alert.evidence.get("fault", group))
        return found

    def broken_data(self) -> str | None:
        """The alert of broken data that stands first, if one does: errors may be its effect."""
        return next((each.alert.alert_id for each in self.open.values() if each.alert.kind == "data_quality"), None)

    def count(self, group_name: str, rows: int) -> None:
        for each in self.open.values():
            for member in each.members:
                if member.group == group_name:
                    member.rows += rows

    def judge(self, group_name: str, group: Group, unit: Cells, at: float) -> list[Alert]:
        """A unit of the group's rows is over: which alerts have ended with it."""
        ended = []
        for each in list(self.open.values()):
            reason = ""
            for member in list(each.members):
                if member.group == group_name and member.at_s < at:
                    over = self._over(member, group, unit, at)
                    if over:
                        reason = over if member.kind == each.alert.kind else reason
                        each.members.remove(member)
            if not reason or any(member.kind == each.alert.kind for member in each.members):
                continue
            ended.append(self._end(each, reason, at))
        return ended

    def _over(self, member: Member, group: Group, unit: Cells, at: float) -> str:
        """Why this stream's part has ended; empty where it has not."""
        by_days = group.state.by_days
        member.calm = member.calm + 1 if trivial(group, member.stream, member.before, unit) else 0
        if member.calm >= CALM_UNITS:
            return f"its effect was trivial for {CALM_UNITS} {'days' if by_days else 'blocks'} in a row"
        wanted = min(max(member.before_n, 1), ACCEPTED_ROWS_MAX)
        if at - member.at_s >= ACCEPTED_S if by_days else member.rows >= wanted:
            group.rebase(member.stream, member.since_s)
            return "the new level has lasted so long that it is the normal one now"
        return ""

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
            "joined": self.joined,
            "suppressed": self.suppressed,
            "unknown_commands": self.unknown,
            "by_kind": dict(self.by_kind),
        }


def _worse(new: Alert, known: Alert) -> bool:
    return words.SEVERITIES.index(new.severity) > words.SEVERITIES.index(known.severity)


def _says_other(now: Alert, before: Alert) -> bool:
    """Whether people should hear again of an alert that labels have had their say on: it is of another kind, another
    feature or slice stands first, or it is decided now."""
    first = [[feature.name for feature in alert.features[:1]] for alert in (now, before)]
    place = [list(alert.evidence.get("slices", []))[:1] for alert in (now, before)]
    decided = [alert.evidence.get("decided") for alert in (now, before)]
    return now.kind != before.kind or first[0] != first[1] or place[0] != place[1] or decided[0] != decided[1]


def _sent(known: OpenAlert, alert: Alert, status: str, evidence: dict[str, Any]) -> Alert:
    """What is known becomes what `alert` says, under its own identity; returns it as it is sent."""
    before = known.alert
    known.alert = msgspec.structs.replace(
        alert,
        alert_id=before.alert_id,
        fingerprint=before.fingerprint,
        status="acknowledged" if before.status == "acknowledged" else "firing",
        severity=max(before.severity, alert.severity, key=words.SEVERITIES.index),
        evidence={**alert.evidence, **evidence},
        impact=alert.impact or before.impact,
        related=before.related,
    )
    return msgspec.structs.replace(known.alert, status=status)


def trivial(group: Group, j: int, own: Cells, unit: Cells) -> bool:
    """Whether the unit differs from the time before the change by no more than what F09 calls trivial."""
    now, before = unit.total().bins(j), own.mixed(unit.weights()).bins(0)
    if not now.sum() or not before.sum():
        return False
    if group.state.streams[j].kind in ("rate", "loss"):
        return abs(float(now[1] / now.sum() - before[1] / before.sum())) < words.SHARE_GATE
    psi = psi_all(before[None, :], now[None, :])
    return float(psi[0]) < words.PSI_GATE
