"""Workers and their group: the real engine, consumer rules, writer and restore code, in simulated processes.

Owns what Faust and Kafka's group protocol do around the engine: who is a member, who has which partitions, in what
order a rebalance goes. `Reader` borrows the methods of the real `BatchConsumer` that decide. Refuses to know stages.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, Final

import msgspec
from aiokafka.errors import KafkaError
from faust.types import TP

from stream import codec
from stream.config import Config
from stream.contract import Stage
from stream.errors import StateError
from stream.runtime.journal import Entry
from stream.runtime.kafka.carried import Carried
from stream.runtime.kafka.consumer import BatchConsumer, Fetched
from stream.runtime.kafka.engine import Engine
from stream.runtime.kafka.restorer import Restorer
from stream.runtime.kafka.writer import CommitUnknownError
from stream.runtime.stages import Secrets, stages_of
from stream.sections import sections_of, together
from stream.stages.join import REST
from tests.simulation.broker import Broker, Clients, Consumer
from tests.simulation.clock import Process

SECRETS: Final = Secrets(b"0123456789abcdef0123456789abcdef", "simulated")
SESSION_S: Final = 6.0
REBALANCE_S: Final = 10.0
GROUP: Final = "simulated"


class Figures:
    """Nobody looks at Prometheus here."""

    def publish(self, shards: Any, engine: Any) -> None: ...


class SimulatedRestorer(Restorer):
    """The real one; `watch` inspects every stage it makes, and hears of every shard that it brings back."""

    def __init__(self, watch: Any, *args: Any) -> None:
        super().__init__(*args)
        self._watch = watch
        self.refused_since = 0.0
        """When the reading began of what was then refused."""
        self.began: dict[int, float] = {}
        """When each partition was last begun to be brought back."""

    def _machine(self, stage: str, partition: int) -> Stage:
        made: Stage = self._watch.inspect(super()._machine(stage, partition), stage, partition)
        return made

    async def bring_back(self, partition: int) -> list[Carried]:
        since = self.began[partition] = asyncio.get_running_loop().time()
        try:
            return await super().bring_back(partition)
        except StateError:
            self.refused_since = since
            raise

    async def _bring_one_back(self, carried: Carried, entries: list[Entry]) -> None:
        await super()._bring_one_back(carried, entries)
        self._watch.restored(self, carried)


class Reader:
    """The consumer of one worker: `BatchConsumer` with the broker in memory beneath it."""

    should_stop = False
    getmany = BatchConsumer.getmany
    seek_to_committed = BatchConsumer.seek_to_committed
    _seek_again = BatchConsumer._seek_again
    _message = BatchConsumer._message

    def __init__(self, app: App, restorer: SimulatedRestorer, broker: Broker, process: Process) -> None:
        self.app = app
        self.restorer = restorer
        self.broker = broker
        self.process = process
        self.flow_active = False
        self.owned: list[TP] = []
        self.at: dict[TP, int] = {}
        self.taken: dict[TP, int] = {}
        self.held: set[TP] = set()
        self.seen: dict[TP, int] = {}
        self._thread = self
        self.coordination_ended = False

    def assignment(self) -> list[TP]:
        return self.owned

    async def _wait_next_records(self, wait_s: float) -> tuple[dict[TP, Fetched], None]:
        """One fetch: a few records of some partitions, with the positions and the generation of the taking."""
        await self.process.effect()
        taken: dict[TP, Fetched] = {}
        chance = self.process.chance
        for tp in chance.sample(self.owned, len(self.owned)) if self.flow_active else ():
            if tp in self.held or tp not in self.at or chance.random() < 0.3:
                continue
            log = self.broker.at(tp.topic, tp.partition)
            start = self.at[tp]
            try:
                await Consumer(self.broker).need(tp, start)
            except StateError:
                self.restorer.refused_since = asyncio.get_running_loop().time()
                raise
            records, end = log.read(start, chance.choice((3, 20, 200)))
            self.seen[tp] = log.stable
            if end > start:
                self.at[tp], self.taken[tp] = end, start
                taken[tp] = Fetched(start, end, self.app.consumer_generation_id, end >= log.stable, records)
        if taken:
            await self.process.effect()  # a rebalance may come between taking and handing over
        else:
            await asyncio.sleep(wait_s)
        return taken, None

    async def perform_seek(self) -> None: ...

    async def seek(self, tp: TP, position: int) -> None:
        self.at[tp] = position

    async def seek_wait(self, positions: Mapping[TP, int]) -> None:
        self.at = dict(positions)

    async def call_thread(self, work: Any, *args: Any) -> Any:
        return await work(*args)

    async def commit_advisory(self, offsets: Mapping[TP, int]) -> None: ...

    async def hold(self, held: list[TP], released: list[TP]) -> None:
        self.held = (self.held | set(held)) - set(released)
        if held:
            self.broker.note("held")

    def ends_seen(self) -> dict[TP, int]:
        return self.seen


class App:
    """What the engine asks of Faust's app."""

    def __init__(
        self,
        engine: Engine,
        restorer: SimulatedRestorer,
        broker: Broker,
        process: Process,
        give_up: Callable[[], None],
    ) -> None:
        self.owner = engine
        self.consumer_generation_id = -1
        self.consumer = Reader(self, restorer, broker, process)
        self.conf = SimpleNamespace(broker_rebalance_timeout=REBALANCE_S, broker_session_timeout=SESSION_S)
        self.give_up = give_up


