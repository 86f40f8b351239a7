"""The engine of one worker: which shards it carries, and when they are restored, fed, checkpointed and given up.

Faust says which partitions are ours; everything about what they hold is decided here by one rule: *a state carries its
own position*. Partition p of every topic belongs to one worker, which carries shard p of every stage.

A rebalance, in order: `revoke` (write checkpoints, stop taking) – the group meets – `restore` (fence the owners before,
read what they left, replay) – the consumer seeks to where the states stand – records flow. A shard that stays with this
worker keeps its state if no generation was missed; were that ever wrong, its next checkpoint would be fenced.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from time import monotonic, perf_counter
from typing import Any, Final

from aiokafka.errors import KafkaError
from faust.types import TP

from stream.config import Config
from stream.contract import SNAPSHOTS, STAGE_INPUTS, Chunk
from stream.errors import TidegateError
from stream.runtime.journal import Source
from stream.runtime.kafka import restore
from stream.runtime.kafka.broadcast import Broadcast
from stream.runtime.kafka.carried import Carried
from stream.runtime.kafka.clients import Clients, GoneError
from stream.runtime.kafka.consumer import FetchedMessage
from stream.runtime.kafka.restorer import Restorer
from stream.runtime.kafka.writer import CommitUnknownError, FencedError
from stream.runtime.metrics import Figures

log = logging.getLogger("tidegate.kafka")

OUTBOX_BYTES_MAX: Final = 33_554_432
"""Outputs of one shard that wait for their transaction; beyond it the worker takes no more records."""

BUSY_SHARDS: Final = 8
"""Shards that write at every interval; a transaction costs a client 1.2 ms and a broker 3.5 to 8, so eight of them four
times a second are a quarter of a broker's core."""

ADVISORY_S: Final = 2.0
"""Seconds between two commits of the group's offsets, which only lag tools read."""


