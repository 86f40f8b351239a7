"""A broker in memory: logs with transactions, epochs that fence, retention, compaction; and clients to reach it.

Owns what a reader that reads what is committed may see. The clients have the surface of aiokafka's that the engine
uses, and every call is an effect: before it the process may be late, frozen or dead, and in it the broker may fail.
Refuses to know what records mean.
"""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_left
from collections.abc import Iterable
from typing import Any, Final, Literal, NamedTuple

from aiokafka import TopicPartition
from aiokafka.errors import IllegalOperation, KafkaTimeoutError, OffsetOutOfRangeError, ProducerFenced

from stream.contract import Record
from stream.runtime.kafka.clients import gone
from tests.simulation.clock import PROCESS, TODAY_S

BATCH_RECORDS: Final = 40
"""Records of one batch of a producer, so that a transaction has several."""

Failure = Literal["refused", "unacknowledged"]
"""Of a call that fails: nothing has happened, or all of it and only the answer is lost."""


class Transaction:
    """What one producer writes at once. `epoch` tells it from what a producer before wrote under the same id."""

    def __init__(self, id: str, epoch: int) -> None:
        self.id = id
        self.epoch = epoch
        self.status: Literal["open", "committed", "aborted"] = "open"
        self.committed_s = 0.0
        self.touched: list[Partition] = []


class Stored(NamedTuple):
    """A record in a log, with the transaction that it belongs to."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    transaction: Transaction | None
    written_s: float

    @property
    def visible(self) -> bool:
        return self.transaction is None or self.transaction.status == "committed"

    def as_record(self) -> Record:
        return Record(self.offset, self.timestamp / 1000.0, self.key, self.value)


class Partition:
    """One log. `log` is all that was ever written; `first` is where a reader may begin, `gone` what was compacted."""

    def __init__(self) -> None:
        self.log: list[Stored] = []
        self.offsets: list[int] = []
        self.first = 0
        self.end = 0
        self.gone: set[int] = set()
        self.open: dict[Transaction, int] = {}

    @property
    def stable(self) -> int:
        """Where an open transaction begins, or the end: nothing beyond is read."""
        return min(self.open.values(), default=self.end)

    def append(self, stored: tuple[int, bytes | None, bytes | None], transaction: Transaction | None, at: float) -> int:
        timestamp, key, value = stored
        if transaction is not None and self not in transaction.touched:
            transaction.touched.append(self)
            self.open[transaction] = self.end
        self.log.append(Stored(self.end, timestamp, key, value, transaction, at))
        self.offsets.append(self.end)
        self.end += 1
        return self.end - 1

    def close(self, transaction: Transaction) -> None:
        """The marker of a transaction takes an offset and is no record."""
        del self.open[transaction]
        self.end += 1

    def read(self, position: int, most: int = 1 << 30) -> tuple[list[Stored], int]:
        """Committed records from a position on, and the position after them: beyond markers and what was aborted."""
        stable = self.stable
        found: list[Stored] = []
        for i in range(bisect_left(self.offsets, position), len(self.log)):
            stored = self.log[i]
            if stored.offset >= stable:
                break
            if stored.visible and stored.offset >= self.first and stored.offset not in self.gone:
                found.append(stored)
                if len(found) >= most:
                    return found, stored.offset + 1
        return found, max(position, stable)

    def between(self, start: int, end: int) -> list[Record]:
        """All committed records of a stretch, be they deleted since: what those saw who read it in time."""
        low, high = bisect_left(self.offsets, start), bisect_left(self.offsets, end)
        return [stored.as_record() for stored in self.log[low:high] if stored.visible]

    def compact(self) -> None:
        """Of each key only the newest stays."""
        newest: dict[bytes | None, int] = {}
        closed = [stored for stored in self.log if stored.visible and stored.offset < self.stable]
        for stored in closed:
            newest[stored.key] = stored.offset
        self.gone |= {stored.offset for stored in closed if newest[stored.key] != stored.offset}


class Broker:
    """All logs, and who may write under which id. `failing` is how often a call of a producer fails."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.partitions: dict[tuple[str, int], Partition] = {}
        self.epochs: dict[str, int] = {}
        self.open: dict[str, Transaction] = {}
        self.failing = 0.0
        self.happened: dict[str, int] = {}

    def at(self, topic: str, partition: int) -> Partition:
        return self.partitions.setdefault((topic, partition), Partition())

    def now(self) -> float:
        return TODAY_S + asyncio.get_running_loop().time()

    def note(self, what: str) -> None:
        self.happened[what] = self.happened.get(what, 0) + 1

    def failure(self) -> Failure | None:
        if not self.failing or self.chance.random() >= self.failing:
            return None
        return self.chance.choice(("refused", "unacknowledged"))

    def fence(self, id: str) -> int:
        """A new producer under this id: the one before may not write any more, and what it had open is void."""
        self.epochs[id] = self.epochs.get(id, -1) + 1
        if id in self.open:
            self.note("open transaction aborted by its successor")
            self.finish(self.open[id], "aborted")
        return self.epochs[id]

    def check(self, id: str, epoch: int) -> None:
        if self.epochs[id] != epoch:
            self.note("zombie fenced")
            raise ProducerFenced

    def finish(self, transaction: Transaction, status: Literal["committed", "aborted"]) -> None:
        transaction.status = status
        transaction.committed_s = self.now()
        self.open.pop(transaction.id, None)
        for partition in transaction.touched:
            partition.close(transaction)


