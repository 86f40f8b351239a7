"""An alert as a request: what an Alertmanager is posted (API v2, `postableAlerts`) and what a webhook is (a CloudEvent
1.0 in structured mode, signed as Standard Webhooks 1.0 wants it).

Owns bodies and headers; refuses to know when they are sent, and has no clock. A notice holds no secret: headers that do
are made for each attempt.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import msgspec

from stream import codec, limits
from stream.config import Deliver
from stream.events import Alert
from stream.runtime.known import epoch_of, moment
from stream.runtime.stages import KEY_BYTES_MIN

VALID_S: Final = 300.0
"""How long an Alertmanager takes a firing alert for firing without hearing of it again: its own default
(`resolve_timeout`), said explicitly because it may have another. Longer than a restart of ours takes."""

FEATURES_TOLD: Final = 5
"""In an annotation, the most changed first; the rest is in the alert."""

ENCODED: Final = "whsec_"
"""Standard Webhooks writes keys as base64 after this; a key without it is taken as it is."""

_NOT_OF_A_LABEL = re.compile(r"[^a-zA-Z0-9_]")
_TOKEN = re.compile(r"[\x21-\x7e]+")


class Notice(NamedTuple):
    """One request to be made. `id` is the same whenever the same thing is told: receivers may tell repeats by it."""

    id: str
    content_type: str
    body: bytes


class Credentials(NamedTuple):
    """The secrets of one target. They do not show themselves."""

    token: str | None = None
    key: bytes | None = None

    def __repr__(self) -> str:
        return f"Credentials(token={'***' if self.token else None}, key={'***' if self.key else None})"


def credentials(target: Deliver, environ: Mapping[str, str] = os.environ) -> tuple[Credentials, list[str]]:
    """The target's secrets from the environment, and what is wrong with them; no fault repeats any."""
    found: list[str] = []
    token = key = None
    if target.token_env is not None:
        token = environ.get(target.token_env, "").strip()
        if not token:
            found.append(f"token_env: the environment variable {target.token_env} is not set")
        elif not _TOKEN.fullmatch(token):
            found.append(f"token_env: {target.token_env} holds more than one word of plain letters, digits and signs")
    if target.hmac_env is not None:
        text = environ.get(target.hmac_env, "").strip()
        key = _key(text)
        if not text:
            found.append(f"hmac_env: the environment variable {target.hmac_env} is not set")
        elif len(key) < KEY_BYTES_MIN:
            found.append(f"hmac_env: {target.hmac_env} holds less than {KEY_BYTES_MIN} bytes (openssl rand -hex 32)")
    return Credentials(token, key), found


def _key(text: str) -> bytes:
    if not text.startswith(ENCODED):
        return text.encode()
    try:
        return base64.b64decode(text.removeprefix(ENCODED), validate=True)
    except binascii.Error:
        return b""


def notice_id(alert: Alert) -> str:
    """Identifies what is told: an alert, its status and its severity. Safe in a header, whatever slices are called."""
    return codec.digest(codec.canonical([alert.alert_id, alert.status, alert.severity]))


def cloud_event(alert: Alert, source: str) -> Notice:
    """The whole alert in a CloudEvent; its id is the notice's."""
    told = notice_id(alert)
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": told,
        "source": source,
        "type": f"tidegate.alert.{alert.status}",
        "subject": alert.alert_id,
        "datacontenttype": "application/json",
        "data": alert,
    }
    at = _epoch(alert.at)
    if at is not None:
        event["time"] = moment(at)
    return Notice(told, "application/cloudevents+json; charset=utf-8", msgspec.json.encode(event))


def posted(alert: Alert, before: Alert | None, link: str | None, now_s: float) -> Notice:
    """An alert for an Alertmanager. Severity is a label, and labels are identity there: what was told `before` with
    another one ends with this notice."""
    alerts = [postable(alert, link, now_s, alert.status == "resolved")]
    if before is not None and before.severity != alert.severity:
        alerts.append(postable(msgspec.structs.replace(before, at=alert.at), link, now_s, True))
    return Notice(notice_id(alert), "application/json", msgspec.json.encode(alerts))


