"""Unequal treatment of groups as an alert: what it is called, how much it matters, one plain sentence (F18).

Owns words and severity of gaps between groups; refuses to know how they are found (`parity.py`) and which alerts are
open.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from detectors.gaps import GapAlarm
from detectors.statistics import differences
from stream import codec
from stream.events import Alert, Since
from stream.windows import words
from stream.windows.alerts import Book
from stream.windows.composing import NEXT, fingerprint_of
from stream.windows.parity import OVER, Group, Verdict
from stream.windows.words import Severity, moment, percent, short_moment

RATES: Final = {
    "demographic_parity": "positive predictions",
    "equal_opportunity": "positive labels predicted",
    "equalised_odds": "false positives",
    "predictive_parity": "positive predictions that come true",
}
"""What each measure's rate is a share of, as people say it."""

HIGH_IS_WORST: Final = ("equalised_odds",)
"""False positives: the group with more of them is the worse off."""

CRITICAL_TIMES: Final = 2.0
CRITICAL_POINTS: Final = words.SHARE_CRITICAL
"""A gap of twice what is tolerated, and of so many points, is critical."""


def make(
    verdict: Verdict, alarm: GapAlarm, tolerated: float, model: str, version: str | None, reference_id: str | None,
    budget: str,
) -> Alert:  # fmt: skip
    """The alert of a gap beyond the tolerated one."""
    group, since, at = verdict.group, moment(alarm.since_s), moment(alarm.at_s)
    fingerprint = fingerprint_of(model, {}, verdict.stream)
    tail = codec.digest(fingerprint.encode(), repr((alarm.at_s, alarm.since_s)).encode())[:4]
    worst = alarm.high if verdict.measure in HIGH_IS_WORST else alarm.low
    gap = alarm.rates[0] - alarm.rates[1]
    return Alert(
        alert_id=f"{model}/{verdict.stream}/fairness/{since}/{tail}",
        fingerprint=fingerprint,
        status="firing",
        kind="fairness",
        severity=severity(gap, tolerated),
        model=model,
        summary=summary(model, verdict.measure, group, alarm, tolerated),
        at=at,
        model_version=version,
        slice=group.labels[worst],
        stream=verdict.stream,
        detector="gaps",
        statistics=_statistics(alarm, tolerated),
        evidence={
            "detector": "gaps", "judge": "gaps", "what": f"gap beyond {tolerated:g}", "value": alarm.evidence,
            "threshold": 1.0, "false_alarm_budget": budget,
        },
        reference_id=reference_id,
        window={"start": since, "end": at, "n": sum(alarm.rows)},
        since=Since(since),
        actions=[{"suggested": NEXT["fairness"].format(name=group.name)}],
    )  # fmt: skip


def told(
    book: Book, verdicts: list[Verdict], tolerated: float, model: str, version: str | None, reference_id: str | None,
    budget: str,
) -> list[Alert]:  # fmt: skip
    """Verdicts become alerts, and end them."""
    answers = []
    for verdict in verdicts:
        if verdict.alarm is None:
            answers.append(book.end_finding(model, verdict.stream, OVER, verdict.at_s))
        else:
            alert = make(verdict, verdict.alarm, tolerated, model, version, reference_id, budget)
            answers.append(book.raise_finding(alert, verdict.alarm.since_s, verdict.alarm.at_s))
    return [answer for answer in answers if answer is not None]


def severity(gap: float, tolerated: float) -> Severity:
    """By the size of the gap alone.

    >>> severity(0.11, 0.1), severity(0.15, 0.1), severity(0.21, 0.1), severity(0.08, 0.02)
    ('information', 'warning', 'critical', 'warning')
    """
    if gap - tolerated < words.SHARE_GATE:
        return "information"
    return "critical" if gap >= max(CRITICAL_TIMES * tolerated, CRITICAL_POINTS) else "warning"


def summary(model: str, measure: str, group: Group, alarm: GapAlarm, tolerated: float) -> str:
    """m: positive predictions for sex=F 31%, for sex=M 52% (gap 21 points, tolerated 10) since 3 May 10:00"""
    low, high = (_called(group.labels[k]) for k in (alarm.low, alarm.high))
    rates = f"{RATES[measure]} for {low} {percent(alarm.rates[1])}, for {high} {percent(alarm.rates[0])}"
    points = f"gap {100 * (alarm.rates[0] - alarm.rates[1]):.0f} points, tolerated {100 * tolerated:.3g}"
    return f"{model}: {rates} ({points}) since {short_moment(alarm.since_s)}"


def _called(label: dict[str, str]) -> str:
    return ",".join(f"{column}={value}" for column, value in label.items())


def _statistics(alarm: GapAlarm, tolerated: float) -> dict[str, float]:
    """The gap since its beginning with Newcombe's interval, which is of one look, and what it is made of."""
    rows = np.array(alarm.rows, np.float64)
    below, above = differences(np.array(alarm.rates) * rows, np.maximum(rows, 1.0), 1)
    return {
        "gap": alarm.rates[0] - alarm.rates[1], "low": float(below[0, 1]), "high": float(above[0, 1]),
        "tolerated": tolerated, "rate_high": alarm.rates[0], "rate_low": alarm.rates[1],
        "rows_high": float(rows[0]), "rows_low": float(rows[1]),
    }  # fmt: skip
