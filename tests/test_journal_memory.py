"""What a restore holds while it reads the journal does not depend on how much stands there (F50), on a real broker."""

from __future__ import annotations

import asyncio
import tracemalloc
from contextlib import closing

import pytest

from stream.contract import JOURNAL
from stream.runtime import journal
from stream.runtime.kafka import restore
from tests.kafka_support import Cluster

SHARD = "join/0"
RECORD_BYTES = 400
HELD_BYTES_MAX = 3_000_000
"""Some times a fetch: 1.5 MB was measured, and 12 where everything is held."""


@pytest.mark.kafka
def test_a_journal_of_twenty_thousand_records_is_read_in_little_memory(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(cluster, 20_000)
    assert read(cluster, "join/1")[0] == [], "another shard's"
    entries, peak = read(cluster, SHARD)
    assert [key for key, _ in entries] == needed(), "the manifests, and the records since the older"
    assert peak < HELD_BYTES_MAX
    monkeypatch.setattr(journal.Manifests, "older", lambda manifests: {})
    everything, peak = read(cluster, SHARD)
    assert len(everything) > 20_000 and peak > 2 * HELD_BYTES_MAX, "as it would be without knowing the manifests"


def fill(cluster: Cluster, end: int) -> None:
    """A manifest before every hundredth record of the last two hundred: as a broker leaves it that has compacted."""
    topic = cluster.config.topics.name(JOURNAL)
    with closing(cluster.clients.producer()) as producer:
        for n in range(end):
            if n in (end - 200, end - 100):
                slot = (end - n) // 100 - 1
                producer.send(topic, partition=0, key=f"{SHARD}/state/{slot}/manifest".encode(), value=b"manifest")
            producer.send(topic, partition=0, key=f"{SHARD}/journal/{n}".encode(), value=bytes(RECORD_BYTES))


def needed() -> list[bytes]:
    keys = []
    for slot, start in ((1, 19_800), (0, 19_900)):
        keys += [f"{SHARD}/state/{slot}/manifest".encode()]
        keys += [f"{SHARD}/journal/{n}".encode() for n in range(start, start + 100)]
    return keys


def read(cluster: Cluster, shard: str) -> tuple[list[tuple[bytes, bytes]], int]:
    """The entries, and the most bytes that were held while they were read."""
    tracemalloc.start()
    try:
        entries = asyncio.run(restore.read_journal(cluster.config, cluster.clients, 0, (shard,)))
        return entries, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