class Worker:
    """One worker from start to end. `ended` is set when its process is gone, `fault` says why if not in order."""

    def __init__(
        self, name: str, config: Config, broker: Broker, chance: random.Random, lag: float, watch: Any
    ) -> None:
        self.process = Process(name, chance, lag)
        self.config = config
        clients: Any = Clients(broker)
        stages = stages_of(config)
        self.restorer = SimulatedRestorer(watch, config, clients, GROUP, stages, SECRETS)
        self.engine = Engine(config, clients, stages, self.restorer, Figures())  # type: ignore[arg-type]
        self.app = App(self.engine, self.restorer, broker, self.process, self._give_up)
        self.engine.app = self.app
        self.ended = False
        self.leaving = False
        self.fault: BaseException | None = None
        self._restoring: asyncio.Task[Any] | None = None

    @property
    def responsive(self) -> bool:
        return not (self.process.dead or self.process.frozen or self.ended or self.leaving)

    def start(self) -> None:
        for work in (self._fetching, self._ticking, self._committing, self.engine.broadcast):
            self.process.spawn(self._guarded(work))

    async def _guarded(self, work: Callable[[], Any]) -> None:
        try:
            await work()
        except Exception as error:  # a service that fails ends its worker, as Faust's do
            self.end(error)

    async def _fetching(self) -> None:
        reader = self.app.consumer
        while True:
            async for _, message in reader.getmany(0.2):
                await self.engine.on_batch(message)
            if not reader.flow_active:
                await asyncio.sleep(0.1)

    async def _ticking(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            await self.process.effect()
            await self.engine.tick()

    async def _committing(self) -> None:
        while True:
            await asyncio.sleep(float(self.config.engine.checkpoint))
            await self.process.effect()
            await self.engine.due_checkpoint()

    def _give_up(self) -> None:
        """The engine cannot go on: end in order, with the fault."""
        self.process.spawn(self._guarded(self.stop))

    async def stop(self) -> None:
        """As on SIGTERM: the last checkpoint while still a member, then away."""
        self.leaving = True
        self.app.consumer.flow_active = False
        await self.engine.close()
        self.end(self.engine.fault)

    def end(self, fault: BaseException | None = None) -> None:
        if not self.ended:
            self.fault = self.engine.fault or fault
            self.ended = True
            self.process.kill()

    async def revoke(self) -> None:
        self.app.consumer.flow_active = False
        await self.process.effect()
        await self.engine.revoke()

    def assign(self, generation: int, partitions: list[int]) -> None:
        """The group has met: take these partitions of every topic, and restore what they hold."""
        self.app.consumer_generation_id = generation
        self.app.consumer.owned = [TP(topic, p) for topic in self.engine.topics for p in partitions]
        self.app.consumer.at = {}
        self.app.consumer.held = set()  # what was paused belongs to the assignment before
        before = self._restoring
        self._restoring = self.process.spawn(self._guarded(lambda: self._restore(generation, before)))

    async def _restore(self, generation: int, before: asyncio.Task[Any] | None) -> None:
        """One after the other, however late the one before is, as Faust's recovery does."""
        if before is not None:
            await asyncio.wait([before])
        await self.process.effect()
        await self.engine.restore()
        if generation == self.app.consumer_generation_id and self.engine.active:
            await self.app.consumer.seek_to_committed()
            self.app.consumer.flow_active = True


class Group:
    """The coordinator: one rebalance after the other, as members come and go. A member that does not answer is out."""

    def __init__(self, partitions: int, chance: random.Random) -> None:
        self.partitions = partitions
        self.chance = chance
        self.members: list[Worker] = []
        self.generation = 0
        self.owners: dict[int, str] = {}
        self._wanted = asyncio.Event()

    def join(self, worker: Worker) -> None:
        if worker not in self.members:
            self.members.append(worker)
        self._wanted.set()

    def leave(self, worker: Worker) -> None:
        if worker in self.members:
            self.members.remove(worker)
            self._wanted.set()

    async def run(self) -> None:
        while True:
            await self._wanted.wait()
            await asyncio.sleep(self.chance.uniform(0.05, 0.5))  # the group waits for others who may come
            self._wanted.clear()
            called = [member for member in self.members if member.responsive]
            met = [member.process.spawn(self._called(member)) for member in called]
            if met:
                await asyncio.wait(met, timeout=REBALANCE_S)
            self.generation += 1
            present = [m for m, task in zip(called, met, strict=True) if task.done() and m.responsive]
            self.members = [member for member in self.members if member in present or member not in called]
            self._share_out(present)

    async def _called(self, member: Worker) -> None:
        await member._guarded(member.revoke)

    def _share_out(self, present: list[Worker]) -> None:
        """Partitions stay with who has them where that is fair."""
        if not present:
            return
        most = -(-self.partitions // len(present))
        shares: dict[str, list[int]] = {member.process.name: [] for member in present}
        homeless = []
        for partition in range(self.partitions):
            owner = self.owners.get(partition)
            if owner in shares and len(shares[owner]) < most:
                shares[owner].append(partition)
            else:
                homeless.append(partition)
        for partition in homeless:
            self.chance.choice([share for share in shares.values() if len(share) < most]).append(partition)
        self.owners = {p: name for name, share in shares.items() for p in share}
        for member in present:
            member.assign(self.generation, shares[member.process.name])


def is_known(fault: BaseException | None) -> bool:
    """Whether a worker may end so when the broker fails it."""
    return fault is None or isinstance(fault, (KafkaError, CommitUnknownError))


def state_digest(stage: Stage) -> str:
    """Identity of a state. Of a join without `settled`, which a restored one may hold at a lower value: what is placed
    already and only waits to be dropped from the agenda is not written down, and does not move it on."""
    sections = {name: payload or b"" for name, payload in sections_of(stage).items()}
    if REST in sections:
        rest = msgspec.msgpack.decode(sections[REST])
        rest["matcher"].pop("settled")
        sections[REST] = msgspec.msgpack.encode(rest)
    return codec.digest(together(sections))
