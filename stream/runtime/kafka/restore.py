"""Bringing a shard back: its newest whole state and the batches since, read again from the inputs.

The caller has fenced every shard of the partition before: nothing can be added to the past while it is read. Owns the
reading; what the past means is `stream.runtime.journal` and `stream.runtime.shard`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from time import perf_counter
from typing import Any, Final

from aiokafka import TopicPartition

from stream.config import Config
from stream.contract import JOURNAL, Record
from stream.errors import StateError
from stream.runtime import collector, journal
from stream.runtime.journal import Entry, Recovery, Source
from stream.runtime.kafka.clients import Clients
from stream.runtime.shard import Shard

log = logging.getLogger("tidegate.kafka")

POLL_MS: Final = 500

FETCH_BYTES: Final = 262_144
"""Of the journal, or of an input that is replayed, at a time. What a fetch becomes is several times as large, and goes
again while what is restored stays: with fetches of 4 MB, of all partitions at once, a process that did nothing else
grew by 2 MB with every restore."""

FETCH_RECORDS: Final = 1_000
"""Records of the journal, or of an input that is replayed, that become objects at a time."""

FETCH: Final = {"max_partition_fetch_bytes": FETCH_BYTES, "max_poll_records": FETCH_RECORDS}

LOOK_BACK: Final = 2_000
"""Offsets before the end in which manifests are looked for at first: some minutes of a partition."""


def as_records(fetched: Iterable[Any]) -> list[Record]:
    """aiokafka's records as ours."""
    return [Record(r.offset, r.timestamp / 1000.0, r.key, r.value) for r in fetched]


async def read_journal(config: Config, clients: Clients, partition: int, shards: Collection[str]) -> list[Entry]:
    """What a recovery of these shards may need of one partition of the journal, in order.

    The log is read from its end backwards until it is known where their manifests stand, and then once in order: what
    is not needed is never held, and a worker's memory does not depend on how long the journal has become.
    """
    tp = TopicPartition(config.topics.name(JOURNAL), partition)
    consumer = clients.consumer(**FETCH)
    await consumer.start()
    try:
        consumer.assign([tp])
        first, end = [(await asked([tp]))[tp] for asked in (consumer.beginning_offsets, consumer.end_offsets)]
        manifests = journal.Manifests()
        start, span = end, LOOK_BACK
        while start > first and not all(map(manifests.has_both, shards)):
            until, start, span = start, max(first, start - span), 4 * span
            async for record in _records(consumer, tp, start, until):
                manifests.add(record.offset, record.key)
        entries = journal.Entries(manifests.older())
        theirs = tuple(f"{shard}/".encode() for shard in shards)
        async for record in _records(consumer, tp, first, end):
            if record.key.startswith(theirs):
                entries.add(record.offset, record.key, record.value)
        return entries.items()
    finally:
        await consumer.stop()


async def _records(consumer: Any, tp: TopicPartition, start: int, end: int) -> AsyncIterator[Any]:
    """Of one partition, those with a key, between two offsets."""
    consumer.seek(tp, start)
    while await consumer.position(tp) < end:
        for records in (await consumer.getmany(timeout_ms=POLL_MS)).values():
            for record in records:
                if record.key is not None and record.offset < end:
                    yield record


async def bounds(
    config: Config, clients: Clients, sources: Iterable[Source]
) -> tuple[dict[Source, int], dict[Source, int]]:
    """The first offset and the end (last stable offset) of inputs."""
    by_tp = {TopicPartition(config.topics.name(name), partition): (name, partition) for name, partition in sources}
    if not by_tp:  # a worker without a share; an aiokafka consumer that is closed unused ends its caller's task
        return {}, {}
    consumer = clients.consumer()
    await consumer.start()
    try:
        first = await consumer.beginning_offsets(list(by_tp))
        end = await consumer.end_offsets(list(by_tp))
        return {by_tp[tp]: n for tp, n in first.items()}, {by_tp[tp]: n for tp, n in end.items()}
    finally:
        await consumer.stop()


async def bring_back(shard: Shard, recovery: Recovery | None, config: Config, clients: Clients) -> int:
    """Restore a fresh shard, which stands where its inputs begin; the number of records replayed. Raises StateError if
    its past cannot be had."""
    start, first = perf_counter(), dict(shard.positions)
    if recovery is not None:
        with collector.paused():  # a collector that runs takes half of the time
            shard.restore(recovery.whole, recovery.places)
    lost = [f"{n}-{p}@{shard.positions[n, p]}" for n, p in shard.positions if first[n, p] > shard.positions[n, p]]
    if lost:
        raise StateError(f"{shard.name}: records were deleted before they were read, from {', '.join(lost)}")
    if recovery is None or not recovery.journal:
        return 0
    before = sum(shard.records.values())
    reader = Reader(config, clients, shard.positions)
    await reader.start()
    try:
        for record in recovery.journal:
            await reader.fill(record)
            shard.replay(record, reader.cut)
            await asyncio.sleep(0)
    finally:
        await reader.stop()
    replayed = sum(shard.records.values()) - before
    log.info("%s: replayed %d records in %.2f s", shard.name, replayed, perf_counter() - start)
    return replayed


class Reader:
    """Reads inputs from given positions, no further ahead than it is asked for."""

    def __init__(self, config: Config, clients: Clients, positions: Mapping[Source, int]) -> None:
        self._consumer = clients.consumer(**FETCH)
        self._at = dict(positions)
        self._tps = {source: TopicPartition(config.topics.name(source[0]), source[1]) for source in positions}
        self._read: dict[Source, list[Record]] = {source: [] for source in positions}

    async def start(self) -> None:
        await self._consumer.start()
        self._consumer.assign(list(self._tps.values()))
        for source, tp in self._tps.items():
            self._consumer.seek(tp, self._at[source])

    async def stop(self) -> None:
        await self._consumer.stop()

    async def fill(self, record: journal.JournalRecord) -> None:
        """Have at hand what the batches of a journal record hold."""
        for name, partition, end in record.positions:
            source = (name, partition)
            tp = self._tps[source]
            while self._at[source] < end:
                for records in (await self._consumer.getmany(tp, timeout_ms=POLL_MS)).values():
                    self._read[source] += as_records(records)
                self._at[source] = await self._consumer.position(tp)

    def cut(self, name: str, partition: int, start: int, end: int) -> list[Record]:
        """The records of one chunk; each is handed out once."""
        read = self._read[name, partition]
        count = next((i for i, record in enumerate(read) if record.offset >= end), len(read))
        taken, self._read[name, partition] = read[:count], read[count:]
        return [record for record in taken if record.offset >= start]
