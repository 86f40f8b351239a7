"""F20: the core of delivery. What a request holds, who is told what, and what is tried again; no clock, no network."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stream import config
from stream.events import Alert, Since
from stream.runtime import delivery, notices
from stream.runtime.delivery import Answer, Desk, next_try
from tests.receivers import POSTABLE_ALERTS, alert, faults, verifies

NOW_S = 1_400_000_000.0


def desk(target: str) -> Desk:
    read = config.parse(f"models: {{late15: {{task: binary}}, fraud: {{task: binary}}}}\ndeliver: [{target}]")
    return Desk(read, read.deliver[0])


def test_the_checker_of_the_schema_finds_planted_faults() -> None:
    planted = [{"labels": {"a": 1}, "startsAt": "2013-06-24", "endsAt": 3, "generatorURL": "x y", "extra": ""}, {}, 5]
    assert len(list(faults(planted, POSTABLE_ALERTS))) == 7


MOMENTS = st.sampled_from(
    ["2013-06-24T18:00:00Z", "2099-01-01T00:00:00+02:00", "0001-01-01T00:00:00+14:00", "soon", ""]
)
ALERTS = st.builds(
    lambda slice, severity, status, at, since, stream: alert(
        slice=slice,
        severity=severity,
        status=status,
        at=at,
        stream=stream,
        since=since,
    ),
    st.dictionaries(st.text(), st.text(), max_size=4),
    st.sampled_from(["information", "warning", "critical"]),
    st.sampled_from(["firing", "revised", "acknowledged", "resolved"]),
    MOMENTS,
    st.none() | st.builds(Since, MOMENTS),
    st.text(),
)


@given(ALERTS, st.none() | ALERTS)
@settings(max_examples=100)
def test_an_alertmanager_is_posted_what_its_schema_wants(sent: Alert, before: Alert | None) -> None:
    """F20: whatever slices are called and whatever times say, there is nothing that it would refuse."""
    body = msgspec.json.decode(notices.posted(sent, before, "https://grafana/d/x", NOW_S).body)
    assert list(faults(body, POSTABLE_ALERTS)) == []
    for each in body:
        assert all(re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name) for name in each["labels"])
        assert all([*each["labels"].values(), *each["annotations"].values()])
        starts, ends = (datetime.fromisoformat(each[name]).timestamp() for name in ("startsAt", "endsAt"))
        assert starts <= min(ends, NOW_S)
    first = datetime.fromisoformat(body[0]["endsAt"]).timestamp()
    assert first <= NOW_S if sent.status == "resolved" else first == NOW_S + notices.VALID_S


def test_an_alertmanager_is_told_what_people_need() -> None:
    (told,) = msgspec.json.decode(notices.posted(alert(), None, None, NOW_S).body)
    assert told["labels"] == {
        "alertname": "TidegateConceptDrift", "model": "late15", "kind": "concept_drift", "severity": "warning",
        "stream": "loss", "fingerprint": "c41d0001", "slice_origin": "LGA",
    }  # fmt: skip
    assert told["annotations"] == {
        "summary": "late15 is wrong more often at LGA: error 0.190 → 0.310 since 24 June 11:20",
        "since": "2013-06-24T11:20:00Z (between 2013-06-24T09:40:00Z and 2013-06-24T13:05:00Z)",
        "features": "carrier=EV 44%, carrier=MQ 27%",
        "next": "start a challenger on examples since then, and compare it in shadow",
        "impact": "error 0.19 → 0.31", "alert_id": alert().alert_id, "status": "firing", "model_version": "17",
    }  # fmt: skip
    assert (told["startsAt"], told["endsAt"]) == ("2013-06-24T11:20:00Z", "2014-05-13T16:58:20Z")


def test_an_escalated_alert_ends_under_its_old_severity_and_a_resolved_one_when_it_did() -> None:
    critical = alert(severity="critical", at="2013-06-25T00:00:00Z")
    new, old = msgspec.json.decode(notices.posted(critical, alert(), None, NOW_S).body)
    assert (new["labels"]["severity"], new["endsAt"]) == ("critical", "2014-05-13T16:58:20Z")
    assert (old["labels"]["severity"], old["endsAt"]) == ("warning", "2013-06-25T00:00:00Z")
    over = alert(severity="critical", status="resolved", at="2013-06-30T00:00:00Z")
    (ended,) = msgspec.json.decode(notices.posted(over, critical, None, NOW_S).body)
    assert (ended["labels"], ended["endsAt"]) == (new["labels"], "2013-06-30T00:00:00Z")


def test_a_webhook_is_sent_the_whole_alert_as_a_cloud_event() -> None:
    """F20, F47: CloudEvents 1.0, structured mode."""
    notice = desk("{webhook: 'https://a/'}").notice(alert(), NOW_S)
    event = msgspec.json.decode(notice.body)
    assert notice.content_type.startswith("application/cloudevents+json")
    assert msgspec.convert(event.pop("data"), Alert) == alert()
    assert event == {
        "specversion": "1.0", "id": notice.id, "source": "/tidegate/tidegate", "type": "tidegate.alert.firing",
        "subject": alert().alert_id, "datacontenttype": "application/json", "time": "2013-06-24T18:00:00Z",
    }  # fmt: skip
    assert desk("{webhook: 'https://a/'}").notice(alert(), NOW_S + 9) == notice, "the same whenever it is told"


@given(st.data())
@settings(max_examples=50)
def test_the_signature_verifies_and_one_flipped_bit_does_not(data: st.DataObject) -> None:
    """F53: of the body, of the time, of the id."""
    key = data.draw(st.binary(min_size=16, max_size=64))
    notice = notices.cloud_event(alert(), "/tidegate")
    sent = notices.headers(notice, notices.Credentials(None, key), NOW_S)
    assert verifies(sent, notice.body, key)
    at, bit = data.draw(st.integers(0, len(notice.body) - 1)), data.draw(st.integers(0, 7))
    flipped = bytes([*notice.body[:at], notice.body[at] ^ 1 << bit, *notice.body[at + 1 :]])
    assert not verifies(sent, flipped, key)
    assert not verifies({**sent, "webhook-timestamp": str(int(NOW_S) + 1)}, notice.body, key)
    assert not verifies({**sent, "webhook-id": notices.notice_id(alert(2))}, notice.body, key)
    assert not verifies(sent, notice.body, key + b"x")


def test_a_target_is_told_what_it_asks_for() -> None:
    asked = desk("{webhook: 'https://a/', min_severity: critical, kinds: [concept_drift], models: [late15]}")
    cases = {
        "severity": alert(),
        "kind": alert(severity="critical", kind="label_drift"),
        "model": alert(severity="critical", model="fraud"),
        "muted": alert(severity="critical", status="suppressed"),
    }
    assert {word: asked.why_not(told) for word, told in cases.items()} == {word: word for word in cases}
    assert asked.why_not(alert(severity="critical", status="resolved")) == "muted", "it was never told that it fired"
    assert asked.why_not(alert(severity="critical")) is None
    asked.remember(alert(severity="critical"))
    assert asked.why_not(alert(severity="critical", status="resolved")) is None
    assert desk("{webhook: 'https://a/'}").why_not(alert(model="gone")) == "model", "nobody will ever resolve it"


LIVES = st.lists(
    st.tuples(
        st.integers(1, 4),
        st.sampled_from(["firing", "revised", "acknowledged", "suppressed", "resolved"]),
        st.sampled_from(["information", "warning", "critical"]),
    ),
    max_size=40,
)


@given(LIVES, st.integers(0, 40))
@settings(max_examples=100)
@example([(1, "firing", "warning"), (1, "firing", "warning"), (1, "resolved", "warning")], 1)
def test_nothing_is_told_twice_and_a_restart_changes_nothing(lives: list[tuple[int, Any, Any]], cut: int) -> None:
    """F20: whoever reads the topic again tells the rest exactly as if nothing had happened."""
    alerts = [alert(number, status=status, severity=severity) for number, status, severity in lives]

    def told(by: Desk, of: list[Alert]) -> list[Any]:
        out = []
        for each in of:
            if by.why_not(each) is None:
                out.append(by.notice(each, NOW_S))
                by.remember(each)
        return out

    whole = desk("{alertmanager: 'https://a'}")
    straight = told(whole, alerts)
    assert len({notice.id for notice in straight}) == len(straight)
    first, second = desk("{alertmanager: 'https://a'}"), desk("{alertmanager: 'https://a'}")
    before = told(first, alerts[:cut])
    assert told(second, alerts[:cut]) == before
    assert before + told(second, alerts[cut:]) == straight
    assert second.told == whole.told and second.again(NOW_S) == whole.again(NOW_S)


def test_open_alerts_are_told_to_an_alertmanager_again_until_they_end() -> None:
    open_ones, hook = desk("{alertmanager: 'https://a'}"), desk("{webhook: 'https://a/'}")
    for number in range(delivery.RESEND_ALERTS + 1):
        open_ones.remember(alert(number))
        hook.remember(alert(number))
    assert [len(msgspec.json.decode(n.body)) for n in open_ones.again(NOW_S)] == [delivery.RESEND_ALERTS, 1]
    open_ones.remember(alert(0, status="resolved"))
    (again,) = open_ones.again(NOW_S)
    assert "c41d0000" not in again.body.decode() and "2014-05-13T16:58:20Z" in again.body.decode()
    assert hook.again(NOW_S) == []
    assert 4 * delivery.RESEND_S < notices.VALID_S, "several may be lost"


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "OPEN_MAX", 3)
    monkeypatch.setattr(delivery, "TOLD_MAX", 5)
    small = desk("{webhook: 'https://a/'}")
    for number in range(9):
        small.remember(alert(number))
    assert list(small.told.open) == [alert(number).alert_id for number in (6, 7, 8)]
    assert (len(small.told.notices), small.told.forgotten) == (5, 6)


@given(st.integers(1, 10_000), st.text(), st.floats(0, 1e9))
def test_waits_double_to_a_minute_and_depend_on_the_notice_alone(tries: int, told: str, elapsed_s: float) -> None:
    wait = next_try(Answer(503, ""), tries, 0.0, told, 1e9)
    longest = min(2.0 ** (tries - 1) if tries < 10 else 60.0, 60.0)
    assert wait is not None and longest / 2 <= wait <= longest
    assert wait == next_try(Answer(None, ""), tries, 0.0, told, 1e9)
    assert next_try(Answer(503, ""), tries, elapsed_s, told, elapsed_s) is None, "its time is over"


@pytest.mark.parametrize(
    ("status", "transient"),
    [(None, True), (408, True), (429, True), (500, True), (503, True), (599, True)]
    + [(status, False) for status in (301, 302, 400, 401, 403, 404, 410, 413, 422)],
)
def test_only_what_may_pass_is_tried_again(status: int | None, transient: bool) -> None:
    assert (next_try(Answer(status, ""), 1, 0.0, "a", 60.0) is not None) == transient


def test_notices_that_failed_together_come_again_apart_and_a_receiver_may_ask_for_time() -> None:
    waits = {next_try(Answer(503, ""), 7, 0.0, notices.notice_id(alert(i)), 1e9) for i in range(50)}
    assert len(waits) == 50
    assert next_try(Answer(429, "", 30.0), 1, 0.0, "a", 1e9) == 30.0
    assert next_try(Answer(429, "", 86_400.0), 1, 0.0, "a", 1e9) == delivery.WAIT_MAX_S
