"""What tests on a real broker share: configurations, workers as processes, waiting for conditions."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import pytest
from kafka import TopicPartition

from stream import config
from stream.config import Config
from stream.contract import Stage
from stream.runtime import journal
from stream.runtime.journal import Recovery
from stream.runtime.kafka import restore, topics
from stream.runtime.kafka.broker import BrokerError
from stream.runtime.kafka.clients import Clients
from stream.runtime.kafka.tail import tail
from stream.runtime.stages import Secrets, make_stage

ROOT = Path(__file__).parent.parent
KEY = "0123456789abcdef0123456789abcdef"
DEADLINE_S = 90.0

MODELS = """
models:
  m:
    task: binary
    reference: {first: 100}
    windows: {every: 10m, min_events: 10}
    labels: {horizon: 1h}
"""
"""One small model that is only watched."""


def left_out(why: BrokerError) -> NoReturn:
    """Leaves a test out loudly; with TIDEGATE_REQUIRE_KAFKA set, it fails."""
    if os.environ.get("TIDEGATE_REQUIRE_KAFKA"):
        pytest.fail(str(why))
    pytest.skip(f"TESTS ON KAFKA LEFT OUT: {why}")


def wait(what: str, done: Callable[[], bool], seconds: float = DEADLINE_S, step: float = 0.2) -> None:
    """Wait for a condition; fail with its name."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(step)


class Cluster:
    """The topics of one test under a prefix of their own, and the workers that it starts."""

    def __init__(self, bootstrap: str, directory: Path, models: str, prefix: str, partitions: int = 4) -> None:
        self.text = (
            f"kafka: {{bootstrap_servers: '{bootstrap}'}}\n"
            f"topics: {{prefix: {prefix}, partitions: {partitions}}}\n"
            f"engine: {{session: 6s, metrics_port: 0, idle: 1h, snapshot: 2s}}\n{models}"
        )
        self.directory = directory
        self.path = directory / f"{prefix}.yaml"
        self.path.write_text(self.text)
        self.config: Config = config.load(self.path)
        assert self.config.kafka is not None
        self.clients = Clients(self.config.kafka)
        topics.create(self.config, self.clients)
        self.workers: list[Worker] = []

    def start(self) -> Worker:
        worker = Worker(self.path, self.directory / f"worker-{len(self.workers)}.log")
        self.workers.append(worker)
        return worker

    def wait(self, what: str, done: Callable[[], bool]) -> None:
        """Wait for a condition; a worker that ends by itself meanwhile is a failure that shows what it said."""
        wait(what, lambda: done() or self._ended())

    def _ended(self) -> bool:
        for worker in self.workers:
            code = worker.process.poll()
            assert code is None or worker.ended, f"a worker ended with {code}:\n{worker.said[-3000:]}"
        return False

    def values(self, role: str) -> list[bytes]:
        """Committed values of a topic."""
        return [t.record.value for t in tail(self.config, self.clients, role) if isinstance(t.record.value, bytes)]

    def count(self, role: str) -> int:
        return sum(1 for _ in tail(self.config, self.clients, role))

    def ends(self, role: str) -> int:
        """Offsets that a topic has given out; quicker to ask for than `count`."""
        topic = self.config.topics.name(role)
        with closing(self.clients.tail()) as consumer:
            partitions = [TopicPartition(topic, p) for p in range(self.config.topics.partitions)]
            return sum(consumer.end_offsets(partitions).values())

    def unread(self) -> dict[int, int] | None:
        """By partition, what the inputs hold beyond the workers' (advisory) offsets; None before there are any."""
        group = self.config.topics.prefix
        with self.clients.admin() as admin:
            offsets = {tp: n.offset for tp, n in admin.list_group_offsets(group)[group].items()}
        with closing(self.clients.tail()) as consumer:
            ends = consumer.end_offsets(list(offsets))
        unread: dict[int, int] = {}
        for tp, offset in offsets.items():
            unread[tp.partition] = unread.get(tp.partition, 0) + ends[tp] - offset
        return unread or None

    def caught_up(self) -> bool:
        """The workers have read every input to its end."""
        unread = self.unread()
        return unread is not None and not any(unread.values())

    def past(self, name: str, partition: int) -> Recovery | None:
        """What a worker would begin with; None where the shard has written no state."""
        shard = f"{name}/{partition}"
        entries = asyncio.run(restore.read_journal(self.config, self.clients, partition, (shard,)))
        return journal.recover(shard, entries, (KEY.encode(),))

    def stage(self, name: str, partition: int) -> Stage:
        """A stage as its last checkpoint left it; its worker must have ended in order."""
        found = self.past(name, partition)
        assert found is not None and not found.journal, "a worker that ends in order leaves nothing to replay"
        stage = make_stage(name, self.config, partition, self.config.topics.partitions, Secrets(KEY.encode(), "k"))
        stage.restore(found.whole.state)
        return stage

    def end(self) -> None:
        for worker in self.workers:
            worker.kill()


class Worker:
    """`tidegate run` as a process of its own."""

    def __init__(self, path: Path, log: Path) -> None:
        self.log = log
        self.ended = False
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tidegate", "run", "--config", str(path), "--verbose"],
                cwd=ROOT,
                stdout=out,
                stderr=out,
                env={**os.environ, "TIDEGATE_SNAPSHOT_KEY": KEY},
            )

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def alive(self) -> bool:
        """True; a worker that has ended by itself fails the test with what it said."""
        code = self.process.poll()
        assert code is None, f"a worker ended with {code}:\n{self.said[-3000:]}"
        return True

    def partitions(self) -> list[int] | None:
        """Partitions of its newest assignment; None before it is ready."""
        found = re.findall(r"ready: partitions \[([\d, ]*)\]", self.said)
        return [int(p) for p in found[-1].split(",") if p.strip()] if found else None

    def metrics_url(self) -> str:
        found = re.search(r"metrics on (\S+)", self.said)
        assert found is not None
        return found[1]

    def pause(self) -> None:
        """Stop it where it stands; only `resume` and `kill` reach it."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """As the kernel's out-of-memory killer does."""
        self.ended = True
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def stop(self) -> int:
        """Ask it to end, and wait; its exit code."""
        self.ended = True
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)
