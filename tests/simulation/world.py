"""One simulated run from its seed: producers, workers, faults, then calm, until everything is read and all have ended.

Owns the course of a run and what is noted of it for `checks`; refuses to judge.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, NamedTuple

from stream.contract import ALERTS, DECISIONS, JOURNAL, SNAPSHOTS, STAGE_INPUTS, WINDOWS, Stage
from stream.runtime.kafka.carried import TICK_S
from stream.runtime.kafka.clients import GoneError
from stream.runtime.shard import TICKS_HELD_MAX
from stream.runtime.stages import stages_of
from stream.sections import sections_of
from tests.simulation import checks, faults
from tests.simulation.broker import Broker, Partition
from tests.simulation.clock import Process, StuckError, VirtualLoop, virtual
from tests.simulation.damage import Damage
from tests.simulation.faults import Fault
from tests.simulation.worker import SESSION_S, Group, Worker, is_known, state_digest
from tests.simulation.workload import Plan, Sent, ending, plan

CATCH_UP_S: Final = 90.0
"""Virtual seconds after the last fault by which every input must have been read: several sessions, and more than the
three after which a worker that was fenced in vain gives up."""

NOTICED_S: Final = TICKS_HELD_MAX * TICK_S
"""A shard in which nothing happens writes as seldom, and does not know before that it is fenced."""

LOOK_S: Final = 0.5
RESTART_S: Final = 1.0
"""After which a worker that has ended is started again, as a supervisor does."""


class Recovered(NamedTuple):
    """A shard that was brought back: where it then stood, and a digest of its state."""

    shard: str
    sequence: int
    digest: str


class Inspected:
    """A stage under watch: its progress must never go back, and its ledger must balance after every batch."""

    def __init__(self, stage: Stage, name: str, findings: list[str]) -> None:
        self.stage = stage
        self._name = name
        self._findings = findings
        self._through = float("-inf")

    def process(self, batch: Any) -> list[Any]:
        outputs = self.stage.process(batch)
        watermark = getattr(self.stage, "watermark", None)
        if watermark is not None:
            through = watermark.through()
            if through < self._through:
                self._findings.append(f"{self._name}: the watermark went back from {self._through} to {through}")
            self._through = through
        return outputs

    def snapshot(self) -> bytes:
        return self.stage.snapshot()

    def sections(self, known: Collection[str]) -> dict[str, bytes | None]:
        return sections_of(self.stage, known)

    def restore(self, state: bytes) -> None:
        self.stage.restore(state)

    def figures(self) -> dict[str, Any]:
        return self.stage.figures()


class World:
    """Everything of one run. `findings` are what is wrong as far as it can be seen on the way."""

    def __init__(self, seed: int, planned: Plan, schedule: list[Fault]) -> None:
        self.seed = seed
        self.plan = planned
        self.schedule = schedule
        self.chance = random.Random(f"world {seed}")
        self.partitions = planned.config.topics.partitions
        self.broker = Broker(random.Random(f"broker {seed}"))
        self.group = Group(self.partitions, random.Random(f"group {seed}"))
        self.damage = Damage(self)
        self.workers: list[Worker] = []
        self.count = 0
        self.findings: list[str] = []
        self.recovered: list[Recovered] = []
        self.restarting = True
        self.lag = self.chance.choice((0.0, 0.01, 0.05))

    # ---- logs -----------------------------------------------------------------------------------------------------

    def log(self, role: str, partition: int) -> Partition:
        return self.broker.at(self.plan.config.topics.name(role), partition)

    def journal(self, partition: int) -> Partition:
        return self.log(JOURNAL, partition)

    def send(self, sent: Sent) -> None:
        stored = (round(sent.timestamp_s * 1000), sent.key, sent.value)
        self.log(sent.topic, sent.partition).append(stored, None, self.broker.now())

    # ---- workers --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self.count += 1
        name = f"w{self.count}"
        chance = random.Random(f"worker {self.seed} {name}")
        worker = Worker(name, self.plan.config, self.broker, chance, self.lag, self)
        self.workers.append(worker)
        worker.start()
        self.group.join(worker)

    def restart(self) -> None:
        """One for one that has ended, unless all have been stopped meanwhile."""
        if self.restarting:
            self.start()

    def stop(self, worker: Worker) -> None:
        self.broker.note("stopped in order")
        worker.process.spawn(worker._guarded(worker.stop))

    def freeze(self, worker: Worker, seconds: float) -> None:
        self.broker.note("frozen")
        worker.process.freeze()
        if seconds > SESSION_S:
            self.later(SESSION_S, lambda: self.group.leave(worker))
        self.later(seconds, lambda: self.thaw(worker))

    def thaw(self, worker: Worker) -> None:
        """It goes on where it stood, and learns only later that it is no member any more, or that the group has met
        without it."""
        worker.process.thaw()
        if worker not in self.group.members or worker.app.consumer_generation_id != self.group.generation:
            self.later(self.chance.uniform(0.0, 2.0), lambda: None if worker.ended else self.group.join(worker))

    def clear_up(self) -> None:
        """A storm is over."""
        self.broker.failing = 0.0

    def calm(self) -> None:
        """No more faults, nor those that were to come."""
        self.clear_up()
        for worker in self.workers:
            worker.process.crash_in = None

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(seconds, act)

    def inspect(self, stage: Stage, name: str, partition: int) -> Stage:
        return Inspected(stage, f"{name}/{partition}", self.findings)

    def restored(self, restorer: Any, carried: Any) -> None:
        shard = carried.shard
        self.recovered.append(Recovered(shard.name, shard.sequence, state_digest(shard.machine)))
        self.damage.survived(shard, restorer.began[shard.partition])

    async def supervise(self) -> None:
        """Whoever has ended is taken out of the group, and replaced."""
        while True:
            await asyncio.sleep(0.25)
            for worker in list(self.workers):
                gone = worker.ended or worker.process.dead
                if not gone:
                    continue
                self.workers.remove(worker)
                self.note_end(worker)
                silent = worker.process.dead and not worker.ended
                self.later(SESSION_S if silent else 0.0, lambda worker=worker: self.group.leave(worker))  # type: ignore[misc]
                self.later(RESTART_S, self.restart)

    def note_end(self, worker: Worker) -> None:
        fault = worker.fault
        if not worker.ended:
            self.broker.note("killed")
        elif fault is not None:
            self.broker.note(f"ended by {type(fault).__name__}")
            known = is_known(fault) or self.is_outdated(worker, fault)
            if not known and not self.damage.explains(fault, worker.restorer.refused_since):
                self.findings.append(f"{worker.process.name} ended by {fault!r}")

    def is_outdated(self, worker: Worker, fault: BaseException) -> bool:
        """Whether it asks for what is gone because somebody else has read on in its place: a zombie ends then, before
        it hears that the group has met without it. It can neither lose nor write anything."""
        member = worker in self.group.members and worker.app.consumer_generation_id == self.group.generation
        return isinstance(fault, GoneError) and not member

    # ---- the course of a run --------------------------------------------------------------------------------------

    async def run(self) -> None:
        outside = Process("outside", self.chance)
        outside.spawn(self.group.run())
        outside.spawn(self.supervise())
        for _ in range(self.chance.choice((1, 2, 2, 3))):
            self.start()
        moments: list[tuple[float, int, Any]] = [(sent.at, 0, sent) for sent in self.plan.events]
        moments += [(fault.at, 1, fault) for fault in self.schedule]
        for at, _, what in sorted(moments, key=lambda moment: moment[:2]):
            await asyncio.sleep(max(0.0, at - asyncio.get_running_loop().time()))
            if self.findings:
                return
            if isinstance(what, Fault):
                self.broker.note(what.what)
                faults.FAULTS[what.what](self)
            else:
                self.send(what)
        await self.settle()

    async def settle(self) -> None:
        """Faults are over: everything must be read, and all must end in order."""
        for sent in ending(self.plan.config):
            self.send(sent)
        self.calm()
        if not await self.within(CATCH_UP_S, self.quiet):
            self.findings.append(f"not caught up {CATCH_UP_S:.0f} s after the last fault: {self.waiting()}")
        elif not await self.within(NOTICED_S + CATCH_UP_S, lambda: self.quiet() and not self.fenced()):
            self.findings.append(f"somebody else owns what these think is theirs: {self.fenced()}")
        if self.findings:
            return
        self.restarting = False
        for worker in list(self.workers):
            self.stop(worker)
        if not await self.within(CATCH_UP_S, lambda: not self.workers):
            self.findings.append("a worker did not end when it was asked to")

    async def within(self, seconds: float, done: Callable[[], bool]) -> bool:
        """Let the world go on until something is so, at most for a time, and not after a finding."""
        for _ in range(int(seconds / LOOK_S)):
            if done() or self.findings:
                break
            await asyncio.sleep(LOOK_S)
        return done()

    def quiet(self) -> bool:
        return not self.waiting()

    def waiting(self) -> list[str]:
        """What is not done yet."""
        found = []
        for stage in stages_of(self.plan.config):
            for partition in range(self.partitions):
                owners = [w.engine.carried.get((stage, partition)) for w in self.workers if w.engine.active]
                carried = [owner for owner in owners if owner is not None]
                name = f"{stage}/{partition}"
                if len(carried) != 1:
                    found.append(f"{name} has {len(carried)} owners")
                elif carried[0].void or carried[0].shard.outbox_bytes or carried[0].shard._moved:
                    found.append(f"{name} has not written")
                else:
                    for (role, p), at in carried[0].shard.positions.items():
                        if at < self.log(role, p).end:
                            found.append(f"{name} at {at} of {self.log(role, p).end} in {role}-{p}")
        return found

    def fenced(self) -> list[str]:
        """Shards whose owner does not know yet that a zombie, thawed in the midst of a restore, has fenced it."""
        carried = [c for worker in self.workers for c in worker.engine.carried.values() if worker.engine.active]
        return [c.shard.name for c in carried if self.broker.epochs[c.writer._id] != c.writer._producer._epoch]

    def count_outputs(self) -> None:
        """Note what came out, and what kind of run it was."""
        for role in (ALERTS, DECISIONS, SNAPSHOTS, WINDOWS):
            for partition in range(self.partitions):
                if self.log(role, partition).log:
                    self.broker.note(role)
        self.broker.note("exact" if self.plan.exact else "tight" if self.plan.bounds else "idle")

    @property
    def inputs(self) -> dict[str, tuple[str, ...]]:
        return {stage: STAGE_INPUTS[stage] for stage in stages_of(self.plan.config)}


def simulate(
    seed: int, schedule: list[Fault] | None = None, within: AbstractContextManager[Any] | None = None
) -> World:
    """Run one seed to its end, and judge it: `findings` of the world is all that was wrong. `within` is entered
    meanwhile; it may plant a bug."""
    planned = plan(seed)
    world = World(seed, planned, faults.schedule(seed) if schedule is None else schedule)
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)
    with virtual(planned.bounds), within or nullcontext():
        try:
            try:
                loop.run_until_complete(world.run())
            except StuckError as error:
                world.findings.append(f"stuck: {error}")
            for worker in world.workers:
                worker.process.kill()
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        finally:
            asyncio.set_event_loop(None)
            loop.close()
        world.findings += loop.faults
        world.count_outputs()
        world.damage.heal()
        if not world.findings:
            world.findings += checks.check(world)
    return world
