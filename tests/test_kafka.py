"""On a real broker: topics, producing and tailing, one worker end to end, its restart, bad input, its metrics."""

from __future__ import annotations

import asyncio
import urllib.request
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from aiokafka.errors import ProducerFenced
from click.testing import CliRunner

from stream import codec
from stream.config import Kafka
from stream.contract import (
    DEAD_LETTERS,
    DECISIONS,
    EXAMPLES,
    JOURNAL,
    LABELS,
    PREDICTIONS,
    REQUESTS,
    SNAPSHOTS,
    TOPICS,
    WINDOWS,
)
from stream.errors import ConfigError, TidegateError
from stream.events import DeadLetter, Decision, Label, Prediction, Request
from stream.joining.partition import partition_of
from stream.runtime.kafka import broker as brokers
from stream.runtime.kafka import topics
from stream.runtime.kafka.app import run
from stream.runtime.kafka.broker import Broker
from stream.runtime.kafka.clients import Clients
from stream.runtime.kafka.produce import Producer
from stream.runtime.kafka.tail import tail
from stream.runtime.kafka.writer import FencedError, Writer
from stream.runtime.memory import ALLOCATOR
from stream.runtime.shard import Encoded
from stream.surface import cli
from tests.kafka_support import KEY, MODELS, Cluster

ROWS = 600


def produce(cluster: Cluster, first: int, last: int) -> None:
    """Predictions and their labels, a minute later."""
    with Producer(cluster.config, cluster.clients) as producer:
        for i in range(first, last):
            at = 1.6e9 + 10 * i
            features = {"x": float(i % 7)}
            producer.prediction(
                Prediction(prediction_id=f"p{i}", model="m", event_time=at, features=features, prediction=i % 2)
            )
            producer.label(Label(prediction_id=f"p{i}", event_time=at + 60, label=i % 2))
        for role in (PREDICTIONS, LABELS):
            producer.heartbeat(role, 1.6e9 + 10 * last + 61)


@pytest.mark.kafka
def test_topics_are_created_as_wanted_and_every_mismatch_is_told(cluster: Cluster) -> None:
    assert topics.check(cluster.config, cluster.clients) == []
    assert topics.create(cluster.config, cluster.clients) == []
    other = msgspec.structs.replace(cluster.config.topics, partitions=3, labels="nowhere")
    faults = topics.check(msgspec.structs.replace(cluster.config, topics=other), cluster.clients)
    assert len(faults) == len(TOPICS)
    assert sum("3" in fault and "2 partitions" in fault for fault in faults) == len(TOPICS) - 1
    assert "topic nowhere: missing; run `tidegate topics create`" in faults
    with cluster.clients.admin() as admin:
        name = cluster.config.topics.name(JOURNAL)
        admin.delete_topics([name])
        admin.create_topics({name: {"num_partitions": 2, "replication_factor": 1}}, wait_for_metadata=True)
    assert any(
        "cleanup.policy is delete, should be compact" in f for f in topics.check(cluster.config, cluster.clients)
    )


@pytest.mark.kafka
def test_keys_go_where_java_clients_send_them_and_heartbeats_go_everywhere(cluster: Cluster) -> None:
    produce(cluster, 0, 50)
    found = list(tail(cluster.config, cluster.clients, PREDICTIONS))
    keyed = [t for t in found if t.record.key is not None]
    assert len(keyed) == 50 and all(t.partition == partition_of(t.record.key or b"", 2) for t in keyed)
    beats = [t for t in found if t.record.key is None]
    assert sorted(t.partition for t in beats) == [0, 1]
    assert len(list(tail(cluster.config, cluster.clients, PREDICTIONS, last=1))) == 2


