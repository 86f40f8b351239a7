"""A shard on this worker: the shard itself, its writer, and what it has cost. Decides when a whole state is due.

Refuses to know Faust and rebalances.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from time import monotonic, perf_counter
from typing import Any, Final

from stream.config import Config
from stream.contract import Batch, Chunk
from stream.errors import BugError
from stream.runtime import collector
from stream.runtime.journal import Source
from stream.runtime.kafka.alignment import Alignment
from stream.runtime.kafka.writer import Writer
from stream.runtime.metrics import Histogram, ShardFigures
from stream.runtime.shard import Shard

STATE_SHARE_MAX: Final = 0.05
"""Share of a shard's time that whole states may take: a large one is written more seldom."""

TICK_S: Final = 1.0


class Carried:
    """One shard, its writer and its figures."""

    def __init__(self, shard: Shard, writer: Writer, config: Config) -> None:
        self.shard = shard
        self.writer = writer
        self.void = False
        self._lock = asyncio.Lock()
        self._writing: set[asyncio.Task[bool]] = set()
        self._fault: BaseException | None = None
        self.alignment = Alignment(config.engine.slack)
        self.held: tuple[str, ...] = ()
        self.batch_s = Histogram()
        self.restore_s = 0.0
        self.replayed = 0
        self.state_bytes = 0
        self._interval_s = float(config.engine.snapshot)
        self._state_cost_s = 0.0
        self._state_at = monotonic()
        self._taken_at = 0.0

    def take(self, chunks: tuple[Chunk, ...]) -> bool:
        """Process what of the chunks is new; False if something is missing before them."""
        fitting = tuple(c for c in map(self.shard.trimmed, chunks) if c is not None)
        if not fitting and chunks:
            return True
        batch = Batch(time.time(), fitting)
        if self.shard.gap(batch) is not None:
            return False
        start = perf_counter()
        with collector.paused():  # a collection in the middle of a batch costs a third of its time
            if self.shard.accept(batch) is not None:
                raise BugError(f"{self.shard.name}: a batch without a gap was refused")
        self.batch_s.observe(perf_counter() - start)
        self._taken_at = monotonic()
        return True

    def tick(self) -> None:
        """Let the stage know the time, if nothing else has."""
        if monotonic() - self._taken_at >= TICK_S:
            self.take(())

    async def checkpoint(self, whole: bool = False) -> bool:
        """Write what happened since the last checkpoint, and the whole state if it is due or asked for; whether there
        was anything to write.

        Raises what the writer raises; the shard is then void, and whoever asks again hears the same. Whoever waits may
        be cancelled; the writing goes on until `stop`.
        """
        writing = asyncio.ensure_future(self._checkpoint(whole))
        self._writing.add(writing)
        writing.add_done_callback(self._written)
        await asyncio.wait([writing])
        return False if writing.cancelled() else writing.result()

    def _written(self, writing: asyncio.Task[bool]) -> None:
        """If nobody waits any more, `_fault` has what it ended with."""
        self._writing.discard(writing)
        if not writing.cancelled():
            writing.exception()

    async def stop(self) -> None:
        """Give the shard up: a checkpoint that is being written is broken off, for its producer goes, and the next
        owner reads whether it counts."""
        self.void = True
        broken_off = list(self._writing)
        for writing in broken_off:
            writing.cancel()
        await asyncio.gather(*broken_off, return_exceptions=True)
        await self.writer.stop()

    async def _checkpoint(self, whole: bool) -> bool:
        async with self._lock:
            if self._fault is not None:
                raise self._fault
            if self.void:
                return False
            start = perf_counter()
            due = monotonic() - self._state_at >= max(self._interval_s, self._state_cost_s / STATE_SHARE_MAX)
            point = self.shard.checkpoint(whole or self.shard.state_due or (self.shard.stale and due))
            if point is None:
                return False
            if point.whole is not None:
                self._state_cost_s = perf_counter() - start
                self._state_at = monotonic()
                self.state_bytes = point.whole.manifest.size
            self.void = True  # until it is written: what the shard has handed over exists nowhere else
            try:
                await self.writer.write(point.writes(self.shard.partition))
            except Exception as error:
                self._fault = error
                raise
            self.void = False
            return True

    def figures(self, ends: Mapping[Source, int], reseeks: int) -> ShardFigures:
        """What Prometheus sees of the shard."""
        shard = self.shard
        own = shard.machine.figures()
        names = {name for name, _ in shard.positions}
        progress = own.get("progress") or {}
        runtime: dict[str, Any] = {
            "inputs": {name: {"records": shard.records[name], "lag": self.lag(name, ends)} for name in sorted(names)},
            "outputs": dict(shard.sent),
            "batch_s": self.batch_s.figures(),
            "checkpoint_s": self.writer.seconds.figures(),
            "transactions": dict(self.writer.results),
            "checkpoint_bytes": self.writer.bytes,
            "state_bytes": self.state_bytes,
            "restore_s": self.restore_s,
            "replayed": self.replayed,
            "reseeks": reseeks,
            "held": len(self.held),
            "event_time_lag_s": {
                name: written - progress[name]
                for name, written in sorted(shard.written_s.items())
                if isinstance(progress.get(name), float)
            },
        }
        return ShardFigures(shard.stage, shard.partition, own, runtime)

    def lag(self, name: str, ends: Mapping[Source, int]) -> int:
        """Records of an input that wait, in all its partitions that the shard reads."""
        at = self.shard.positions
        return sum(max(0, ends.get(source, at[source]) - at[source]) for source in at if source[0] == name)

    def align(self, ends: Mapping[Source, int]) -> bool:
        """Find out which inputs to hold; True if that has changed."""
        if self.shard.stage != "join":
            return False
        told = self.shard.machine.figures().get("progress") or {}
        progress = {name: float("-inf") if told.get(name) is None else told[name] for name, _ in self.shard.positions}
        lag = {name: self.lag(name, ends) for name in progress}
        held = self.alignment.held(progress, self.shard.records, lag)
        changed, self.held = held != self.held, held
        return changed