class Engine:
    """The shards of one worker. `app` (Faust's) is attached after construction; see `stream.runtime.kafka.app`."""

    def __init__(
        self, config: Config, clients: Clients, stages: tuple[str, ...], restorer: Restorer, figures: Figures
    ) -> None:
        self.config = config
        self.clients = clients
        self.stages = stages
        self.app: Any = None
        self.reseeks: Counter[TP] = Counter()
        self.carried: dict[tuple[str, int], Carried] = {}
        self.fault: BaseException | None = None
        self.rebalances = 0
        self.silent_s = 0.0
        """Since the broker was heard last, as the watchdog counts."""
        self.active = False
        self._restorer = restorer
        self._figures = figures
        self._roles = {config.topics.name(role): role for stage in stages for role in self._shared(stage)}
        self._broadcast = Broadcast(
            config, clients, lambda: [c for c in self.carried.values() if c.shard.stage == "score"]
        )
        self._epoch = 0  # of what makes a restore under way void
        self._generation = -1
        self._fenced_at: float | None = None
        self._closing = False
        self._advised_at = 0.0
        self._busy = 0
        self._wrote_at = 0.0
        self._void: list[Carried] = []

    @property
    def topics(self) -> list[str]:
        """Topics whose partitions Faust divides among the workers."""
        return sorted(self._roles)

    @staticmethod
    def _shared(stage: str) -> tuple[str, ...]:
        return tuple(role for role in STAGE_INPUTS[stage] if role != SNAPSHOTS)

    # ---- taking records -------------------------------------------------------------------------------------------

    def readers(self, tp: TP) -> list[Carried] | None:
        """The shards that read a partition; None unless all of them are here and ready."""
        role = self._roles[tp.topic]
        names = [stage for stage in self.stages if role in STAGE_INPUTS[stage]]
        found = [self.carried[name, tp.partition] for name in names if (name, tp.partition) in self.carried]
        return found if self.active and len(found) == len(names) else None

    def position(self, tp: TP) -> int | None:
        """Where the readers of a partition stand: the one furthest behind decides."""
        readers = self.readers(tp)
        source = (self._roles[tp.topic], tp.partition)
        return None if readers is None else min(carried.shard.positions[source] for carried in readers)

    async def on_batch(self, message: FetchedMessage) -> None:
        """Take the records of one fetch. Nothing is awaited between the check and the last change of state."""
        fetched = message.fetched
        while self.active and any(c.shard.outbox_bytes > OUTBOX_BYTES_MAX for c in self.carried.values()):
            await self.checkpoint()
        readers = self.readers(message.tp)
        if readers is None or fetched.generation != self.app.consumer_generation_id:
            return
        role = self._roles[message.tp.topic]
        records = restore.as_records(fetched.records)
        chunk = Chunk(role, message.tp.partition, fetched.start, fetched.end, records, fetched.at_end)
        ends = self.ends_seen()
        for carried in readers:
            if not self._take(carried, (chunk,)):
                self.reseeks[message.tp] += 1  # the next fetch will not start at the position, and seek
            elif carried.align(ends):
                await self._hold([carried])

    def _take(self, carried: Carried, chunks: tuple[Chunk, ...]) -> bool:
        try:
            return carried.take(chunks)
        except Exception as error:  # a stage must never raise: its state may be half changed
            log.exception("%s failed", carried.shard.name)
            self.fail(error)
            return True

    # ---- checkpoints ----------------------------------------------------------------------------------------------

    async def checkpoint(self, whole: bool = False) -> bool:
        """Write what is pending in every shard; whether anything is carried at all."""
        carried = dict(self.carried)
        wrote = await asyncio.gather(*(self._checkpoint(key, c, whole) for key, c in carried.items()))
        self._busy = sum(wrote)
        self._wrote_at = monotonic()
        if self.active and monotonic() - self._advised_at >= ADVISORY_S:
            self._advised_at = monotonic()
            positions = {tp: self.position(tp) for tp in self.app.consumer.assignment()}
            await self.app.consumer._thread.call_thread(
                self.app.consumer._thread.commit_advisory, {tp: n for tp, n in positions.items() if n is not None}
            )
        return bool(carried)

    async def due_checkpoint(self) -> bool:
        """A checkpoint by the clock: the more shards are busy, the longer the interval, for each is a transaction."""
        interval = float(self.config.engine.checkpoint) * max(1.0, self._busy / BUSY_SHARDS)
        early = monotonic() - self._wrote_at < 0.9 * interval
        return False if early else await self.checkpoint()

    async def _checkpoint(self, key: tuple[str, int], carried: Carried, whole: bool) -> bool:
        try:
            return await carried.checkpoint(whole)
        except FencedError:
            log.warning("%s: fenced, somebody else owns it now", carried.shard.name)
            if self.carried.get(key) is carried:
                del self.carried[key]
                self._fenced_at = monotonic()
            await carried.stop()
        except (KafkaError, CommitUnknownError) as error:
            log.error("%s: checkpoint failed: %r", carried.shard.name, error)
            self.fail(error)
        return False

    # ---- rebalances -----------------------------------------------------------------------------------------------

    async def revoke(self) -> None:
        """Partitions may go elsewhere: stop taking, write what is pending. States are kept in case they come back."""
        self.active = False
        self._epoch += 1
        self._generation = self.app.consumer_generation_id
        try:
            await asyncio.wait_for(self._settle(), 0.3 * self.app.conf.broker_rebalance_timeout)
        except TimeoutError:
            log.warning("checkpoints were not written in time for the rebalance; the shards will be restored")
            await self._release(list(self.carried))

    async def _settle(self) -> None:
        """Let nothing be under way that could reach a log after the group has met: a checkpoint, or a restore that
        fences owners, for those that come then may be others.

        Every shard writes, if only that it is here. A worker that thawed in the midst of a restore may have fenced one
        that has had nothing to say since; it joins the group again then, and here is where this is found out.
        """
        for carried in self.carried.values() if not self._closing else ():
            carried.shard.hurry()
        await self.checkpoint()
        await self._restorer.fencing.over()

    async def restore(self, *_: Any, **__: Any) -> None:
        """Faust has the new assignment and waits for us before it seeks and lets records flow. One after the other: its
        recovery is one task."""
        epoch, generation = self._epoch, self.app.consumer_generation_id
        self._fenced_at = None  # who is fenced from here on is missed until the group meets again
        start = perf_counter()
        try:
            if self._overtaken(epoch, generation):
                return
            ours = self._partitions()
            if generation != self._generation + 1:
                await self._release(list(self.carried))
            await self._release([key for key in self.carried if key[1] not in ours])
            whole = {p for p in ours if all((stage, p) in self.carried for stage in self.stages)}
            await self._release([key for key in self.carried if key[1] not in whole])
            missing = sorted(ours - whole)
            if self._overtaken(epoch, generation):
                return
            found = await asyncio.gather(*(self._restorer.bring_back(p) for p in missing))
            if self._overtaken(epoch, generation):
                await asyncio.gather(*(c.stop() for carried in found for c in carried))
                return
            if not all(found):
                self._fenced_at = monotonic()
            self.carried |= {(c.shard.stage, c.shard.partition): c for carried in found for c in carried}
            await self._broadcast.rewind()
            sources = {source for one in self.carried.values() for source in one.shard.positions}
            ends = (await restore.bounds(self.config, self.clients, sources))[1]
            if self._overtaken(epoch, generation):
                return  # what is here now belongs to the restore that came after
            self._ready(sorted(ours), ends, perf_counter() - start)
        except (Exception, asyncio.CancelledError) as error:  # Faust would only log it, and wait for ever
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and (task is None or task.cancelling()):
                raise  # we are told to end; clients that are closed let out the cancelling of their own tasks, too
            if not isinstance(error, (TidegateError, KafkaError, CommitUnknownError)):
                log.exception("restore failed")
            self.fail(error)

    def _overtaken(self, epoch: int, generation: int) -> bool:
        """Whether a restore must not begin or go on: the group meets again (and was told of by `revoke`, perhaps before
        the restore began), or has met, or the worker ends."""
        revoked = generation == self._generation
        overtaken = revoked or epoch != self._epoch or generation != self.app.consumer_generation_id
        if overtaken:
            log.info("rebalanced again, or ended, while restoring")
        return overtaken

    def _ready(self, ours: list[int], ends: Mapping[Source, int], seconds: float) -> None:
        self.active = True
        self.rebalances += 1
        for carried in self.carried.values():
            silent = [
                (s, at) for s, at in carried.shard.positions.items() if at >= ends[s] and s not in carried.shard.at_end
            ]
            self._take(carried, tuple(Chunk(name, p, at, at, [], True) for (name, p), at in sorted(silent)))
        log.info("ready: partitions %s, %d shards, restored in %.2f s", ours, len(self.carried), seconds)

    def _partitions(self) -> set[int]:
        """Partitions of which every topic is ours; the assignor gives all of one number to one worker."""
        assigned = self.app.consumer.assignment()
        count = Counter(tp.partition for tp in assigned if tp.topic in self._roles)
        return {partition for partition, n in count.items() if n == len(self._roles)}

    async def _release(self, keys: list[tuple[str, int]]) -> None:
        gone = [self.carried.pop(key) for key in keys]
        await asyncio.gather(*(carried.stop() for carried in gone))

    # ---- the worker's life ----------------------------------------------------------------------------------------

    async def tick(self) -> None:
        """Once a second: clocks for silent shards, inputs to hold, figures, and a look at what should not happen."""
        ends = self.ends_seen()
        if self.active:
            for carried in list(self.carried.values()):
                try:
                    carried.tick()
                except Exception as error:
                    log.exception("%s failed", carried.shard.name)
                    self.fail(error)
            await self._hold([c for c in self.carried.values() if c.align(ends)])
        self.publish(ends)
        session = self.app.conf.broker_session_timeout
        if self._fenced_at is not None and monotonic() - self._fenced_at > 3 * session:
            self.fail(TidegateError("a shard was fenced and no rebalance followed; is the same group run elsewhere?"))
        if self.active and self.app.consumer._thread.coordination_ended:
            self.fail(TidegateError("the group's coordination has ended"))

    async def _hold(self, changed: list[Carried]) -> None:
        held: list[TP] = []
        free: list[TP] = []
        for carried in changed:
            for name in self._shared(carried.shard.stage):
                tp = TP(self.config.topics.name(name), carried.shard.partition)
                (held if name in carried.held else free).append(tp)
        if changed:
            thread = self.app.consumer._thread
            await thread.call_thread(thread.hold, held, free)

    def ends_seen(self) -> dict[Source, int]:
        """Ends of inputs as the last fetches told them."""
        if not self.active:
            return {}
        seen = self.app.consumer._thread.ends_seen()
        return {(self._roles[tp.topic], tp.partition): end for tp, end in seen.items() if tp.topic in self._roles}

    async def caught_up(self) -> bool:
        """Every shared input has been read to its end, as the broker tells it now."""
        if not self.active or not self.carried:
            return False
        thread = self.app.consumer._thread
        ends: Mapping[TP, int] = await thread.call_thread(thread.ends)
        return all((self.position(tp) or 0) >= end for tp, end in ends.items())

    def publish(self, ends: Mapping[Source, int]) -> None:
        """Hand the figures of now to Prometheus."""
        reseeks: Counter[tuple[str, int]] = Counter()
        for tp, n in self.reseeks.items():
            for stage in self.stages:
                if self._roles[tp.topic] in STAGE_INPUTS[stage]:
                    reseeks[stage, tp.partition] += n
        shards = [c.figures(ends, reseeks[key]) for key, c in self.carried.items()]
        count = Counter(stage for stage, _ in self.carried)
        worker = {"ready": self.active, "shards": count, "rebalances": self.rebalances, "silent_s": self.silent_s}
        worker["deleted_unread"] = self.fault.records if isinstance(self.fault, GoneError) else 0
        self._figures.publish(shards, worker)

    async def broadcast(self) -> None:
        """The task that feeds snapshots to score."""
        try:
            await self._broadcast.run()
        except TidegateError as error:
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Processing must not go on: nothing more is taken or written, and the worker ends."""
        self.active = False
        self._epoch += 1
        self._void += self.carried.values()
        self.carried.clear()
        if self.fault is None:
            self.fault = error
            self.publish({})
            self.app.give_up()

    async def close(self) -> None:
        """The last checkpoint, with whole states, so that the next owner has nothing to replay."""
        self.active, self._closing = False, True
        self._epoch += 1
        await self.checkpoint(whole=True)
        await self._release(list(self.carried))
        await asyncio.gather(*(carried.stop() for carried in self._void))
        await self._broadcast.stop()
