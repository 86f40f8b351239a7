"""F20 on a real broker: alerts from their topic to a real HTTP server. Nothing is lost, and nothing comes twice but the
notice that was on its way when the process was killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream import codec
from stream.contract import ALERTS, DEAD_LETTERS
from stream.events import Alert, DeadLetter
from stream.joining.partition import partition_of
from stream.runtime.kafka.broker import Broker
from stream.runtime.kafka.writer import Writer
from stream.runtime.shard import Encoded
from stream.surface import cli
from tests.kafka_support import MODELS, ROOT, Cluster, wait
from tests.receivers import POSTABLE_ALERTS, Receiver, Reply, alert, faults, receiving

SECRET = "hunter2-hunter2-hunter2"
OTHER_MODEL = "n"
"""A model whose alerts lie in the other partition; see `test_the_models_lie_in_two_partitions`."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture
def cluster(broker: Broker, receiver: Receiver, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Topics of two partitions, two models, and the receiver as a webhook."""
    models = MODELS + f"  {OTHER_MODEL}: {{task: binary}}\ndeliver:\n  - {{webhook: '{receiver.url}/x', name: pager, "
    models += "token_env: PAGER_TOKEN, hmac_env: PAGER_TOKEN, retry_for: 1m}\n"
    made = Cluster(broker.bootstrap, tmp_path, models, request.node.name.replace("test_", "")[:40], partitions=2)
    yield made
    made.end()


class Forwarder:
    """`tidegate alerts forward` as a process of its own."""

    def __init__(self, cluster: Cluster, *arguments: str) -> None:
        self.log = cluster.directory / f"forward-{len(list(cluster.directory.glob('forward-*')))}.log"
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tidegate", "alerts", "forward", "-c", str(cluster.path), "-v", *arguments],
                cwd=ROOT, stdout=out, stderr=out, env={**os.environ, "PAGER_TOKEN": SECRET},
            )  # fmt: skip

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


def write(cluster: Cluster, alerts: list[Alert]) -> None:
    """Alerts as a worker writes them: keyed by model, in a transaction."""

    async def transaction() -> None:
        writer = Writer(cluster.clients, cluster.config.topics, f"{cluster.config.topics.prefix}-test")
        await writer.start()
        try:
            await writer.write([Encoded(ALERTS, a.model.encode(), codec.encode(a), None) for a in alerts])
        finally:
            await writer.stop()

    asyncio.run(transaction())


def of(model: str, first: int, last: int) -> list[Alert]:
    return [alert(number, model=model, alert_id=f"{model}/{number}") for number in range(first, last)]


def test_the_models_lie_in_two_partitions() -> None:
    assert partition_of(b"m", 2) != partition_of(OTHER_MODEL.encode(), 2)


@pytest.mark.kafka
def test_a_forwarder_that_is_killed_loses_nothing_and_repeats_only_what_was_on_its_way(
    cluster: Cluster, receiver: Receiver
) -> None:
    """F20. The receiver has the fourth notice and never answers: that is where the kill comes."""
    receiver.replies = [Reply(), Reply(500), Reply(), Reply(how="hang")]
    write(cluster, [*of("m", 0, 5), *of("m", 0, 2)])
    first = Forwarder(cluster)
    wait("the notice that is on its way", lambda: len(receiver.received) == 4 or first.process.poll() is not None)
    assert first.end(signal.SIGKILL) == -signal.SIGKILL, first.said
    write(cluster, [*of(OTHER_MODEL, 0, 5), alert(0, model="m", alert_id="m/0", status="resolved")])
    second = Forwarder(cluster)
    wait("all of them", lambda: len(set(receiver.ids())) == 11 or second.process.poll() is not None)
    assert second.end(signal.SIGTERM) == 0, second.said
    told = [got.json()["data"]["alert_id"] + got.json()["data"]["status"] for got in receiver.received]
    answered = Counter(told)
    assert answered.pop("m/1firing") == 2, "once answered with 500"
    assert answered.pop("m/2firing") == 2, "once with the kill instead of an answer"
    assert set(answered.values()) == {1}
    for model in ("m", OTHER_MODEL):
        assert list(dict.fromkeys(each for each in told if each.startswith(model)))[:5] == [
            f"{model}/{number}firing" for number in range(5)
        ]
    assert "pager: 9 sent, 2 left out (2 repeated)" in second.said
    assert SECRET not in first.said + second.said
    assert Forwarder(cluster, "--once").process.wait(60) == 0
    assert len(receiver.received) == 13, "a third one finds nothing to do"


@pytest.mark.kafka
def test_what_is_given_up_or_no_alert_goes_to_dead_letters_and_the_rest_goes_on(
    cluster: Cluster, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """F20, F51."""
    monkeypatch.setenv("PAGER_TOKEN", SECRET)
    receiver.replies = [Reply(), Reply(400, body=b"no such team")]
    write(cluster, of("m", 0, 2))
    with cluster.clients.producer() as raw:
        raw.send(cluster.config.topics.name(ALERTS), key=b"m", value=b"not an alert")
    write(cluster, of("m", 2, 3))
    code = cli.run(["alerts", "forward", "-c", str(cluster.path), "--once"])
    said = capsys.readouterr()
    assert (code, said.out) == (2, "pager: 2 sent, 1 failed tries, 1 given up, 1 left out (1 unreadable)\n")
    assert said.err.endswith("tidegate: pager: 1 given up; the last: 400 Bad Request: no such team (tried once)\n")
    letters = [codec.decode(DeadLetter, value) for value in cluster.values(DEAD_LETTERS)]
    assert [(letter.topic, letter.code) for letter in letters] == [("alerts", "undelivered"), ("alerts", "unreadable")]
    assert letters[0].reason == f"pager ({receiver.url}): 400 Bad Request: no such team (tried once)"
    assert codec.decode(Alert, (letters[0].value or "").encode()).alert_id == "m/1"


@pytest.mark.kafka
def test_an_alertmanager_is_told_again_of_what_is_open_after_a_restart_and_a_new_target_may_skip_the_past(
    broker: Broker, receiver: Receiver, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """F20: nothing but the topic says what is open."""
    deliver = f"deliver: [{{alertmanager: '{receiver.url}', name: am}}]\n"
    cluster = Cluster(broker.bootstrap, tmp_path, MODELS + deliver, "again", partitions=2)
    write(cluster, [*of("m", 0, 3), alert(1, model="m", alert_id="m/1", status="resolved")])
    once = ["alerts", "forward", "-c", str(cluster.path), "--once"]
    assert cli.run([*once, "--skip-old"]) == 0
    (told,) = receiver.received
    assert [each["annotations"]["alert_id"] for each in told.json()] == ["m/0", "m/2"]
    write(cluster, [alert(2, model="m", alert_id="m/2", severity="critical")])
    assert cli.run(once) == 0
    new = [got.json() for got in receiver.received[1:]]
    assert [[each["labels"]["severity"] for each in body] for body in new if len(body) == 2] == [
        ["critical", "warning"],
        ["warning", "critical"],
    ]
    assert not [fault for got in receiver.received for fault in faults(got.json(), POSTABLE_ALERTS)]
    assert capsys.readouterr().out == "am: 0 sent\nam: 1 sent\n"


def test_a_forwarder_that_cannot_start_says_why_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PAGER_TOKEN", raising=False)
    cases = {
        "": "c.yaml: deliver: missing; add deliver: [{webhook: 'https://host/path'}]",
        "deliver: [{webhook: 'https://a/', token_env: PAGER_TOKEN}]": "c.yaml: deliver[0].token_env: the environment "
        "variable PAGER_TOKEN is not set",
    }
    for deliver, fault in cases.items():
        Path("c.yaml").write_text(f"kafka: {{}}\n{MODELS}{deliver}")
        assert cli.run(["alerts", "forward", "-c", "c.yaml"]) == 2
        assert capsys.readouterr().err == f"tidegate: {fault}\n"
