"""What stands in the topics when a run is over: the records of every log, and the journals of every shard.

Owns the reading. Refuses to know what should stand there (`tests.chaos.judge`).
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from typing import NamedTuple

from aiokafka import TopicPartition
from kafka import TopicPartition as PlainPartition
from kafka.admin import ConfigResource, ConfigResourceType

from stream import codec
from stream.config import Config
from stream.contract import JOURNAL, TOPICS, Record
from stream.runtime.journal import JournalRecord
from stream.runtime.kafka.clients import Clients
from stream.runtime.kafka.restore import POLL_MS, as_records

Log = tuple[str, int]
"""A topic by role, and a partition."""


class Committed(NamedTuple):
    """A checkpoint, and when the broker took it (epoch seconds)."""

    record: JournalRecord
    at: float


class Records(NamedTuple):
    """Committed records by log, and checkpoints by shard, in order."""

    logs: dict[Log, list[Record]]
    journals: dict[str, list[Committed]]

    @property
    def partitions(self) -> int:
        return 1 + max(partition for _, partition in self.logs)

    def of(self, role: str) -> list[tuple[int, Record]]:
        """The records of all partitions of a topic, each with its partition."""
        return [(p, record) for (name, p), log in sorted(self.logs.items()) if name == role for record in log]

    def keep(self, doomed: Callable[[str, int, Record], bool]) -> Records:
        """A copy without some records."""
        return Records(
            {(role, p): [r for r in log if not doomed(role, p, r)] for (role, p), log in self.logs.items()},
            self.journals,
        )


def stamp_by_broker(config: Config, clients: Clients) -> None:
    """Let the broker's clock say when a checkpoint was taken: a worker stamps it before it has a broker to send it to,
    and how long work has stood still is measured by it."""
    name, settings = config.topics.name(JOURNAL), {"message.timestamp.type": "LogAppendTime"}
    with clients.admin() as admin:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, configs=settings)])


def ends(config: Config, clients: Clients, roles: tuple[str, ...] = TOPICS) -> dict[Log, int]:
    """The last stable offset of every log: it moves with every transaction."""
    partitions = [(role, p) for role in roles for p in range(config.topics.partitions)]
    by_log = {log: PlainPartition(config.topics.name(log[0]), log[1]) for log in partitions}
    with closing(clients.tail()) as consumer:
        found = consumer.end_offsets(list(by_log.values()))
    return {log: found[partition] for log, partition in by_log.items()}


def read(config: Config, clients: Clients) -> Records:
    """Everything that is committed. Parts of whole states are left out."""
    return asyncio.run(_read(config, clients))


async def _read(config: Config, clients: Clients) -> Records:
    every = [(role, p) for role in TOPICS for p in range(config.topics.partitions)]
    by_partition = {TopicPartition(config.topics.name(role), p): (role, p) for role, p in every}
    logs: dict[Log, list[Record]] = {log: [] for log in every}
    consumer = clients.consumer()
    await consumer.start()
    try:
        consumer.assign(list(by_partition))
        last = await consumer.end_offsets(list(by_partition))
        await consumer.seek_to_beginning()
        left = {partition for partition, end in last.items() if end}
        while left:
            for partition, fetched in (await consumer.getmany(timeout_ms=POLL_MS)).items():
                log = by_partition[partition]
                logs[log] += filter(_is_checkpoint, as_records(fetched)) if log[0] == JOURNAL else as_records(fetched)
            left = {partition for partition in left if await consumer.position(partition) < last[partition]}
    finally:
        await consumer.stop()
    return Records(*_split(logs))


def _is_checkpoint(record: Record) -> bool:
    return b"/journal/" in (record.key or b"") and record.value is not None


def _split(logs: dict[Log, list[Record]]) -> tuple[dict[Log, list[Record]], dict[str, list[Committed]]]:
    """The journals apart from the other logs."""
    journals: defaultdict[str, list[Committed]] = defaultdict(list)
    for log in [log for log in logs if log[0] == JOURNAL]:
        for record in logs.pop(log):
            assert isinstance(record.value, bytes)
            committed: JournalRecord = codec.unpack(JournalRecord, record.value)
            journals[committed.shard].append(Committed(committed, record.timestamp_s))
    return logs, dict(journals)
