"""F20: what arrives. Attempts against a real HTTP server on loopback, and the alerts of a replay."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from stream import config
from stream.config import Config
from stream.runtime import courier, notices
from stream.runtime.courier import Outcome, Sender, Tally
from stream.runtime.delivery import Desk
from stream.surface import cli
from tests.house import ROOT
from tests.receivers import POSTABLE_ALERTS, Receiver, Reply, alert, faults, receiving, verifies

SECRET = "hunter2-hunter2-hunter2"
NOW_S = 1_400_000_000.0
MODELS = "models: {late15: {task: binary}}\n"


def parse(target: str) -> Config:
    return config.parse(f"{MODELS}deliver: [{target}]", "c.yaml")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


def send(receiver: Receiver, more: str = "", path: str = "/x", patience: str = "1h") -> tuple[Outcome, list[float]]:
    """One alert to the receiver; how it ended, and the pauses, which pass at once."""
    read = parse(f"{{webhook: '{receiver.url}{path}', retry_for: {patience}, {more}}}")
    (sender,) = courier.senders(read, "c.yaml", {"PAGER_TOKEN": SECRET, "PAGER_KEY": SECRET})
    pauses: list[float] = []

    async def pause(seconds: float) -> bool:
        pauses.append(seconds)
        return True

    notice = Desk(read, read.deliver[0]).notice(alert(), NOW_S)
    outcome = asyncio.run(
        courier.deliver("pager", notice, sender, pause, float(read.deliver[0].retry_for), lambda: sum(pauses))
    )
    assert outcome is not None
    return outcome, pauses


def test_a_receiver_gets_path_token_signature_and_body(receiver: Receiver) -> None:
    outcome, pauses = send(receiver, "token_env: PAGER_TOKEN, hmac_env: PAGER_KEY", "/x?team=ml")
    assert (outcome, pauses) == (Outcome(True, 1, "200 OK"), [])
    (got,) = receiver.received
    assert (got.path, got.headers["authorization"]) == ("/x?team=ml", f"Bearer {SECRET}")
    assert verifies(got.headers, got.body, SECRET.encode())
    assert got.json()["data"]["alert_id"] == alert().alert_id


def test_an_error_is_tried_again_with_the_same_body_and_id(receiver: Receiver) -> None:
    receiver.replies = [Reply(500), Reply(429, {"Retry-After": "7"}), Reply(503)]
    outcome, pauses = send(receiver)
    assert (outcome.delivered, outcome.tries) == (True, 4)
    assert pauses[1] == 7.0 and 0.5 <= pauses[0] <= 1.0 and 2.0 <= pauses[2] <= 4.0
    assert len({got.body for got in receiver.received}) == 1 and len(receiver.received) == 4


def test_a_refusal_is_given_up_at_once_and_its_words_are_told(receiver: Receiver) -> None:
    receiver.replies = [Reply(400, body=b'{"error": "no such\nteam"}')]
    assert send(receiver) == (Outcome(False, 1, '400 Bad Request: {"error": "no such team"} (tried once)'), [])
    assert len(receiver.received) == 1


def test_one_that_never_recovers_is_given_up_when_its_time_is_over(receiver: Receiver) -> None:
    receiver.replies = [Reply(500)] * 100
    outcome, pauses = send(receiver, patience="10m")
    assert not outcome.delivered and outcome.tries == len(receiver.received) == len(pauses) + 1
    assert 540 <= sum(pauses) <= 600 and "500 Internal Server Error (tried" in outcome.reason


@pytest.mark.parametrize("how", ["hang", "drip"])
def test_a_receiver_that_does_not_answer_is_cut_off(receiver: Receiver, how: str) -> None:
    """Whether it says nothing, or a byte now and then for ever."""
    receiver.replies = [Reply(how=how)]
    outcome, pauses = send(receiver, "timeout: 150ms", patience="1s")
    assert outcome == Outcome(True, 2, "200 OK") and len(pauses) == 1
    receiver.replies = [Reply(how=how)]
    outcome, _ = send(receiver, "timeout: 150ms", patience="0s")
    assert outcome.reason == "no answer within 0.15 s (tried once)"


def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    """F53: whoever it names would get the token."""
    with receiving() as other:
        receiver.replies = [Reply(307, {"Location": f"{other.url}/x"})]
        outcome, _ = send(receiver, "token_env: PAGER_TOKEN")
        assert outcome.reason == "307 Temporary Redirect (tried once)"
        assert other.received == []


def test_secrets_are_in_no_log_and_no_reason_and_do_not_show(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """F53: even where the receiver sends them back."""
    caplog.set_level(logging.DEBUG)
    back = SECRET.encode()
    receiver.replies = [Reply(500, body=back), Reply(400, {"X": SECRET}, b"bad token " + back)]
    outcome, _ = send(receiver, "token_env: PAGER_TOKEN, hmac_env: PAGER_KEY", f"/{SECRET}")
    assert outcome.reason == "400 Bad Request: bad token *** (tried 2 times in 1 s)"
    read = parse(f"{{webhook: '{receiver.url}/{SECRET}', token_env: PAGER_TOKEN, hmac_env: PAGER_KEY}}")
    (sender,) = courier.senders(read, "c.yaml", {"PAGER_TOKEN": SECRET, "PAGER_KEY": SECRET})
    credentials, _ = notices.credentials(read.deliver[0], {"PAGER_TOKEN": SECRET, "PAGER_KEY": SECRET})
    for shown in (caplog.text, f"{sender} {sender!r}", f"{credentials} {credentials!r}", str(Tally(sender.name))):
        assert shown and SECRET not in shown
    assert "500 Internal Server Error; trying again" in caplog.text


def test_nobody_there_is_an_answer_and_no_exception() -> None:
    read = parse("{webhook: 'http://127.0.0.1:1/x'}")
    answer = Sender(read.deliver[0], notices.Credentials()).attempt(notices.Notice("a", "b", b"{}"), NOW_S)
    assert answer.status is None and answer.reason.startswith("ConnectionRefusedError")


REPLAYED = """
models:
  m:
    task: binary
    reference: {first: 1500}
    windows: {every: 2h, min_events: 20}
    labels: {horizon: 1d}
    detectors: [counts]
    learn: {champion: majority}
