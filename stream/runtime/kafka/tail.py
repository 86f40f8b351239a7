"""Reading a topic from outside: alerts, dead letters, windows, examples, as people and tests follow them.

Reads what is committed, belongs to no group, moves no offset. Refuses to know what the events mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from kafka import TopicPartition

from stream.config import Config
from stream.contract import Record
from stream.runtime.kafka.clients import RECORD_BYTES_MAX, Clients

POLL_MS: Final = 250
POLL_RECORDS: Final = 2_000


class Tailed(NamedTuple):
    """A record and where it stood."""

    partition: int
    record: Record


def tail(
    config: Config, clients: Clients, role: str, follow: bool = False, last: int | None = None
) -> Iterator[Tailed]:
    """The records of a topic, by role, oldest first within each partition.

    Ends where the topic ended at the call, unless `follow`. `last` starts so many offsets before the end of each
    partition (markers of transactions count as offsets).
    """
    topic = config.topics.name(role)
    consumer = clients.tail(max_poll_records=POLL_RECORDS, fetch_max_wait_ms=POLL_MS, fetch_max_bytes=RECORD_BYTES_MAX)
    try:
        partitions = [TopicPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic) or ())]
        consumer.assign(partitions)
        first = consumer.beginning_offsets(partitions)
        ends = consumer.end_offsets(partitions)
        for partition in partitions:
            start = first[partition] if last is None else max(first[partition], ends[partition] - last)
            consumer.seek(partition, start)
        yield from _read(consumer, ends, follow)
    finally:
        consumer.close()


def _read(consumer: Any, ends: dict[Any, int], follow: bool) -> Iterator[Tailed]:
    left = {tp for tp, end in ends.items() if consumer.position(tp) < end}
    while follow or left:
        for tp, records in consumer.poll(timeout_ms=POLL_MS).items():
            for r in records:
                yield Tailed(tp.partition, Record(r.offset, r.timestamp / 1000, r.key, r.value))
        left = {tp for tp in left if consumer.position(tp) < ends[tp]}