@pytest.mark.kafka
def test_a_worker_joins_restarts_and_reads_on_where_it_stood(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """F50."""
    monkeypatch.setenv("TIDEGATE_SNAPSHOT_KEY", KEY)
    produce(cluster, 0, ROWS // 2)
    worker = cluster.start()
    cluster.wait("half of the examples", lambda: cluster.count(EXAMPLES) == ROWS // 2)
    assert worker.stop() == 0, worker.said
    with closing(cluster.clients.producer()) as raw:
        raw.send(cluster.config.topics.name(PREDICTIONS), key=b"x", value=b"not an event")
    produce(cluster, ROWS // 2, ROWS)
    worker = cluster.start()
    cluster.wait("all examples", lambda: cluster.count(EXAMPLES) >= ROWS)
    cluster.wait("the dead letter", lambda: cluster.count(DEAD_LETTERS) > 0)
    assert worker.stop() == 0, worker.said
    ids = [msgspec.json.decode(value)["prediction"]["prediction_id"] for value in cluster.values(EXAMPLES)]
    assert sorted(ids) == sorted(f"p{i}" for i in range(ROWS))
    assert cluster.count(WINDOWS) > 0
    letters = [codec.decode(DeadLetter, value) for value in cluster.values(DEAD_LETTERS)]
    assert [letter.code for letter in letters] == ["malformed"]


@pytest.mark.kafka
def test_a_worker_shows_its_figures_and_says_when_it_is_ready(cluster: Cluster) -> None:
    """F15, F46."""
    produce(cluster, 0, 50)
    worker = cluster.start()
    cluster.wait("ready", lambda: worker.partitions() == [0, 1])
    cluster.wait("examples", lambda: cluster.count(EXAMPLES) == 50)

    def page() -> str:
        with urllib.request.urlopen(worker.metrics_url(), timeout=5) as answer:
            return str(answer.read().decode())

    cluster.wait("ready, in figures", lambda: "tidegate_ready 1.0" in page())
    cluster.wait("lag is zero", lambda: 'lag_records{input="labels",partition="0",stage="join"} 0.0' in page())
    text = page()
    assert 'tidegate_shards{stage="join"} 2.0' in text
    assert 'tidegate_transactions_total{partition="0",result="committed",stage="join"}' in text
    environment = Path(f"/proc/{worker.process.pid}/environ").read_bytes().split(b"\0")
    assert "=".join(ALLOCATOR).encode() in environment, "it has started again, in the same process"


LEARNING = MODELS + "    learn: {policy: online, champion: majority, publish: 20, respond: {data_quality: ignore}}\n"


@pytest.mark.kafka
def test_requests_are_answered_and_what_was_learned_is_served(broker: Broker, tmp_path: Path) -> None:
    """F29, F49."""
    cluster = Cluster(broker.bootstrap, tmp_path, LEARNING, "serving", partitions=2)
    try:
        worker = cluster.start()
        ask(cluster, 0, 100)
        cluster.wait("a snapshot", lambda: cluster.count(SNAPSHOTS) > 0)
        asked = 100

        def learned() -> bool:
            nonlocal asked
            ask(cluster, asked, asked + 1)
            asked += 1
            said = [
                codec.decode(Prediction, value) for value in cluster.values(PREDICTIONS) if b"heartbeat" not in value
            ]
            return any(prediction.model_updates for prediction in said)

        cluster.wait("an answer by the learned model", learned)
        assert worker.stop() == 0, worker.said
    finally:
        cluster.end()


@pytest.mark.kafka
def test_a_challenger_promoted_from_the_command_line_serves_and_is_rolled_back(broker: Broker, tmp_path: Path) -> None:
    """F31, F41: through topics, snapshots and decisions."""
    models = LEARNING.replace("publish: 20", "publish: 20, challengers: {latest: last}")
    cluster = Cluster(broker.bootstrap, tmp_path, models, "promoting", partitions=2)
    asked = 100
    decisions: list[Decision] = []

    def served_at(version: str) -> bool:
        """Ask once more; whether a champion of this version has answered."""
        nonlocal asked
        ask(cluster, asked, asked + 1)
        asked += 1
        said = [codec.decode(Prediction, value) for value in cluster.values(PREDICTIONS) if b"heartbeat" not in value]
        return any(p.learner == "champion" and p.model_version == version for p in said)

    def order(action: str, *more: str) -> None:
        arguments = ["command", action, "--config", str(cluster.path), "--model", "m", "--by", "ann", *more]
        done = CliRunner().invoke(cli.cli, arguments, catch_exceptions=False)
        assert done.exit_code == 0 and f"sent {action} of m" in done.output

    try:
        worker = cluster.start()
        ask(cluster, 0, asked)
        cluster.wait("a snapshot", lambda: cluster.count(SNAPSHOTS) > 0)
        order("promote", "--learner", "latest")
        cluster.wait("an answer of the promoted one", lambda: served_at("2"))
        order("rollback")
        cluster.wait("an answer of the one before", lambda: served_at("3"))
        decisions += [codec.decode(Decision, value) for value in cluster.values(DECISIONS)]
        assert worker.stop() == 0, worker.said
    finally:
        cluster.end()
    told = [(d.action, d.before["origin"], d.after["origin"], d.why["issued_by"]) for d in decisions]
    assert told == [("promote", "champion", "latest", "ann"), ("rollback", "latest", "champion", "ann")]


def ask(cluster: Cluster, first: int, last: int) -> None:
    """Requests, and their labels."""
    with Producer(cluster.config, cluster.clients) as producer:
        for i in range(first, last):
            at = 1.6e9 + 10 * i
            producer.request(Request(prediction_id=f"r{i}", model="m", event_time=at, features={"x": 1.0}))
            producer.label(Label(prediction_id=f"r{i}", event_time=at + 5, label=1))
        for role in (REQUESTS, LABELS):
            producer.heartbeat(role, 1.6e9 + 10 * last)


@pytest.mark.kafka
def test_a_fenced_writer_can_commit_nothing_more(cluster: Cluster) -> None:
    """F50."""

    async def two_owners() -> None:
        old = Writer(cluster.clients, cluster.config.topics, "shard-0")
        new = Writer(cluster.clients, cluster.config.topics, "shard-0")
        await old.start()
        try:
            await old.write([Encoded(EXAMPLES, b"k", b"first", 0)])
            await new.start()
            with pytest.raises((FencedError, ProducerFenced)):
                await old.write([Encoded(EXAMPLES, b"k", b"zombie", 0)])
            await new.write([Encoded(EXAMPLES, b"k", b"second", 0), Encoded(EXAMPLES, b"k", b"x" * 3_000_000, 1)])
        finally:
            await old.stop()
            await new.stop()

    asyncio.run(two_owners())
    assert sorted(value[:6] for value in cluster.values(EXAMPLES)) == [b"first", b"second", b"xxxxxx"]


@pytest.mark.kafka
def test_a_worker_that_cannot_start_says_why_in_a_line(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TidegateError, match="no `kafka` section"):
        run(msgspec.structs.replace(cluster.config, kafka=None))
    other = msgspec.structs.replace(cluster.config.topics, prefix="absent")
    with pytest.raises(TidegateError, match=r"topic absent\.requests: missing"):
        run(msgspec.structs.replace(cluster.config, topics=other))


def test_credentials_are_asked_for_and_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """F53."""
    kafka = Kafka(bootstrap_servers="broker:9092", security_protocol="SASL_SSL", sasl_mechanism="SCRAM-SHA-512")
    monkeypatch.delenv("TIDEGATE_SASL_PASSWORD", raising=False)
    monkeypatch.delenv("TIDEGATE_SASL_USERNAME", raising=False)
    with pytest.raises(ConfigError, match="TIDEGATE_SASL_USERNAME") as caught:
        Clients(kafka)
    assert len(caught.value.faults) == 2
    monkeypatch.setenv("TIDEGATE_SASL_USERNAME", "me")
    monkeypatch.setenv("TIDEGATE_SASL_PASSWORD", "hunter2")
    clients = Clients(kafka)
    settings = clients.security()
    assert settings["sasl_plain_password"] == "hunter2"
    assert settings["ssl_context"].check_hostname
    assert "hunter2" not in f"{settings!r} {clients!r} {vars(clients)!r}"
    with pytest.raises(ConfigError, match="PLAIN over SASL_PLAINTEXT shows the password"):
        Clients(Kafka(bootstrap_servers="broker:9092", security_protocol="SASL_PLAINTEXT", sasl_mechanism="PLAIN"))
    local = Kafka(bootstrap_servers="127.0.0.1:9092", security_protocol="SASL_PLAINTEXT", sasl_mechanism="PLAIN")
    assert Clients(local).security()["security_protocol"] == "SASL_PLAINTEXT"
    with pytest.raises(ConfigError, match="credentials belong in"):
        Clients(Kafka(bootstrap_servers="me:hunter2@broker:9092"))


def test_without_a_broker_one_line_says_what_would_help(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        brokers.BrokerError, match="set KAFKA_BOOTSTRAP_SERVERS, or start a Docker engine, or install Java"
    ):
        brokers.find()
