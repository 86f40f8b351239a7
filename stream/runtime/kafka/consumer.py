"""Faust's consumer, changed in the few places that make whole fetches and our own positions possible.

Faust keeps what it is good at: the consumer thread with its heartbeats, the co-partitioning assignor, the order of a
rebalance. What is replaced, with the reason in each docstring, is everything about acks, gaps and committed offsets: a
state carries its own position, and that position always wins. The private names used here are pinned by
tests/test_faust_contract.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from time import monotonic
from typing import Any, NamedTuple, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import FetchResult
from aiokafka.errors import (
    ConsumerStoppedError,
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)
from aiokafka.structs import OffsetAndMetadata
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from stream import limits
from stream.errors import TidegateError
from stream.runtime.kafka.clients import Clients, gone

log = logging.getLogger("tidegate.kafka")


class Fetched(NamedTuple):
    """Records of one partition as one fetch gave them. `start` is the position before, `end` the position after: it
    covers markers of transactions and holes of compaction, so no gap bookkeeping is needed."""

    start: int
    end: int
    generation: int
    at_end: bool
    records: list[Any]


class FetchedMessage(ConsumerMessage):
    """One message to Faust, standing for all records of a fetch of one partition."""

    fetched: Fetched


class Owner(Protocol):
    """What the consumer asks of the engine."""

    clients: Clients

    def position(self, tp: TP) -> int | None:
        """Where the state behind this partition stands; None while there is none."""

    async def revoke(self) -> None:
        """Write what is pending: the partitions may go elsewhere."""

    async def due_checkpoint(self) -> bool:
        """Write what is pending, if it is time."""

    def fail(self, error: BaseException) -> None:
        """Processing must not go on."""


class BatchThread(driver.AIOKafkaConsumerThread):
    """The thread in which aiokafka's consumer and its heartbeats live."""

    _heartbeat_at: float | None = None
    _fetched_at: float | None = None
    _stamp = 0

    async def on_start(self) -> None:
        """Note when a heartbeat is answered, which aiokafka keeps to itself."""
        await super().on_start()
        coordinator = self._ensure_consumer()._coordinator
        ask = coordinator._do_heartbeat

        async def beat() -> bool:
            answered: bool = await ask()
            if answered:
                self._heartbeat_at = monotonic()
            return answered

        coordinator._do_heartbeat = beat

    def heard(self) -> tuple[float | None, float | None]:
        """When the broker was last seen to have answered a fetch, and when a heartbeat, by the monotonic clock."""
        stamp = sum(state.timestamp or 0 for state in self._states().values())
        if stamp != self._stamp:  # by the wall clock, so only that it has changed says anything
            self._stamp, self._fetched_at = stamp, monotonic()
        return self._fetched_at, self._heartbeat_at

    def _states(self) -> dict[Any, Any]:
        if self._consumer is None:
            return {}
        subscription = self._consumer._subscription.subscription
        if subscription is None or subscription.assignment is None:
            return {}
        return dict(subscription.assignment._tp_state)

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        """Our own settings: reads committed records only, and fetches that do not wait long for silent partitions
        (Faust fixes 1.5 s). Credentials come from the one factory."""
        conf = self.app.conf
        self._assignor = self.app.assignor
        return self.app.owner.clients.consumer(
            client_id=conf.broker_client_id,
            group_id=conf.id,
            partition_assignment_strategy=[self._assignor],
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            max_poll_interval_ms=int((conf.broker_max_poll_interval or 300.0) * 1000),
        )

    async def _fetch_records(
        self,
        consumer: AIOKafkaConsumer,
        active: set[TP],
        timeout: float | None = None,  # noqa: ASYNC109  # Faust's signature
        max_records: int | None = None,
    ) -> dict[TP, Fetched]:
        """aiokafka's `Fetcher.fetched_records`, but with the positions and the generation at the moment of taking.

        There is no await between reading the position, taking the records and reading the position again. Faust reads
        the generation after the fetch, so that a batch from before a rebalance could carry the new one.
        """
        if not self.consumer.flow_active:
            return {}
        fetcher = consumer._fetcher
        if consumer._closed or fetcher._closed:
            raise ConsumerStoppedError()
        deadline = monotonic() + (timeout or 0.0)
        with fetcher._subscriptions.fetch_context():
            while True:
                if fetcher._subscriptions.reassignment_in_progress:
                    await fetcher._subscriptions.wait_for_assignment()
                try:
                    taken = self._take(fetcher, active)
                except OffsetOutOfRangeError as error:
                    raise await gone(consumer, error) from error
                left = deadline - monotonic()
                if taken or left <= 0:
                    return taken
                waiter = fetcher._create_fetch_waiter()
                done, _ = await asyncio.wait([waiter], timeout=left)
                if not done or fetcher._closed:
                    waiter.cancel()
                    return {}
                waiter.result()

    def _take(self, fetcher: Any, active: set[TP]) -> dict[TP, Fetched]:
        """What of the fetched fits into one taking; the rest of it is taken next, before anything that comes later."""
        taken: dict[TP, Fetched] = {}
        records_left, bytes_left = limits.TAKE_RECORDS_MAX, limits.FETCH_UNPACKED_BYTES_MAX
        for tp in list(fetcher._records):
            if records_left <= 0 or bytes_left <= 0:
                break
            if not fetcher._subscriptions.is_assigned(tp):
                del fetcher._records[tp]
                continue
            if active is not None and tp not in active:
                continue
            result = fetcher._records[tp]
            if type(result) is FetchResult:
                state = fetcher._subscriptions.subscription.assignment.state_value(tp)
                if not state.has_valid_position:  # of an assignment before this one; where to read is not known yet
                    del fetcher._records[tp]
                    continue
                start = state.position
                records = result.getall(records_left)
                end = state.position
                records_left -= len(records)
                bytes_left -= sum([r.serialized_value_size for r in records])
                if not result.has_more():
                    del fetcher._records[tp]
                    fetcher._notify(fetcher._wait_consume_future)
                if records or end != start:
                    at_end = state.lso is not None and end >= state.lso
                    taken[TP(*tp)] = Fetched(start, end, self.app.consumer_generation_id, at_end, records)
            elif isinstance(result._error, NoOffsetForPartitionError):
                continue  # nobody has said yet where to read; the seek that does removes this
            elif not taken:
                del fetcher._records[tp]
                fetcher._notify(fetcher._wait_consume_future)
                result.check_raise()
        return taken

    async def commit_advisory(self, offsets: Mapping[TP, int]) -> None:
        """Show progress to lag tools. Nothing depends on it, so nothing follows from its failure."""
        consumer = self._ensure_consumer()
        ours = consumer.assignment()
        mine = {
            TopicPartition(*tp): OffsetAndMetadata(n, "") for tp, n in offsets.items() if TopicPartition(*tp) in ours
        }
        try:
            if mine:
                await consumer.commit(mine)
        except (KafkaError, IllegalStateError) as error:
            log.debug("advisory commit failed: %r", error)

    async def hold(self, held: Iterable[TP], released: Iterable[TP]) -> None:
        """aiokafka's own pause, which fetches again later. Faust's keeps what was fetched, and loses it."""
        consumer = self._ensure_consumer()
        ours = consumer.assignment()
        consumer.pause(*[TopicPartition(*tp) for tp in held if TopicPartition(*tp) in ours])
        consumer.resume(*[TopicPartition(*tp) for tp in released if TopicPartition(*tp) in ours])

    async def ends(self) -> dict[TP, int]:
        """End of every assigned partition, asked of the broker: the last stable offset."""
        consumer = self._ensure_consumer()
        found = await consumer.end_offsets(list(consumer.assignment()))
        return {TP(*tp): end for tp, end in found.items()}

    def ends_seen(self) -> dict[TP, int]:
        """End of every assigned partition as the last fetch told it; costs nothing."""
        return {TP(*tp): state.lso for tp, state in self._states().items() if state.lso is not None}

    @property
    def coordination_ended(self) -> bool:
        """aiokafka's group coordination has ended by an error: the consumer then only looks idle."""
        coordinator = self._ensure_consumer()._coordinator
        task = getattr(coordinator, "_coordination_task", None)
        return task is not None and task.done()


