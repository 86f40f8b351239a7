"""One worker and one moment of a rebalance, where the runs of all seeds seldom come by."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaError

from stream.runtime.kafka.writer import Writer
from tests.simulation.broker import Broker
from tests.simulation.clock import Process, VirtualLoop, virtual
from tests.simulation.worker import Worker
from tests.simulation.workload import plan


@pytest.mark.parametrize("revoked", (False, True))
def test_a_restore_that_begins_after_its_partitions_were_revoked_fences_nobody(revoked: bool) -> None:
    """F50. The group may have given them to others since, whom it would fence, and nobody would call them back."""
    broker = Broker(random.Random(1))

    async def restored_late() -> None:
        worker = alone(broker)
        if revoked:
            worker.app.consumer_generation_id = 1
            await worker.process.spawn(worker.revoke())
        worker.assign(1, [0])
        await asyncio.sleep(1.0)
        worker.process.kill()

    run(restored_late())
    assert (broker.epochs == {}) == revoked


@pytest.mark.parametrize("seed", range(8))
def test_of_two_restores_at_a_time_the_later_has_the_last_word(seed: int) -> None:
    """F50. The first comes late, when the group has met again; what it fences must not be the second's."""
    broker = Broker(random.Random(seed))

    async def twice() -> None:
        worker = alone(broker, seed)
        worker.process.lag = 1.0
        worker.assign(1, [0])
        await asyncio.sleep(0.1)
        worker.assign(2, [0])
        await asyncio.sleep(60.0)
        epochs = {c.writer._id: c.writer._producer._epoch for c in worker.engine.carried.values()}
        assert epochs == broker.epochs
        worker.process.kill()

    run(twice())


def test_whom_a_zombie_has_fenced_learns_it_when_the_group_meets() -> None:
    """F50. It may have had nothing to write since: it would go on after the meeting, and nobody would call it back."""
    broker = Broker(random.Random(1))

    async def fenced() -> None:
        worker = alone(broker)
        worker.assign(1, [0])
        await asyncio.sleep(10.0)
        assert await worker.process.spawn(worker.engine.checkpoint(whole=True))
        broker.fence("simulated-watch-0")
        await worker.process.spawn(worker.revoke())
        assert {stage for stage, _ in worker.engine.carried} == {"score", "join", "learn"}
        worker.assign(2, [0])
        await asyncio.sleep(10.0)
        epochs = {c.writer._id: c.writer._producer._epoch for c in worker.engine.carried.values()}
        assert epochs == broker.epochs and len(epochs) == len(worker.engine.stages)
        worker.process.kill()

    run(fenced())


def test_who_has_fenced_only_a_part_of_a_partition_takes_none_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """F50. It froze in the midst, and meanwhile another took all: what that one has open in one shard may hide from the
    reader what it has committed in another, and the late fence would let that be written twice."""
    broker, start = Broker(random.Random(1)), Writer.start

    async def fencing() -> None:
        thawed = asyncio.Event()

        async def late(self: Writer) -> None:
            if "watch" in self._id:
                await thawed.wait()
            await start(self)

        monkeypatch.setattr(Writer, "start", late)
        worker = alone(broker)
        worker.assign(1, [0])
        await asyncio.sleep(1.0)
        taken = {id: broker.fence(id) for id in tuple(broker.epochs)}
        assert len(taken) == len(worker.engine.stages) - 1
        thawed.set()
        await asyncio.sleep(5.0)
        assert worker.engine.carried == {} and worker.engine.fault is None
        assert broker.epochs == taken | {"simulated-watch-0": 0}
        worker.process.kill()

    run(fencing())


def test_a_restore_that_fails_has_nothing_under_way_that_fences_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """F50. Whoever revokes waits for what fences, and the first that fails is not the last."""
    fenced = []

    async def start(self: Writer) -> None:
        if "score" in self._id:
            raise KafkaError("refused")
        await asyncio.sleep(1.0)
        fenced.append(self._id)

    async def failing() -> None:
        worker = alone(Broker(random.Random(1)))
        with pytest.raises(KafkaError, match="refused"):
            await worker.restorer.bring_back(0)
        assert len(fenced) == len(worker.engine.stages) - 1
        assert worker.restorer.fencing.under_way == set()

    monkeypatch.setattr(Writer, "start", start)
    run(failing())


def alone(broker: Broker, seed: int = 1) -> Worker:
    """A worker of the first seed, without a group."""
    watch = SimpleNamespace(inspect=lambda stage, *_: stage, restored=lambda *_: None)
    return Worker("w1", plan(1).config, broker, random.Random(seed), 0.0, watch)


def run(scenario: Coroutine[Any, Any, None]) -> None:
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)
    try:
        with virtual(plan(1).bounds):
            loop.run_until_complete(loop.create_task(within_a_process(scenario)))
            loop.run_until_complete(asyncio.sleep(0.0))
    finally:
        asyncio.set_event_loop(None)
        loop.close()
    assert loop.faults == []


async def within_a_process(scenario: Coroutine[Any, Any, None]) -> None:
    await Process("the test", random.Random(1)).spawn(scenario)
