"""Two workers on a real broker, one killed in mid-stream, do exactly what the embedded run does."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path

import pytest

from stream import codec
from stream.contract import ALERTS, EXAMPLES, LABELS, PREDICTIONS, WINDOWS, Batch, Chunk
from stream.events import Label, Prediction
from stream.joining.partition import partition_of
from stream.runtime.embedded import Embedded, end_after
from stream.runtime.kafka.broker import Broker
from stream.runtime.kafka.produce import Event, Producer
from stream.runtime.kafka.tail import tail
from stream.runtime.stages import Secrets, make_stage
from stream.stages.learn import Learn
from stream.surface import flights
from tests.kafka_support import KEY, Cluster, Worker

ROWS = 20_000
SLICE = 2_000
MODEL = "late15"
MODELS = """
models:
  late15:
    task: binary
    reference: {first: 5000}
    windows: {every: 1d, min_events: 100}
    slices: [origin]
    labels: {horizon: 2d}
    detectors: [counts]      # no season can be learned from three weeks, and alerts are what is compared
    learn: {policy: online, champion: river.linear_model.LogisticRegression, respond: {data_quality: ignore}}
"""


def epoch(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def events(path: Path) -> list[Event]:
    """The first flights of the year with a plain rule's prediction, and their labels, in the order of event time."""
    out: list[tuple[float, int, Event]] = []
    with gzip.open(path, "rt", encoding="utf-8", newline="") as text:
        for row in islice(csv.DictReader(text), ROWS):
            asked = epoch(row["scheduled_departure"])
            numbers = {name: float(row[name]) if row[name] else None for name in ("distance", "hour", "temp", "visib")}
            late = int(float(row["hour"]) >= 17)
            prediction = Prediction(
                prediction_id=row["flight_id"],
                model=MODEL,
                event_time=asked,
                features={**numbers, "carrier": row["carrier"]},
                prediction=late,
                score=0.25 + 0.5 * late,
                tags={"origin": row["origin"]},
            )
            out.append((asked, 0, (PREDICTIONS, row["flight_id"], prediction, None)))
            if row["landed"]:
                known = epoch(row["landed"])
                label = Label(prediction_id=row["flight_id"], event_time=known, label=int(row["late"]))
                out.append((known, 1, (LABELS, row["flight_id"], label, None)))
    return [event for _, _, event in sorted(out, key=lambda item: item[:2])]


def embedded(cluster: Cluster) -> Embedded:
    """The same logs through the stages in one process."""
    run = Embedded(cluster.config, cluster.config.topics.partitions, keep=(EXAMPLES, WINDOWS, ALERTS))
    logs = [(role, t) for role in (PREDICTIONS, LABELS) for t in tail(cluster.config, cluster.clients, role)]
    for role in (PREDICTIONS, LABELS):
        for partition in range(cluster.config.topics.partitions):
            records = [t.record for name, t in logs if name == role and t.partition == partition]
            run.feed(role, partition, records, 0.0)
    return run


@pytest.fixture
def cluster(broker: Broker, tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(broker.bootstrap, tmp_path, MODELS, "flights")
    yield made
    made.end()


@pytest.mark.kafka
def test_a_worker_killed_in_mid_stream_loses_and_doubles_nothing(cluster: Cluster, tmp_path: Path) -> None:
    """F24, F49, F50."""
    flights.write(tmp_path / "flights.csv.gz")
    stream = events(tmp_path / "flights.csv.gz")
    home = partition_of(MODEL.encode(), 4)
    with Producer(cluster.config, cluster.clients) as producer:
        producer.send_all(stream[: len(stream) // 2])
        first, second = cluster.start(), cluster.start()
        cluster.wait("both workers have a share", lambda: {len(w.partitions() or []) for w in (first, second)} == {2})
        cluster.wait("some examples are there", lambda: cluster.ends(EXAMPLES) > 0)
        victim, other = (first, second) if home in (first.partitions() or []) else (second, first)
        rest = stop_in_mid_stream(cluster, victim, home, producer, stream[len(stream) // 2 :])
        victim.kill()
        third = cluster.start()
        producer.send_all(rest)
        end = max(event.event_time for _, _, event, _ in stream) + end_after(cluster.config)
        producer.heartbeat(PREDICTIONS, end)
        producer.heartbeat(LABELS, end)
    expected = embedded(cluster)
    for role in (EXAMPLES, WINDOWS, ALERTS):
        wanted = len(expected.logs[role])
        assert wanted > 5, f"{wanted} {role}: there is something to compare"
        cluster.wait(f"{wanted} {role} are there", lambda role=role, wanted=wanted: cluster.count(role) >= wanted)  # type: ignore[misc]
    cluster.wait("every input is read", cluster.caught_up)
    assert [w.stop() for w in (other, third)] == [0, 0], [w.said for w in (other, third)]
    for role in (EXAMPLES, WINDOWS, ALERTS):
        assert sorted(cluster.values(role)) == sorted(codec.encode(e) for _, e in expected.logs[role]), role
    for partition, consumer in enumerate(expected.joins):
        assert cluster.stage("join", partition).figures()["ledger"] == consumer.stage.figures()["ledger"]
    assert learned(cluster, home) == digests(cluster, home)


def stop_in_mid_stream(
    cluster: Cluster, victim: Worker, home: int, producer: Producer, events: list[Event]
) -> list[Event]:
    """Stop a worker while it has work of its own before it, sending more if it was through; returns what is left."""
    for start in range(0, len(events), SLICE):
        producer.send_all(events[start : start + SLICE])
        victim.pause()
        if (cluster.unread() or {}).get(home):
            return events[start + SLICE :]
        victim.resume()
    raise AssertionError("the worker was through whenever it was stopped")


def digests(cluster: Cluster, home: int) -> dict[str, dict[str, str]]:
    """The learners as the workers left them."""
    stage = cluster.stage("learn", home)
    assert isinstance(stage, Learn)
    return stage.digests()


def learned(cluster: Cluster, home: int) -> dict[str, dict[str, str]]:
    """The learners of a stage fed the examples of the topic in their order."""
    stage = make_stage("learn", cluster.config, home, 4, Secrets(KEY.encode(), "k"))
    assert isinstance(stage, Learn)
    records = [t.record for t in tail(cluster.config, cluster.clients, EXAMPLES) if t.partition == home]
    assert len(records) > 1_000
    stage.process(Batch(0.0, (Chunk(EXAMPLES, home, 0, records[-1].offset + 1, records),)))
    return stage.digests()