def posted_again(alerts: Iterable[Alert], link: str | None, now_s: float) -> Notice:
    """Open alerts once more, for as long as VALID_S from now."""
    body = msgspec.json.encode([postable(alert, link, now_s, False) for alert in alerts])
    return Notice(codec.digest(body), "application/json", body)


def postable(alert: Alert, link: str | None, now_s: float, over: bool) -> dict[str, Any]:
    """One `postableAlert`. Event time may run ahead of the clock by the producers' fault: an end that lies ahead would
    keep the alert firing until then, and a start after the end is refused, so neither is later than now."""
    at = _epoch(alert.at)
    ends = min(now_s if at is None else at, now_s) if over else now_s + VALID_S
    since = None if alert.since is None else _epoch(alert.since.estimate)
    starts = min(ends, now_s, *(moment_s for moment_s in (since, at) if moment_s is not None))
    out = {
        "labels": labels(alert),
        "annotations": remarks(alert),
        "startsAt": moment(starts),
        "endsAt": moment(ends),
    }
    if link is not None:
        out["generatorURL"] = link if "#" in link else f"{link}#{quote(alert.alert_id, safe='')}"
    return out


def _epoch(text: str) -> float | None:
    """Epoch seconds within the years that event times have; None where there is no time."""
    at = epoch_of(text)
    return None if at is None else min(max(at, limits.EVENT_TIME_MIN_S), limits.EVENT_TIME_MAX_S)


def labels(alert: Alert) -> dict[str, str]:
    """What identifies the alert, and what people route by. Empty ones are left out: to Alertmanager they are absent."""
    places = {f"slice_{_NOT_OF_A_LABEL.sub('_', name)}": value for name, value in alert.slice.items()}
    own = {
        "alertname": "Tidegate" + alert.kind.title().replace("_", ""),
        "model": alert.model,
        "kind": alert.kind,
        "severity": alert.severity,
        "stream": alert.stream,
        "fingerprint": alert.fingerprint,
    }
    return {name: value for name, value in {**places, **own}.items() if value}


def remarks(alert: Alert) -> dict[str, str]:
    """The annotations, which people read: they change while the alert stands, and do not identify it."""
    since = alert.since
    between = f" (between {' and '.join(since.interval)})" if since is not None and since.interval else ""
    ranked = [f"{feature.name} {feature.share:.0%}" for feature in alert.features[:FEATURES_TOLD]]
    steps = [str(action["suggested"]) for action in alert.actions if "suggested" in action]
    out = {
        "summary": alert.summary,
        "since": f"{since.estimate}{between}" if since is not None else "",
        "features": ", ".join(ranked),
        "next": "; ".join(steps),
        "impact": _impact(alert.impact),
        "alert_id": alert.alert_id,
        "status": alert.status,
        "model_version": alert.model_version or "",
    }
    return {name: text for name, text in out.items() if text}


def _impact(impact: Mapping[str, Any] | None) -> str:
    before, now = (impact.get(side) if impact else None for side in ("before", "now"))
    if impact is None or not isinstance(before, (int, float)) or not isinstance(now, (int, float)):
        return ""
    return f"{impact.get('metric', '')} {before:.3g} → {now:.3g}".strip()


def headers(notice: Notice, secrets: Credentials, now_s: float) -> dict[str, str]:
    """The headers of one attempt. With a key: the signature of the body, the id and this attempt's time."""
    out = {"Content-Type": notice.content_type, "User-Agent": "tidegate"}
    if secrets.token is not None:
        out["Authorization"] = f"Bearer {secrets.token}"
    if secrets.key is not None:
        out["webhook-id"] = notice.id
        out["webhook-timestamp"] = str(int(now_s))
        out["webhook-signature"] = signature(secrets.key, notice.id, int(now_s), notice.body)
    return out


def signature(key: bytes, told: str, timestamp_s: int, body: bytes) -> str:
    """HMAC-SHA256 over `id.timestamp.body` in base64, after the scheme's version (Standard Webhooks 1.0, Signatures).

    >>> signature(b"0123456789abcdef", "msg_1", 1674087231, b"{}")
    'v1,rbI48CXoviQ+I6Jp8xhzsR5GKoTI77o+j3vG6JbIW7o='
    """
    signed = b".".join([told.encode(), str(timestamp_s).encode(), body])
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
