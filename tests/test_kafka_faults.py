"""Faults on a real broker: a worker that was thought dead and comes back, a broker that crashes."""

from __future__ import annotations

import signal

import msgspec
import pytest

from stream.contract import EXAMPLES, LABELS, PREDICTIONS
from stream.events import Label, Prediction
from stream.runtime.kafka.app import STOP_S
from stream.runtime.kafka.broker import Broker, GivenBroker
from stream.runtime.kafka.produce import Producer
from tests.kafka_support import Cluster

STEP = 500


def produce(cluster: Cluster, step: int) -> None:
    with Producer(cluster.config, cluster.clients) as producer:
        for i in range(step * STEP, (step + 1) * STEP):
            at = 1.6e9 + i
            producer.prediction(
                Prediction(
                    prediction_id=f"p{i}", model="m", event_time=at, features={"x": float(i % 7)}, prediction=i % 2
                )
            )
            producer.label(Label(prediction_id=f"p{i}", event_time=at, label=i % 2))
        for role in (PREDICTIONS, LABELS):
            producer.heartbeat(role, 1.6e9 + (step + 1) * STEP)


def exactly(cluster: Cluster, steps: int) -> None:
    """Every example of so many steps is there once."""
    cluster.wait(f"examples of {steps} steps", lambda: cluster.count(EXAMPLES) >= steps * STEP - 2)
    ids = [msgspec.json.decode(value)["prediction"]["prediction_id"] for value in cluster.values(EXAMPLES)]
    assert len(ids) == len(set(ids))
    assert {f"p{i}" for i in range(steps * STEP - 1)} <= set(ids)


@pytest.mark.kafka
def test_a_worker_that_was_thought_dead_comes_back_and_doubles_nothing(cluster: Cluster) -> None:
    """F50."""
    zombie, other = cluster.start(), cluster.start()
    cluster.wait("both have a share", lambda: [len(w.partitions() or []) for w in (zombie, other)] == [1, 1])
    produce(cluster, 0)
    cluster.wait("some examples", lambda: cluster.count(EXAMPLES) > 0)
    zombie.process.send_signal(signal.SIGSTOP)
    produce(cluster, 1)
    cluster.wait("the other has taken over", lambda: other.partitions() == [0, 1])
    exactly(cluster, 2)
    zombie.process.send_signal(signal.SIGCONT)
    produce(cluster, 2)
    cluster.wait("it is back in the group", lambda: len(other.partitions() or []) == 1)
    exactly(cluster, 3)
    assert [w.stop() for w in (zombie, other)] == [0, 0], zombie.said + other.said


@pytest.mark.kafka
def test_a_worker_for_which_no_partition_is_left_waits_and_takes_over(cluster: Cluster) -> None:
    """F50: as one that stands by."""
    first, second = cluster.start(), cluster.start()
    cluster.wait("both have a share", lambda: [len(w.partitions() or []) for w in (first, second)] == [1, 1])
    produce(cluster, 0)
    spare = cluster.start()
    cluster.wait("the spare one is ready", lambda: spare.partitions() == [])
    first.kill()
    produce(cluster, 1)
    cluster.wait("it has taken over", lambda: [len(w.partitions() or []) for w in (second, spare)] == [1, 1])
    exactly(cluster, 2)
    assert [w.stop() for w in (second, spare)] == [0, 0], second.said + spare.said


@pytest.mark.kafka
def test_workers_go_on_after_the_broker_has_crashed(cluster: Cluster, broker: Broker) -> None:
    """F50."""
    if isinstance(broker, GivenBroker):
        pytest.skip("the broker of KAFKA_BOOTSTRAP_SERVERS is not ours to crash")
    worker = cluster.start()
    produce(cluster, 0)
    exactly(cluster, 1)
    produce(cluster, 1)
    broker.kill()
    broker.start()
    produce(cluster, 2)
    exactly(cluster, 3)
    assert worker.stop() == 0, worker.said
    assert len(worker.said.splitlines()) < 120, "a broker that is away does not flood the log"


@pytest.mark.kafka
def test_a_worker_that_is_told_to_stop_while_the_broker_is_away_is_gone_in_time(
    cluster: Cluster, broker: Broker
) -> None:
    """F50: its state is in its checkpoints, so nothing is worth waiting for."""
    if isinstance(broker, GivenBroker):
        pytest.skip("the broker of KAFKA_BOOTSTRAP_SERVERS is not ours to crash")
    worker, other = cluster.start(), cluster.start()
    cluster.wait("both have a share", lambda: [len(w.partitions() or []) for w in (worker, other)] == [1, 1])
    produce(cluster, 0)
    exactly(cluster, 1)
    broker.kill()
    try:
        for each in (worker, other):
            each.process.send_signal(signal.SIGTERM)
        for each in (worker, other):
            each.process.wait(2 * STOP_S)
            each.ended = True
    finally:
        broker.start()
    again = cluster.start()
    produce(cluster, 1)
    exactly(cluster, 2)
    assert again.stop() == 0, again.said
