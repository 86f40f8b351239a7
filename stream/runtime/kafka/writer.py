"""Writing checkpoints: one transactional producer for each shard, one transaction for each checkpoint.

The transactional id names the shard, so starting a writer fences whoever wrote for it before: after that no old owner
can commit anything. Owns batching into record batches; refuses to know what is in them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Iterable
from time import perf_counter
from typing import Any, Final

from aiokafka.errors import IllegalOperation, KafkaError, ProducerFenced

from stream.config import Topics
from stream.joining.partition import partition_of
from stream.runtime.kafka.clients import Clients
from stream.runtime.metrics import Histogram
from stream.runtime.shard import Write

log = logging.getLogger("tidegate.kafka")

TRIES: Final = 5
"""Attempts at one checkpoint before the worker gives up and ends: its successor continues from the last one."""

PAUSE_S: Final = 0.5
KEYS_KNOWN_MAX: Final = 10_000
"""Keys whose partition is remembered; keys of our own topics are models and few prediction ids."""


class FencedError(Exception):
    """Somebody else owns the shard now; whatever this owner has is void."""


class Writer:
    """The transactional producer of one shard."""

    def __init__(self, clients: Clients, topics: Topics, transactional_id: str) -> None:
        self._clients = clients
        self._topics = topics
        self._id = transactional_id
        self._producer: Any = None
        self._known: dict[bytes, int] = {}
        self.seconds = Histogram()
        self.results = {"committed": 0, "aborted": 0, "fenced": 0}
        self.bytes = 0

    async def start(self) -> None:
        """Fence the owner before, and abort what it had open."""
        self._producer = self._clients.transactional(self._id)
        await self._producer.start()

    async def stop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                await producer.stop()
            except KafkaError as error:
                log.info("%s: stopping the producer: %r", self._id, error)

    async def write(self, writes: list[Write]) -> None:
        """Write all or nothing. Raises FencedError, or KafkaError when it could not be written."""
        start = perf_counter()
        for attempt in range(1, TRIES + 1):
            try:
                await self._transaction(writes)
                break
            except ProducerFenced as error:
                self.results["fenced"] += 1
                raise FencedError(self._id) from error
            except KafkaError as error:
                self.results["aborted"] += 1
                log.warning("%s: checkpoint aborted (attempt %d): %r", self._id, attempt, error)
                if attempt == TRIES:
                    raise
                await asyncio.sleep(PAUSE_S * attempt)
        self.results["committed"] += 1
        self.seconds.observe(perf_counter() - start)
        self.bytes = sum(len(write.value or b"") for write in writes)

    async def _transaction(self, writes: list[Write]) -> None:
        """One transaction. What fails before the commit is aborted and may be tried again; an error of the commit
        itself is not caught here: whether it counts is then for the successor to read."""
        producer = self._producer
        await producer.begin_transaction()
        try:
            await self._send(writes)
        except ProducerFenced:
            raise
        except KafkaError:
            await producer.abort_transaction()
            raise
        try:
            await producer.commit_transaction()
        except ProducerFenced:
            raise
        except KafkaError as error:
            raise CommitUnknownError(f"{self._id}: {error!r}") from error

    async def _send(self, writes: list[Write]) -> None:
        """Raises what one batch met, once of each it is known what it met; that we are fenced before anything else."""
        sent, refused = list[asyncio.Future[Any]](), list[BaseException]()
        try:
            for (topic, partition), records in self._grouped(writes).items():
                for batch in self._batches(records):
                    sent.append(await self._producer.send_batch(batch, topic, partition=partition))
        except (KafkaError, IllegalOperation) as error:  # the second where one of those before has failed
            refused.append(error)
        outcomes = [*await asyncio.gather(*sent, return_exceptions=True), *refused]
        faults = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        if faults:
            raise next((fault for fault in faults if isinstance(fault, ProducerFenced)), faults[0])

    def _grouped(self, writes: Iterable[Write]) -> dict[tuple[str, int], list[Write]]:
        """By topic and partition, in order within each."""
        groups: dict[tuple[str, int], list[Write]] = {}
        for write in writes:
            partition = self._partition(write.key) if write.partition is None else write.partition
            groups.setdefault((self._topics.name(write.topic), partition), []).append(write)
        return groups

    def _batches(self, records: list[Write]) -> Iterable[Any]:
        """Whole record batches: a third of the cost of sending record by record."""
        batch = self._producer.create_batch()
        for record in records:
            if batch.append(timestamp=None, key=record.key, value=record.value) is None:
                yield batch
                batch = self._producer.create_batch()
                batch.append(timestamp=None, key=record.key, value=record.value)
        batch.close()
        yield batch

    def _partition(self, key: bytes) -> int:
        partition = self._known.get(key)
        if partition is None:
            if len(self._known) >= KEYS_KNOWN_MAX:
                self._known.clear()
            partition = self._known[key] = partition_of(key, self._topics.partitions)
        return partition


class CommitUnknownError(Exception):
    """Whether a checkpoint was committed is not known; the worker must end, and its successor read the journal."""


class Fencing:
    """Writers of a worker that are being started. Each fences whoever owns its shard when it comes through, so nobody
    may answer a rebalance while one is under way: it would fence the next owner."""

    def __init__(self) -> None:
        self.under_way: set[asyncio.Future[None]] = set()

    async def begin(self, writers: Iterable[Writer]) -> None:
        """Until all are started. Raises what the first of them raises."""
        starting = asyncio.ensure_future(all_of(writer.start() for writer in writers))
        self.under_way.add(starting)
        starting.add_done_callback(self.under_way.discard)
        await starting

    async def over(self) -> None:
        """Until no restore fences anybody any more."""
        if self.under_way:
            await asyncio.wait(self.under_way)


async def all_of(under_way: Iterable[Awaitable[None]]) -> None:
    """Raises what the first of them raises, but only once none is under way any more."""
    for outcome in await asyncio.gather(*under_way, return_exceptions=True):
        if outcome is not None:
            raise outcome
