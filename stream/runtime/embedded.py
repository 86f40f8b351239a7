"""The stages in one process over an in-memory log: behind `replay`, `demo`, backtests and most tests.

Owns the order in which stages run; refuses to know what they decide. Before requests of event time t are scored, every
input of the join has been told that nothing before t will follow, so everything known strictly before t has been
joined and learned: the prequential loop of plain River, to the last digit. Predictions that come from outside need no
such care and go through in large batches.
"""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import msgspec

from stream.config import Config
from stream.contract import (
    ALERTS,
    COMMANDS,
    DEAD_LETTERS,
    DECISIONS,
    EXAMPLES,
    LABELS,
    OBSERVATIONS,
    PREDICTIONS,
    REQUESTS,
    WINDOWS,
    Batch,
    Chunk,
    Output,
    Record,
    Stage,
)
from stream.events import Command, Example, Heartbeat
from stream.joining.partition import partition_of
from stream.ledger import Ledger
from stream.runtime import collector, constraints, references
from stream.runtime.feed import Item
from stream.runtime.stages import learns
from stream.stages.join import Join
from stream.stages.learn import Learn
from stream.stages.score import Score
from stream.stages.watch import Watch

BATCH_RECORDS = 4_096
"""Records of one batch where nobody waits for an answer: large enough that the cost of a batch vanishes."""

COLLECT_EVERY = 200_000
"""Events between two runs of Python's cycle collector, which is off meanwhile: it took a third of the time."""

KEEP = (ALERTS, WINDOWS, DECISIONS, DEAD_LETTERS)


class Consumer:
    """One shard of a stage with what waits for it and what it cost."""

    def __init__(self, name: str, stage: Stage) -> None:
        self.name = name
        self.stage = stage
        self.waiting: defaultdict[tuple[str, int], list[Record]] = defaultdict(list)
        self.elapsed_s = 0.0

    def step(self, clock: float) -> list[Output]:
        """Process all that waits as one batch."""
        waiting, self.waiting = self.waiting, defaultdict(list)
        chunks = tuple(
            Chunk(topic, partition, records[0].offset, records[-1].offset + 1, records)
            for (topic, partition), records in waiting.items()
        )
        start = perf_counter()
        outputs = self.stage.process(Batch(clock, chunks))
        self.elapsed_s += perf_counter() - start
        return outputs