class Batch:
    """Records of one partition that are sent together."""

    def __init__(self) -> None:
        self.records: list[tuple[bytes | None, bytes | None]] = []

    def append(self, timestamp: None, key: bytes | None, value: bytes | None) -> Any:
        if len(self.records) >= BATCH_RECORDS:
            return None
        self.records.append((key, value))
        return True

    def close(self) -> None: ...


class Producer:
    """A transactional producer, as aiokafka's: that it is fenced is told by the first batch, to whoever waits,
    and no other can be sent from then on."""

    def __init__(self, broker: Broker, id: str) -> None:
        self._broker = broker
        self._id = id
        self._epoch = -1
        self._transaction: Transaction | None = None
        self._fenced = False

    async def start(self) -> None:
        await PROCESS.get().effect()
        if self._broker.failure() == "refused":
            raise KafkaTimeoutError(f"{self._id}: no coordinator")
        self._epoch = self._broker.fence(self._id)

    async def stop(self) -> None: ...

    def create_batch(self) -> Batch:
        return Batch()

    async def begin_transaction(self) -> None:
        assert self._transaction is None, f"{self._id}: a transaction is open already"
        self._transaction = Transaction(self._id, self._epoch)

    async def send_batch(self, batch: Batch, topic: str, partition: int) -> asyncio.Future[None]:
        await PROCESS.get().effect()
        broker, done = self._broker, asyncio.get_running_loop().create_future()
        if self._fenced:
            raise IllegalOperation("Can't send messages while not in transaction")
        try:
            broker.check(self._id, self._epoch)
        except ProducerFenced as error:
            self._fenced = True
            done.set_exception(error)
            return done
        failure = broker.failure()
        if failure != "refused":
            transaction = self._transaction
            assert transaction is not None
            broker.open[self._id] = transaction
            log, now = broker.at(topic, partition), broker.now()
            for key, value in batch.records:
                log.append((round(now * 1000), key, value), transaction, now)
        if failure is None:
            done.set_result(None)
            return done
        broker.note(f"a batch {failure}")
        raise KafkaTimeoutError(f"{topic}-{partition} {failure}")

    async def commit_transaction(self) -> None:
        await self._end("committed")

    async def abort_transaction(self) -> None:
        await self._end("aborted")

    async def _end(self, status: Literal["committed", "aborted"]) -> None:
        process, broker, transaction = PROCESS.get(), self._broker, self._transaction
        await process.effect()
        assert transaction is not None
        broker.check(self._id, self._epoch)
        failure = broker.failure() if status == "committed" else None
        if failure != "refused":
            broker.finish(transaction, status)
            self._transaction = None
        await process.effect()
        if failure is not None:
            broker.note(f"a commit {failure}")
            raise KafkaTimeoutError(f"{self._id}: commit {failure}")
        broker.note(f"transactions {status}")


class Consumer:
    """A consumer without a group, as aiokafka's: it reads what is committed, and does not go on elsewhere where that is
    deleted."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._at: dict[TopicPartition, int] = {}

    async def start(self) -> None:
        await PROCESS.get().effect()
        if self._broker.failure() == "refused":
            raise KafkaTimeoutError("no broker")

    async def stop(self) -> None: ...

    def assign(self, tps: list[TopicPartition]) -> None:
        self._at = dict.fromkeys(tps, 0)

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self._at[tp] = offset

    async def position(self, tp: TopicPartition) -> int:
        return self._at[tp]

    async def end_offsets(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        await PROCESS.get().effect()
        return {tp: self._log(tp).stable for tp in tps}

    async def beginning_offsets(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        await PROCESS.get().effect()
        return {tp: self._log(tp).first for tp in tps}

    async def getmany(self, *tps: TopicPartition, timeout_ms: int = 0) -> dict[TopicPartition, list[Stored]]:
        await PROCESS.get().effect()
        found = await self._fetch(tps or tuple(self._at))
        if not found and timeout_ms:
            await asyncio.sleep(timeout_ms / 1000)
            found = await self._fetch(tps or tuple(self._at))
        return found

    async def _fetch(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, list[Stored]]:
        found = {}
        for tp in tps:
            await self.need(tp, self._at[tp])
            records, self._at[tp] = self._log(tp).read(self._at[tp], self._broker.chance.choice((7, 50, 500)))
            if records:
                found[tp] = records
        return found

    async def need(self, tp: TopicPartition, position: int) -> None:
        """Raises what the product's consumers raise if that is deleted."""
        if position < self._log(tp).first:
            raise await gone(self, OffsetOutOfRangeError({tp: position}))  # type: ignore[arg-type]  # our aiokafka

    def _log(self, tp: TopicPartition) -> Partition:
        return self._broker.at(tp.topic, tp.partition)


class Clients:
    """Makes clients of one broker."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker

    def consumer(self, **settings: Any) -> Consumer:
        return Consumer(self.broker)

    def transactional(self, id: str) -> Producer:
        return Producer(self.broker, id)
