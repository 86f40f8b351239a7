"""Workers on a real broker, killed, frozen and stopped at random, against the embedded run over the same logs (F50).

`python -m benchmarks.faults --faults 30 --seed 1`. Three of ten faults are kill -9, three freeze a worker beyond its
session (a zombie), four end it in order; a new one is started at once. Nothing may be lost or doubled: examples,
windows and alerts are compared byte for byte, the ledger and the learners by value. Not a test: it takes ten seconds a
fault.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from stream import codec
from stream.contract import ALERTS, EXAMPLES, LABELS, PREDICTIONS, WINDOWS
from stream.events import Label, Prediction
from stream.joining.partition import partition_of
from stream.runtime.kafka.broker import Running, find
from stream.runtime.kafka.produce import Producer
from tests.kafka_support import Cluster, Worker
from tests.test_kafka_workers import digests, embedded, learned

MODELS = """
models:
  m:
    task: binary
    reference: {first: 1000}
    windows: {every: 10m, min_events: 20}
    labels: {horizon: 1h}
    learn: {policy: online, champion: river.linear_model.LogisticRegression, respond: {data_quality: ignore}}
"""
START_S = 1_600_000_000.0
PACE_S = 0.12
BLOCK = 100
"""Predictions sent at a time: about 700 a second, so that a fault always finds work under way."""

FROZEN_S = 9.0
"""Longer than the session of 6 s: others take over, and the zombie must be fenced."""

BETWEEN_S = (7.0, 14.0)


class Source(threading.Thread):
    """Sends predictions, and labels of nine in ten out of order, until told to stop; then heartbeats beyond all."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        super().__init__()
        self.cluster = cluster
        self.random = random.Random(seed)
        self.done = threading.Event()
        self.sent = 0

    def run(self) -> None:
        with Producer(self.cluster.config, self.cluster.clients) as producer:
            while not self.done.wait(PACE_S):
                for _ in range(BLOCK):
                    self._one(producer)
            for role in (PREDICTIONS, LABELS):
                producer.heartbeat(role, START_S + self.sent + 3 * 86_400)

    def _one(self, producer: Producer) -> None:
        key, at = f"p{self.sent}", START_S + self.sent
        features = {"x": self.random.random(), "c": self.random.choice("abc")}
        producer.prediction(
            Prediction(prediction_id=key, model="m", event_time=at, features=features, prediction=self.sent % 2)
        )
        if self.sent % 10:
            known = at + self.random.random() * 900
            producer.label(Label(prediction_id=key, event_time=known, label=self.random.randint(0, 1)))
        self.sent += 1


def fault(cluster: Cluster, workers: list[Worker], chance: random.Random) -> str:
    """One fault to one of the workers; a new one in its place if it is gone."""
    at, draw = chance.randrange(len(workers)), chance.random()
    if draw < 0.3:
        workers[at].process.send_signal(signal.SIGSTOP)
        time.sleep(FROZEN_S)
        workers[at].process.send_signal(signal.SIGCONT)
        return "freeze"
    if draw < 0.6:
        workers[at].kill()
    else:
        workers[at].stop()
    workers[at] = cluster.start()
    return "kill" if draw < 0.6 else "stop"


def differences(cluster: Cluster) -> list[str]:
    """What the workers did otherwise than the embedded run; they have ended in order."""
    expected = embedded(cluster)
    found = [
        f"{role}: {cluster.count(role)} on Kafka, {len(expected.logs[role])} embedded, and not the same"
        for role in (EXAMPLES, WINDOWS, ALERTS)
        if sorted(cluster.values(role)) != sorted(codec.encode(event) for _, event in expected.logs[role])
    ]
    for partition, consumer in enumerate(expected.joins):
        if cluster.stage("join", partition).figures()["ledger"] != consumer.stage.figures()["ledger"]:
            found.append(f"the ledger of partition {partition}")
    home = partition_of(b"m", cluster.config.topics.partitions)
    return [*found, "the learners"] if digests(cluster, home) != learned(cluster, home) else found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as work, Running(find()) as bootstrap:
        cluster = Cluster(bootstrap, Path(work), MODELS, f"faults{options.seed}-{int(time.time())}")
        source = Source(cluster, options.seed)
        source.start()
        workers = [cluster.start(), cluster.start()]
        try:
            for n in range(options.faults):
                time.sleep(chance.uniform(*BETWEEN_S))
                print(f"{n + 1}/{options.faults} {fault(cluster, workers, chance)} at {source.sent:,} predictions")
            source.done.set()
            source.join()
            cluster.wait("every input is read", lambda: cluster.count(EXAMPLES) > 0 and cluster.caught_up())
            codes = [worker.stop() for worker in workers]
            found = [*differences(cluster), *(f"a worker ended with {code}" for code in codes if code)]
        finally:
            source.done.set()
            cluster.end()
    print("\n".join(found) or f"{options.faults} faults, {source.sent:,} predictions: nothing lost, nothing doubled")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