input: {model: m, label: y, label_delay: {time: 30m}}
"""


def replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deliver: str, *arguments: str
) -> tuple[int, list[dict[str, Any]]]:
    """A stream with one break through `tidegate replay --deliver`; its exit code and the alerts of its result."""
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"{i % 9 + (100 if i > 2600 else 0)},{i % 2}\n" for i in range(3600))
    (tmp_path / "d.csv").write_text("x,y\n" + rows)
    (tmp_path / "c.yaml").write_text(REPLAYED + deliver)
    code = cli.run(["replay", "d.csv", "-c", "c.yaml", "--json", "r.json", *arguments])
    return code, orjson.loads((tmp_path / "r.json").read_bytes())["alerts"] if code == 0 or arguments else []


def test_a_replay_sends_its_alerts_where_asked_and_says_how_many(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """F20, F45."""
    deliver = f"deliver: [{{webhook: '{receiver.url}/x', name: pager}}, {{alertmanager: '{receiver.url}', name: am}}]"
    code, alerts = replay(tmp_path, monkeypatch, deliver)
    assert (code, receiver.received) == (0, []), "not unless asked"
    code, alerts = replay(tmp_path, monkeypatch, deliver, "--deliver")
    told = {a["alert_id"] for a in alerts if a["severity"] != "information"}
    assert code == 0 and told
    hooked = [got.json()["data"] for got in receiver.received if got.path == "/x"]
    assert {a["alert_id"] for a in hooked} == told and all(a in alerts for a in hooked)
    posted = [got for got in receiver.received if got.path == "/api/v2/alerts"]
    assert len(posted) == len(hooked) and not list(faults(posted[0].json(), POSTABLE_ALERTS))
    assert f"pager: {len(hooked)} sent" in capsys.readouterr().out


def test_a_replay_that_cannot_deliver_says_so_in_a_line(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    receiver.replies = [Reply(404)] * 100
    code, _ = replay(tmp_path, monkeypatch, f"deliver: [{{webhook: '{receiver.url}/x', name: pager}}]", "--deliver")
    said = capsys.readouterr().err
    assert code == 2
    assert re.fullmatch(r"tidegate: pager: \d+ given up; the last: 404 Not Found \(tried once\)\n", said)


def test_compose_delivers_to_the_alertmanager_that_it_starts() -> None:
    """F20, F46."""
    (target,) = config.parse(MODELS + (ROOT / "deploy/kafka.yaml").read_text()).deliver
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert (
        target.alertmanager == "http://alertmanager:9093" and "127.0.0.1:9093:9093" in compose["alertmanager"]["ports"]
    )
    prometheus = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    assert prometheus["alerting"]["alertmanagers"] == [{"static_configs": [{"targets": ["alertmanager:9093"]}]}]
    route = yaml.safe_load((ROOT / "deploy/alertmanager/alertmanager.yml").read_text())
    assert route["route"]["receiver"] in [each["name"] for each in route["receivers"]]
    assert set(route["route"]["group_by"]) <= set(notices.labels(alert()))
