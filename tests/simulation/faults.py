"""What goes wrong in one run, and when: drawn from the seed before it begins.

Owns the faults; refuses to know what must hold in spite of them. Each acts on the world and names itself.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.simulation.workload import SPAN_S

if TYPE_CHECKING:
    from tests.simulation.worker import Worker
    from tests.simulation.world import World


class Fault(NamedTuple):
    """`what` is a name of FAULTS."""

    at: float
    what: str


def schedule(seed: int) -> list[Fault]:
    chance = random.Random(f"faults {seed}")
    count = chance.choice((2, 4, 8))
    names = chance.sample(sorted(FAULTS), chance.randint(2, len(FAULTS)))
    return sorted(Fault(chance.uniform(0.5, SPAN_S), chance.choice(names)) for _ in range(count))


def _victim(world: World) -> Worker | None:
    alive = [worker for worker in world.workers if worker.responsive]
    return world.chance.choice(alive) if alive else None


def crash(world: World) -> None:
    """At one of the next effects, whatever it is: a send, a commit, the moment after a commit, a read."""
    victim = _victim(world)
    if victim is not None:
        victim.process.crash_in = world.chance.randint(0, 120)


def freeze(world: World) -> None:
    """Beyond the session: others take over while the zombie believes it is the owner."""
    victim = _victim(world)
    if victim is not None:
        world.freeze(victim, world.chance.choice((1.0, 8.0, 12.0)))


def stop(world: World) -> None:
    victim = _victim(world)
    if victim is not None:
        world.stop(victim)


def join(world: World) -> None:
    if len(world.workers) < 4:
        world.start()


def storm(world: World) -> None:
    """The broker fails calls of producers for a while."""
    world.broker.failing = world.chance.choice((0.02, 0.1))
    world.later(world.chance.uniform(1.0, 3.0), world.clear_up)


def clock_jump(world: World) -> None:
    victim = _victim(world)
    if victim is not None:
        victim.process.clock_offset += world.chance.choice((-3600.0, -2.0, 2.0, 3600.0, 86_400.0))


def clock_pause(world: World) -> None:
    victim = _victim(world)
    if victim is not None:
        process = victim.process
        process.stopped_clock = None if process.stopped_clock is not None else process.wall()


def compact(world: World) -> None:
    for partition in range(world.partitions):
        world.journal(partition).compact()


def damage(world: World) -> None:
    """The newest whole state of some shard is spoiled, torn or stale on the disk, and its owner dies."""
    world.damage.strike(world.chance.choice(("flipped", "torn", "stale", "unsigned")))


def retention(world: World) -> None:
    """Inputs are deleted: what nobody needs, or what a successor of some shard would have to read."""
    world.damage.delete(needed=world.chance.random() < 0.5)


FAULTS: Final[dict[str, Callable[[World], None]]] = {
    "clock jump": clock_jump,
    "clock pause": clock_pause,
    "compact": compact,
    "crash": crash,
    "damage": damage,
    "freeze": freeze,
    "join": join,
    "retention": retention,
    "stop": stop,
    "storm": storm,
}
