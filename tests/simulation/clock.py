"""An event loop whose time is virtual, and the processes that live in it.

Owns when things happen: a run of minutes takes as long as its work, and the same seed gives the same order of events.
Refuses to know what happens.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from types import SimpleNamespace
from typing import Any, Final

import pytest

START_S: Final = 1_700_000_000.0
"""Event time of the first event, epoch seconds."""

TODAY_S: Final = START_S + 300_000.0
"""What clocks show when a run begins: the events are of the past, so that an hour of them fits in seconds."""


STEPS_MAX: Final = 50_000
"""Turns of the loop in one moment; a thousand are many."""


class StuckError(Exception):
    """Nothing is left that could happen, or something goes on for ever while time stands still."""


class VirtualLoop(asyncio.BaseEventLoop):
    """Where asyncio would wait, time jumps to what is next."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._steps = 0
        self._selector = self
        self._clock_resolution = 1e-6
        self.faults: list[str] = []
        self.set_exception_handler(self._fault)
        self.set_task_factory(_owned)

    def time(self) -> float:
        return self._now

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise StuckError("nothing is left that could happen")
        self._steps = 0 if timeout else self._steps + 1
        if self._steps > STEPS_MAX:
            self._steps = 0
            raise StuckError(f"{STEPS_MAX:,} turns of the loop, and no time has passed")
        self._now += timeout
        return []

    def _process_events(self, events: list[Any]) -> None: ...

    def _write_to_self(self) -> None: ...

    def _fault(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.faults.append(f"{context.get('message')}: {context.get('exception')!r}")


class Process:
    """What lives and dies together: its tasks, its clock, its fate. `lag` says how long an effect may take."""

    def __init__(self, name: str, chance: random.Random, lag: float = 0.0) -> None:
        self.name = name
        self.chance = chance
        self.lag = lag
        self.dead = False
        self.frozen = False
        self.stopped_clock: float | None = None
        self.clock_offset = 0.0
        self.crash_in: int | None = None
        self.effects = 0
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self._thawed = asyncio.Event()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task of this process; so are all tasks that it starts."""
        context = copy_context()
        context.run(PROCESS.set, self)
        task: asyncio.Task[Any] = asyncio.get_running_loop().create_task(work, context=context)
        return task

    async def effect(self) -> None:
        """The moment before an effect in the world: here a process may be late, frozen, or dead."""
        self.effects += 1
        if self.crash_in is not None and not self.dead:
            self.crash_in -= 1
            if self.crash_in < 0:
                self.kill()
        if self.lag and self.chance.random() < 0.2:
            await asyncio.sleep(self.chance.expovariate(1.0) * self.lag)
        while self.frozen and not self.dead:
            await self._thawed.wait()
        if self.dead:
            raise asyncio.CancelledError

    def freeze(self) -> None:
        self.frozen = True
        self._thawed.clear()

    def thaw(self) -> None:
        self.frozen = False
        self._thawed.set()

    def kill(self) -> None:
        """As kill -9 does: nothing more of it reaches the world."""
        self.dead = True
        self._thawed.set()
        for task in list(self.tasks):
            task.cancel()

    def wall(self) -> float:
        """What this process takes for the time of day."""
        if self.stopped_clock is not None:
            return self.stopped_clock
        return TODAY_S + asyncio.get_running_loop().time() + self.clock_offset


PROCESS: ContextVar[Process] = ContextVar("process")


def _owned(loop: asyncio.AbstractEventLoop, work: Any, **more: Any) -> asyncio.Task[Any]:
    """A task remembers its process from the start, so that it can be killed with it."""
    task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **more)
    context = more.get("context")
    process = context.get(PROCESS) if context is not None else PROCESS.get(None)
    if process is not None:
        process.tasks[task] = None
        task.add_done_callback(lambda done: process.tasks.pop(done, None))
    return task


def monotonic() -> float:
    return asyncio.get_running_loop().time()


SMALL: Final = {
    "stream.runtime.kafka.alignment.HOLD_RECORDS": 12,
    "stream.runtime.kafka.engine.OUTBOX_BYTES_MAX": 20_000,
    "stream.runtime.kafka.restore.LOOK_BACK": 8,
    "stream.runtime.shard.TICKS_HELD_MAX": 7,
    "stream.runtime.shard.BATCHES_PER_STATE_MAX": 60,
    "stream.runtime.journal.RING": 32,
    "stream.runtime.journal.STATE_PART_BYTES": 6_000,
    "stream.joining.segments.SEGMENT": 16,
    "stream.limits.ROWS_PER_CHUNK": 16,
}
"""Bounds so low that a few hundred events reach them: inputs are held, outboxes are full, the ring of the journal comes
round, states travel in parts, most pending predictions stand in closed segments, and manifests are looked for in
several steps back."""


@contextmanager
def virtual(bounds: Mapping[str, int]) -> Iterator[pytest.MonkeyPatch]:
    """The engine's clocks are those of the loop while this lasts, and its bounds are small."""
    with pytest.MonkeyPatch.context() as patch:
        kafka = "stream.runtime.kafka"
        for module in ("carried", "engine"):
            patch.setattr(f"{kafka}.{module}.monotonic", monotonic)
            patch.setattr(f"{kafka}.{module}.perf_counter", monotonic)
        patch.setattr(f"{kafka}.carried.time", SimpleNamespace(time=lambda: PROCESS.get().wall()))
        patch.setattr(f"{kafka}.broadcast.time", SimpleNamespace(monotonic=monotonic))
        for name, bound in (SMALL | bounds).items():
            patch.setattr(name, bound)
        yield patch
