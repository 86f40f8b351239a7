"""The input that every shard of a stage reads whole: snapshots, for score. A consumer of its own, outside the group.

Owns the reading; the shards own their positions, here as everywhere.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from stream.config import Config
from stream.contract import SNAPSHOTS, Chunk
from stream.runtime.kafka.carried import Carried
from stream.runtime.kafka.clients import Clients
from stream.runtime.kafka.restore import as_records

log = logging.getLogger("tidegate.kafka")

POLL_MS: Final = 250
PAUSE_S: Final = 1.0
CATCH_UP_S: Final = 30.0


class Broadcast:
    """Feeds all partitions of `snapshots` to the score shards of this worker."""

    def __init__(self, config: Config, clients: Clients, readers: Callable[[], list[Carried]]) -> None:
        self._clients = clients
        topic = config.topics.name(SNAPSHOTS)
        self._tps = [TopicPartition(topic, p) for p in range(config.topics.partitions)]
        self._readers = readers
        self._consumer: Any = None
        self._lock = asyncio.Lock()

    async def rewind(self) -> None:
        """Start again at the shard that is furthest behind, and bring all to the end before anything is scored."""
        async with self._lock:
            if not self._readers():
                return
            if self._consumer is None:
                self._consumer = self._clients.consumer()
                await self._consumer.start()
                self._consumer.assign(self._tps)
            readers = self._readers()
            if not readers:  # they were fenced meanwhile
                return
            for tp in self._tps:
                self._consumer.seek(tp, min(c.shard.positions[SNAPSHOTS, tp.partition] for c in readers))
            ends = await self._consumer.end_offsets(self._tps)
            deadline = time.monotonic() + CATCH_UP_S
            while time.monotonic() < deadline:
                if all([await self._consumer.position(tp) >= ends[tp] for tp in self._tps]):
                    return
                await self._feed()
            log.warning(
                "snapshots were not read to their end within %.0f s; scoring begins with older ones", CATCH_UP_S
            )

    async def run(self) -> None:
        """Feed for ever; a broker that is away is asked again."""
        while True:
            try:
                async with self._lock:
                    if self._consumer is not None and self._readers():
                        await self._feed()
            except KafkaError as error:
                log.warning("reading snapshots: %r", error)
                await asyncio.sleep(PAUSE_S)
            await asyncio.sleep(POLL_MS / 1000)

    async def stop(self) -> None:
        if self._consumer is not None:
            await self._consumer.stop()

    async def _feed(self) -> None:
        starts = {tp: await self._consumer.position(tp) for tp in self._tps}
        fetched = await self._consumer.getmany(timeout_ms=POLL_MS)
        for tp in self._tps:
            end = await self._consumer.position(tp)
            if end > starts[tp]:
                chunk = Chunk(SNAPSHOTS, tp.partition, starts[tp], end, as_records(fetched.get(tp, ())))
                for carried in self._readers():
                    if not carried.take((chunk,)):
                        at = carried.shard.positions[SNAPSHOTS, tp.partition]
                        self._consumer.seek(tp, min(at, await self._consumer.position(tp)))
