"""What a target is told of alerts, and when a notice is tried again: the core of delivery, without I/O and clock.

A `Desk` is a function of one partition of the alerts topic: whoever reads that from its beginning knows again what has
been told and which alerts are open, so nothing of it is stored anywhere. Owns that, and the rules of trying again;
refuses to know how requests travel (`stream.runtime.courier`) and where alerts come from.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple
from urllib.parse import quote

import msgspec

from detectors.randomness import key
from stream.config import Config, Deliver
from stream.events import Alert
from stream.runtime import notices
from stream.runtime.notices import Notice
from stream.windows.words import SEVERITIES

OPEN_MAX: Final = 5_000
"""Open alerts of one partition and target; a model has a few, and each takes about 3 kB. The oldest is forgotten first:
an Alertmanager takes it for resolved, a webhook is not told of its end."""

TOLD_MAX: Final = 20_000
"""Notices of one partition and target that are not sent a second time; an alert causes about three."""

RESEND_S: Final = 60.0
"""Open alerts go to an Alertmanager again: four such notices may be lost before it takes them for resolved."""

RESEND_ALERTS: Final = 64
"""In one request, so that a body stays far below a megabyte."""

WAIT_FIRST_S: Final = 1.0
WAIT_MAX_S: Final = 60.0
"""Between two tries: doubled each time, up to a minute, for somebody may be waiting for the alert."""

TRANSIENT: Final = (408, 429)
"""Refusals that say 'later'; every other one below 500 would only be repeated."""


class Answer(NamedTuple):
    """What came of one attempt: an HTTP status, or None where there was no answer; in words; and, where the receiver
    said so, how many seconds to leave it alone."""

    status: int | None
    reason: str
    retry_after_s: float | None = None

    @property
    def delivered(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def transient(self) -> bool:
        return self.status is None or self.status >= 500 or self.status in TRANSIENT


def next_try(answer: Answer, tries: int, elapsed_s: float, told: str, retry_for_s: float) -> float | None:
    """Seconds until an attempt that failed is repeated; None to give up: the receiver will not have it, or the next
    try would come later than `retry_for_s` after the first.

    The wait doubles, between half and the whole of it by a number that depends on the notice and the attempt alone, so
    that notices that failed together do not come again together.
    """
    if not answer.transient:
        return None
    longest = min(WAIT_FIRST_S * 2.0 ** min(tries - 1, 16), WAIT_MAX_S)
    wait = longest * (1.0 + key(0, told, tries) / 2.0**64) / 2.0
    wait = max(wait, min(answer.retry_after_s or 0.0, WAIT_MAX_S))
    return wait if elapsed_s + wait <= retry_for_s else None


class Told(msgspec.Struct):
    """What one target has been told: the alerts that stand open there, oldest first, and the notices by their ids."""

    open: dict[str, Alert] = {}
    notices: dict[str, None] = {}
    forgotten: int = 0


class Desk:
    """One target and one partition of alerts: what is sent for an alert, if anything. `remember` is the only mutator;
    it is called once an alert has been delivered, or given up, or is known to have been before a restart."""

    def __init__(self, config: Config, target: Deliver) -> None:
        self._target = target
        self._models: Collection[str] = target.models or list(config.models)
        self._source = f"/tidegate/{quote(config.topics.prefix)}"
        self.told = Told()

    def why_not(self, alert: Alert) -> str | None:
        """Why nothing is sent for an alert, as a word to count by; None where something is."""
        if alert.model not in self._models:
            return "model"
        if self._target.kinds and alert.kind not in self._target.kinds:
            return "kind"
        if SEVERITIES.index(alert.severity) < SEVERITIES.index(self._target.min_severity):
            return "severity"
        if notices.notice_id(alert) in self.told.notices:
            return "repeated"
        if alert.status == "suppressed" or (alert.status == "resolved" and alert.alert_id not in self.told.open):
            return "muted"
        return None

    def notice(self, alert: Alert, now_s: float) -> Notice:
        """The request that tells the target."""
        if self._target.alertmanager is None:
            return notices.cloud_event(alert, self._source)
        return notices.posted(alert, self.told.open.get(alert.alert_id), self._target.link, now_s)

    def remember(self, alert: Alert) -> None:
        """The alert has been told, or will never be."""
        self.told.notices[notices.notice_id(alert)] = None
        self.told.open.pop(alert.alert_id, None)
        if alert.status != "resolved":
            self.told.open[alert.alert_id] = alert
        while len(self.told.notices) > TOLD_MAX:
            del self.told.notices[next(iter(self.told.notices))]
        while len(self.told.open) > OPEN_MAX:
            del self.told.open[next(iter(self.told.open))]
            self.told.forgotten += 1

    def again(self, now_s: float) -> list[Notice]:
        """The notices that keep open alerts open at an Alertmanager; nothing for a webhook."""
        if self._target.alertmanager is None:
            return []
        alerts = list(self.told.open.values())
        return [
            notices.posted_again(alerts[i : i + RESEND_ALERTS], self._target.link, now_s)
            for i in range(0, len(alerts), RESEND_ALERTS)
        ]