class Embedded:
    """All stages of a configuration, and the log between them.

    `partitions` is the number of join shards. Outputs collect in `logs[topic]` for the topics in `keep`; `taps` are
    called with each event of a topic; the rest is handed on and forgotten. Without a `key` no snapshots are published:
    the score stage asks the live learners. The clock that the stages see is the event time of the feed.
    """

    def __init__(
        self,
        config: Config,
        partitions: int = 1,
        key: bytes | None = None,
        key_id: str = "dev",
        keep: Collection[str] = KEEP,
        taps: Mapping[str, Callable[[Any], None]] | None = None,
    ) -> None:
        self.config = config
        self.partitions = partitions
        self.logs: dict[str, list[tuple[int, msgspec.Struct]]] = {topic: [] for topic in keep}
        self.counts: dict[str, int] = {}
        self._taps = taps or {}
        self.now = 0.0
        self._offsets: dict[tuple[str, int], int] = {}
        self._asked: list[Item] = []
        joins = [Join(config, shard, partitions) for shard in range(partitions)]
        self.joins = [Consumer("join", join) for join in joins]
        watch = Watch(config, 0, partitions, references.load(config), constraints.load(config))
        self.watch = Consumer("watch", watch)
        learn = Learn(config, 0, 1, key, key_id)
        self.learn = Consumer("learn", learn)
        self.score = Consumer("score", Score(config, 0, 1, learn, {}))
        self.digests = learn.digests
        self._joined = joins
        self.consumers = [*self.joins, self.watch, self.learn, self.score]
        self._readers: dict[str, list[Consumer]] = {
            PREDICTIONS: self.joins,
            LABELS: self.joins,
            OBSERVATIONS: [self.watch],
            COMMANDS: [self.watch, self.learn],
            REQUESTS: [self.score],
        }
        if learns(config):
            self._readers |= {EXAMPLES: [self.learn], ALERTS: [self.learn]}

    def ledgers(self) -> list[Ledger]:
        """Of every join shard."""
        return [join.ledger for join in self._joined]

    def feed(self, topic: str, partition: int, records: Iterable[Record], clock: float) -> None:
        """Take records of one partition of an input as they are, and process until nothing waits."""
        self.now = max(self.now, clock)
        for record in records:
            self._append(topic, partition, record.key, record.value, record.timestamp_s)
        self.settle()

    def run(self, items: Iterable[Item]) -> Iterator[Item]:
        """Process a feed; yields each item once it has been taken in, so that the caller sees progress."""
        waiting = 0
        for item in items:
            topic, event_time = item.topic, item.event_time
            if topic == DEAD_LETTERS:
                self._keep(Output(DEAD_LETTERS, item.key, item.event), 0)
            elif topic == REQUESTS:
                if event_time > self.now or not self._asked:
                    self._answer()
                    self._pass(event_time)
                self._asked.append(item)
            else:
                self.now = max(self.now, event_time)
                self._send(topic, item.key, item.event)
                waiting += 1
                if waiting >= BATCH_RECORDS and not self._asked:
                    self.settle()
                    waiting = 0
            yield item

    def finish(self) -> None:
        """Nothing more will come: windows close, and what still waits for a label expires."""
        self._answer()
        self.settle()
        self._pass(self.now + end_after(self.config))

    def publish(self) -> None:
        """Let every model that learns publish snapshots of what it has learned so far."""
        for model in self.config.models:
            command = Command(command_id=f"publish {model} at {self.now}", action="publish", model=model)
            self._send(COMMANDS, model, command)
        self.settle()

    def settle(self) -> None:
        """Let every stage process what waits for it, until nothing does."""
        while any(consumer.waiting for consumer in self.consumers):
            joined = [output for join in self.joins if join.waiting for output in join.step(self.now)]
            if self.partitions > 1:
                joined.sort(key=_completed)
            for output in joined:
                self._route(output)
            for consumer in (self.watch, self.learn, self.score):
                if consumer.waiting:
                    for output in consumer.step(self.now):
                        self._route(output)

    def _answer(self) -> None:
        """Score the requests that wait; they are of one event time, and saw one state of the model."""
        if self._asked:
            for item in self._asked:
                self._send(REQUESTS, item.key, item.event)
            self._asked.clear()
            for output in self.score.step(self.now):
                self._route(output)

    def _pass(self, event_time: float) -> None:
        """Every input of the join has been read to this event time, and what that completes is learned."""
        self.now = max(self.now, event_time)
        beat = Heartbeat(self.now)
        for partition in range(self.partitions):
            for topic in (PREDICTIONS, LABELS):
                self._append(topic, partition, None, beat, self.now)
        self.settle()

    def _send(self, topic: str, key: str, event: msgspec.Struct) -> None:
        hashed = key.encode()
        keyed = self.partitions > 1 and self._readers[topic] is self.joins
        self._append(topic, partition_of(hashed, self.partitions) if keyed else 0, hashed, event, self.now)

    def _route(self, output: Output) -> None:
        topic = output.topic
        self._keep(output, output.partition or 0)
        if topic in self._readers and output.partition is None:
            self._send(topic, output.key, output.event)
        elif topic in self._readers:
            self._append(topic, output.partition or 0, output.key.encode(), output.event, self.now)

    def _keep(self, output: Output, partition: int) -> None:
        self.counts[output.topic] = self.counts.get(output.topic, 0) + 1
        if output.topic in self.logs:
            self.logs[output.topic].append((partition, output.event))
        if output.topic in self._taps:
            self._taps[output.topic](output.event)

    def _append(
        self, topic: str, partition: int, key: bytes | None, value: bytes | msgspec.Struct | None, timestamp_s: float
    ) -> None:
        place = (topic, partition)
        offset = self._offsets.get(place, 0)
        self._offsets[place] = offset + 1
        record = Record(offset, timestamp_s, key, value)
        readers = self._readers[topic]
        if readers is self.joins:
            self.joins[partition].waiting[place].append(record)
        else:
            for reader in readers:
                reader.waiting[place].append(record)


def _completed(output: Output) -> float:
    """Examples of several shards are learned in the order in which they were completed, as those of one shard are."""
    return output.event.completed if isinstance(output.event, Example) else 0.0


def end_after(config: Config) -> float:
    """Seconds of event time after the last event by which everything has expired and every window is closed."""
    return 1.0 + max(
        model.labels.horizon + model.labels.early + 2 * (model.windows.every or 0) for model in config.models.values()
    )


@contextmanager
def collector_off() -> Iterator[Callable[[int], None]]:
    """Python's cycle collector stays off inside; call what is yielded with the number of events done, now and then."""
    gc.collect()
    gc.freeze()
    last = 0

    def collect(events: int) -> None:
        nonlocal last
        if events - last >= COLLECT_EVERY:
            last = events
            gc.collect()

    try:
        with collector.paused():
            yield collect
    finally:
        gc.unfreeze()


def figures(embedded: Embedded) -> dict[str, Any]:
    """The figures of every stage, the join's shards side by side."""
    return {
        "join": [consumer.stage.figures() for consumer in embedded.joins],
        "watch": embedded.watch.stage.figures(),
        "learn": embedded.learn.stage.figures(),
        "score": embedded.score.stage.figures(),
    }