class BatchConsumer(driver.Consumer):
    """Faust's consumer without acks: it hands over whole fetches and seeks to where the state stands."""

    def _new_consumer_thread(self) -> BatchThread:
        return BatchThread(self, loop=self.loop, beacon=self.beacon)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, FetchedMessage]]:  # noqa: ASYNC109  # Faust's signature
        """One message for each partition of a fetch that starts where the state stands; otherwise a seek there.

        Records are never dropped in silence: what is not taken will be fetched again, because the position decides.
        """
        try:
            records, _ = await self._wait_next_records(timeout)
        except TidegateError as error:  # what comes next cannot be had: to go on elsewhere would lose it in silence
            self.app.owner.fail(error)
            return
        if not records or self.should_stop:
            return
        if not self.flow_active:
            await self.perform_seek()
            return
        for tp, fetched in records.items():
            position = self.app.owner.position(tp)
            if position is None or fetched.generation != self.app.consumer_generation_id:
                continue  # not ours yet, or no longer: the restore and its seek will put the position right
            if fetched.start != position or not self.flow_active:
                await self._seek_again(tp, position)
                continue
            yield tp, self._message(tp, fetched)

    async def _seek_again(self, tp: TP, position: int) -> None:
        """A fetch lost a race with a seek, a pause or a rebalance."""
        self.app.owner.reseeks[tp] += 1
        try:
            await self.seek(tp, position)
        except (KafkaError, IllegalStateError) as error:
            log.info("seek of %s-%s again failed, it is no longer ours: %r", tp.topic, tp.partition, error)

    def _message(self, tp: TP, fetched: Fetched) -> FetchedMessage:
        at = fetched.records[-1].timestamp / 1000.0 if fetched.records else 0.0
        message = FetchedMessage(
            tp.topic,
            tp.partition,
            fetched.end - 1,
            at,
            0,
            None,
            None,
            None,
            None,
            0,
            0,
            tp,
            generation_id=fetched.generation,
        )
        message.fetched = fetched
        return message

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """No gaps are kept: Faust's would let a later ack commit over unprocessed records."""

    async def force_commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Faust's timer ends here: write checkpoints instead of offsets. A rebalance and the shutdown do so before."""
        return bool(await self.app.owner.due_checkpoint())

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """To where the states stand. Called after every rebalance; the group's offsets are advisory."""
        ours = {tp: self.app.owner.position(tp) for tp in self.assignment()}
        ready = {tp: position for tp, position in ours.items() if position is not None}
        if ready:
            await self._thread.seek_wait(ready)
        return ready

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Write checkpoints before Faust forgets what it knows of the partitions."""
        self.stop_flow()
        self.app.flow_control.suspend()
        await self.app.owner.revoke()
        await super().on_partitions_revoked(revoked)

    async def verify_all_partitions_active(self) -> None:
        """Faust looks for acks, which there are none of; the engine has a watchdog of its own."""


class Producer(driver.Producer):
    """Faust's own producer; nothing of ours goes through it, but it connects, so it must be let in."""

    def _settings_auth(self) -> dict[str, Any]:
        return dict(self.app.owner.clients.security())


class Transport(driver.Transport):
    """Installs the consumer and the producer."""

    Consumer = BatchConsumer
    Producer = Producer
